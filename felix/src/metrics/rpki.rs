//! Caches of the RPKI.

use ocicat_bgp::rpki::Stage;
use ocicat_bgp::speaker::CacheSnapshot;
use ocicat_bgp::wire::Family;
use prometheus::{IntCounterVec, IntGaugeVec};

use super::{Maker, signed};
use crate::tables::family_name;

#[derive(Clone)]
pub(super) struct RpkiMetrics {
    up: IntGaugeVec,
    records: IntGaugeVec,
    serial: IntGaugeVec,
    age: IntGaugeVec,
    answers: IntCounterVec,
}

impl RpkiMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let cache = &["cache"];
        Self {
            up: make.gauges("ocicat_rpki_up", "1 when the RPKI cache is connected.", cache),
            records: make.gauges(
                "ocicat_rpki_records",
                "Validated ROA payloads of the RPKI cache that count.",
                &["cache", "family"],
            ),
            serial: make.gauges(
                "ocicat_rpki_serial",
                "The number of the RPKI cache's data that count.",
                cache,
            ),
            age: make.gauges(
                "ocicat_rpki_age_seconds",
                "Time since the RPKI cache last told that there is nothing else.",
                cache,
            ),
            answers: make.counters(
                "ocicat_rpki_answers_total",
                "Complete answers of the RPKI cache.",
                cache,
            ),
        }
    }

    pub(super) fn set(&self, caches: &[CacheSnapshot]) {
        for gauge in [&self.up, &self.records, &self.serial, &self.age] {
            gauge.reset();
        }
        self.answers.reset();
        for cache in caches {
            let address = cache.address.to_string();
            let name = &[address.as_str()];
            self.up.with_label_values(name).set(i64::from(cache.stage != Stage::Down));
            for family in Family::ALL {
                let records = u64::try_from(cache.records[family.index()]).unwrap_or(u64::MAX);
                let labels = [address.as_str(), family_name(family)];
                self.records.with_label_values(&labels).set(signed(records));
            }
            if let Some((_, serial)) = cache.session_and_serial {
                self.serial.with_label_values(name).set(i64::from(serial));
            }
            if let Some(age) = cache.age {
                self.age.with_label_values(name).set(signed(age.as_secs()));
            }
            self.answers.with_label_values(name).inc_by(cache.answers);
        }
    }
}
