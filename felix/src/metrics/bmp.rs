//! Monitoring stations.

use ocicat_bgp::speaker::{StationSnapshot, StationState};
use prometheus::{IntCounterVec, IntGaugeVec};

use super::{Maker, signed};

#[derive(Clone)]
pub(super) struct BmpMetrics {
    up: IntGaugeVec,
    messages: IntCounterVec,
    octets: IntCounterVec,
    waiting: IntGaugeVec,
    dumps: IntCounterVec,
    swamped: IntCounterVec,
}

impl BmpMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let station = &["station"];
        Self {
            up: make.gauges("ocicat_bmp_up", "1 when the BMP station is connected.", station),
            messages: make.counters(
                "ocicat_bmp_messages_total",
                "Messages sent to the BMP station.",
                station,
            ),
            octets: make.counters(
                "ocicat_bmp_octets_total",
                "Octets sent to the BMP station.",
                station,
            ),
            waiting: make.gauges(
                "ocicat_bmp_waiting",
                "Changes that the BMP station has yet to be told.",
                station,
            ),
            dumps: make.counters(
                "ocicat_bmp_resyncs_total",
                "How often the BMP station was told everything from the beginning.",
                station,
            ),
            swamped: make.counters(
                "ocicat_bmp_swamped_total",
                "How often the connection was given up because the BMP station was too far behind.",
                station,
            ),
        }
    }

    pub(super) fn set(&self, stations: &[StationSnapshot]) {
        self.up.reset();
        self.waiting.reset();
        for counter in [&self.messages, &self.octets, &self.dumps, &self.swamped] {
            counter.reset();
        }
        for station in stations {
            let name = station.address.to_string();
            let name = &[name.as_str()];
            let up = station.state != StationState::Down;
            self.up.with_label_values(name).set(i64::from(up));
            let waiting = u64::try_from(station.waiting).unwrap_or(u64::MAX);
            self.waiting.with_label_values(name).set(signed(waiting));
            self.messages.with_label_values(name).inc_by(station.messages);
            self.octets.with_label_values(name).inc_by(station.octets);
            self.dumps.with_label_values(name).inc_by(station.dumps);
            self.swamped.with_label_values(name).inc_by(station.swamped);
        }
    }
}
