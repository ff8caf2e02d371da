//! Numbers for Prometheus. One registry of our own; names are those of Calico's Felix where the meaning is the same, so
//! that dashboards keep working, and `ocicat_` elsewhere.

mod bmp;
mod rpki;

use ocicat_bgp::bfd::{SessionSnapshot, State as BfdState};
use ocicat_bgp::net::RefusedConnections;
use ocicat_bgp::speaker::{
    CacheSnapshot, PeerName, PeerSnapshot, State as SessionState, StationSnapshot,
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use bmp::BmpMetrics;
use rpki::RpkiMetrics;

use crate::config::PeerMetricsKind;
use crate::plan::peering::PeerGroup;

/// Every number that the daemon keeps.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// 1 when the node is ready.
    pub ready: IntGauge,
    /// Pods attached here.
    pub endpoints: IntGauge,
    /// Policies that select a pod of this node.
    pub active_policies: IntGauge,
    /// Policies of the cluster.
    pub policies: IntGauge,
    /// Things wrong with the input.
    pub problems: IntGauge,
    /// Chains in our table.
    pub chains: IntGauge,
    /// Rules in our table.
    pub rules: IntGauge,
    /// Sets in our table.
    pub sets: IntGauge,
    /// Verdict maps in our table.
    pub maps: IntGauge,
    /// Elements of sets and maps in our table.
    pub elements: IntGauge,
    /// Transactions sent.
    pub nft_transactions: IntCounter,
    /// Transactions refused, or of unknown outcome.
    pub nft_errors: IntCounter,
    /// Time the kernel took for a change.
    pub apply_seconds: Histogram,
    /// From the datastore's event until the kernel had what follows from it.
    pub event_to_applied_seconds: Histogram,
    /// From the plugin's request until the policy was in the kernel.
    pub add_to_enforced_seconds: Histogram,
    /// Routes by kind.
    pub routes: IntGaugeVec,
    /// Routes that could not be changed.
    pub route_failures: IntGauge,
    /// Next hops to which there is no way.
    pub unreachable_next_hops: IntGauge,
    /// Times that somebody else had changed what is ours.
    pub drift_repairs: IntCounter,
    /// Whether the node has taken leave of its peers: 0 no, 1 on the way, 2 yes.
    pub drained: IntGauge,
    refused: IntCounterVec,
    peers: PeerMetrics,
    bfd: BfdMetrics,
    bmp: BmpMetrics,
    rpki: RpkiMetrics,
}

#[derive(Clone)]
struct BfdMetrics {
    up: IntGaugeVec,
    down: IntCounterVec,
    packets: IntCounterVec,
    gap: IntGaugeVec,
}

/// How a peer is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// With metrics of its own, and with its group.
    Own,
    /// With its group alone.
    Together,
}

impl Detail {
    /// What was asked for, for a peer of this group.
    pub fn of(kind: PeerMetricsKind, group: PeerGroup) -> Self {
        match (kind, group) {
            (PeerMetricsKind::All, _) | (PeerMetricsKind::Configured, PeerGroup::Configured) => {
                Self::Own
            }
            (PeerMetricsKind::None, _) | (PeerMetricsKind::Configured, PeerGroup::Mesh) => {
                Self::Together
            }
        }
    }
}

#[derive(Clone)]
struct PeerMetrics {
    up: IntGaugeVec,
    state: IntGaugeVec,
    seconds: IntGaugeVec,
    flaps: IntCounterVec,
    last_error: IntGaugeVec,
    prefixes: IntGaugeVec,
    messages: IntCounterVec,
    faults: IntCounterVec,
    group_peers: IntGaugeVec,
    group_prefixes: IntGaugeVec,
    group_flaps: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let make = Maker { registry: Registry::new() };
        let built =
            make.gauges("ocicat_build_info", "Version of the running binary.", &["version"]);
        built.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            ready: make.gauge("ocicat_ready", "1 when the node's rules, routes and peers are set up."),
            endpoints: make
                .gauge("felix_active_local_endpoints", "Pods attached to this node."),
            active_policies: make
                .gauge("felix_active_local_policies", "Policies that select a pod of this node."),
            policies: make.gauge("felix_cluster_num_policies", "Policies of the cluster."),
            problems: make.gauge("ocicat_problems", "Things in the input that cannot be used or honoured."),
            chains: make.gauge("felix_nft_chains", "Chains in the table inet ocicat."),
            rules: make.gauge("felix_nft_rules", "Rules in the table inet ocicat."),
            sets: make.gauge("felix_nft_sets", "Sets in the table inet ocicat."),
            maps: make.gauge("felix_nft_maps", "Verdict maps in the table inet ocicat."),
            elements: make
                .gauge("ocicat_nft_elements", "Elements of sets and maps in the table inet ocicat."),
            nft_transactions: make
                .counter("felix_nft_calls", "Transactions sent to nf_tables."),
            nft_errors: make.counter("felix_nft_errors", "Transactions that nf_tables did not take."),
            apply_seconds: make.histogram(
                "felix_int_dataplane_apply_time_seconds",
                "Time the kernel took for one change.",
            ),
            event_to_applied_seconds: make.histogram(
                "ocicat_event_to_applied_seconds",
                "From an event of the datastore until the kernel had what follows from it.",
            ),
            add_to_enforced_seconds: make.histogram(
                "ocicat_add_to_enforced_seconds",
                "From the CNI plugin's request until the pod's policy was in the kernel.",
            ),
            routes: make.gauges("ocicat_routes", "Routes of ours in the kernel, by kind.", &["kind"]),
            route_failures: make.gauge("ocicat_route_failures", "Routes that could not be changed."),
            unreachable_next_hops: make.gauge(
                "ocicat_unreachable_next_hops",
                "Next hops to which the kernel has no way; routes by them are not used.",
            ),
            drift_repairs: make.counter(
                "ocicat_drift_repairs_total",
                "Times that somebody else had changed our table or routes, and we changed them back.",
            ),
            drained: make.gauge(
                "ocicat_bgp_drained",
                "0 when peers are told our routes, 1 while they are asked to choose others, 2 when they are told none.",
            ),
            refused: make.counters(
                "ocicat_bgp_refused_connections_total",
                "BGP connections that were refused: from no peer (unknown), from a range that is full (full), from a peer that is not to connect, or not now (not-now).",
                &["reason"],
            ),
            peers: PeerMetrics::new(&make),
            bfd: BfdMetrics::new(&make),
            bmp: BmpMetrics::new(&make),
            rpki: RpkiMetrics::new(&make),
            registry: make.registry,
        }
    }
}

impl Metrics {
    /// Takes in the state of every peer; peers that are not there any more vanish. `group_of` says how each is counted.
    pub fn set_peers(
        &self,
        peers: &[PeerSnapshot],
        group_of: impl Fn(&PeerName) -> (PeerGroup, Detail),
    ) {
        self.peers.set(peers, group_of);
    }

    /// Takes in how many connections were refused.
    pub fn set_refused(&self, refused: RefusedConnections) {
        let RefusedConnections { unknown, full, not_now } = refused;
        self.refused.reset();
        for (reason, count) in [("unknown", unknown), ("full", full), ("not-now", not_now)] {
            self.refused.with_label_values(&[reason]).inc_by(count);
        }
    }

    /// Takes in the state of every BFD session.
    pub fn set_bfd(&self, sessions: &[SessionSnapshot]) {
        self.bfd.set(sessions);
    }

    /// Takes in the state of every monitoring station.
    pub fn set_stations(&self, stations: &[StationSnapshot]) {
        self.bmp.set(stations);
    }

    /// Takes in the state of every cache of the RPKI.
    pub fn set_caches(&self, caches: &[CacheSnapshot]) {
        self.rpki.set(caches);
    }

    /// The text form that Prometheus reads.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory fails for a metric without a sample alone, and such a family is not gathered.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl PeerMetrics {
    fn new(make: &Maker) -> Self {
        Self {
            up: make.gauges("ocicat_bgp_session_up", "1 when the session is established.", &["peer"]),
            state: make.gauges(
                "ocicat_bgp_session_state",
                "State of the session: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.",
                &["peer"],
            ),
            seconds: make.gauges(
                "ocicat_bgp_session_state_seconds",
                "How long the session has been in its state.",
                &["peer"],
            ),
            flaps: make.counters(
                "ocicat_bgp_session_flaps_total",
                "How often an established session was lost.",
                &["peer"],
            ),
            last_error: make.gauges(
                "ocicat_bgp_session_last_error",
                "1; why the last session or attempt ended is in the label.",
                &["peer", "reason"],
            ),
            prefixes: make.gauges(
                "ocicat_bgp_prefixes",
                "Prefixes received, accepted, stale and advertised.",
                &["peer", "family", "kind"],
            ),
            messages: make.counters(
                "ocicat_bgp_messages_total",
                "Messages sent and received, by type.",
                &["peer", "direction", "type"],
            ),
            faults: make.counters(
                "ocicat_bgp_update_faults_total",
                "UPDATEs with an error that cost their routes or an attribute, and not the session.",
                &["peer"],
            ),
            group_peers: make.gauges(
                "ocicat_bgp_peers",
                "Peers by group (configured, mesh) and state of their session.",
                &["group", "state"],
            ),
            group_prefixes: make.gauges(
                "ocicat_bgp_group_prefixes",
                "Prefixes received, accepted, stale and advertised, of all peers of a group together.",
                &["group", "family", "kind"],
            ),
            group_flaps: make.counters(
                "ocicat_bgp_group_flaps_total",
                "How often established sessions of a group were lost.",
                &["group"],
            ),
        }
    }

    fn set(&self, peers: &[PeerSnapshot], group_of: impl Fn(&PeerName) -> (PeerGroup, Detail)) {
        let of_peers = [&self.up, &self.state, &self.seconds, &self.last_error, &self.prefixes];
        for gauges in of_peers.into_iter().chain([&self.group_peers, &self.group_prefixes]) {
            gauges.reset();
        }
        for counters in [&self.flaps, &self.messages, &self.faults, &self.group_flaps] {
            counters.reset();
        }
        for peer in peers {
            let (group, detail) = group_of(&peer.name);
            self.count_in_group(peer, group);
            match detail {
                Detail::Own => self.set_peer(peer),
                Detail::Together => {}
            }
        }
    }

    fn set_peer(&self, peer: &PeerSnapshot) {
        let name = peer.name.as_str();
        let up = peer.state == SessionState::Established;
        self.up.with_label_values(&[name]).set(i64::from(up));
        self.state.with_label_values(&[name]).set(peer.state as i64 + 1);
        self.seconds.with_label_values(&[name]).set(signed(peer.since.as_secs()));
        self.flaps.with_label_values(&[name]).inc_by(peer.flaps);
        self.faults.with_label_values(&[name]).inc_by(peer.faults);
        if let Some(reason) = &peer.last_error {
            self.last_error.with_label_values(&[name, &reason.text]).set(1);
        }
        for (family, kind, count) in prefixes(peer) {
            self.prefixes.with_label_values(&[name, family, kind]).set(count);
        }
        self.set_messages(peer);
    }

    fn count_in_group(&self, peer: &PeerSnapshot, group: PeerGroup) {
        let group = match group {
            PeerGroup::Configured => "configured",
            PeerGroup::Mesh => "mesh",
        };
        self.group_peers.with_label_values(&[group, &peer.state.to_string()]).inc();
        self.group_flaps.with_label_values(&[group]).inc_by(peer.flaps);
        for (family, kind, count) in prefixes(peer) {
            self.group_prefixes.with_label_values(&[group, family, kind]).add(count);
        }
    }

    fn set_messages(&self, peer: &PeerSnapshot) {
        for (direction, counts) in [("received", &peer.received), ("sent", &peer.sent)] {
            for (kind, count) in [
                ("open", counts.open),
                ("update", counts.update),
                ("notification", counts.notification),
                ("keepalive", counts.keepalive),
                ("route-refresh", counts.route_refresh),
            ] {
                let labels = [peer.name.as_str(), direction, kind];
                self.messages.with_label_values(&labels).inc_by(count);
            }
        }
    }
}

/// Family, kind and number of a peer's prefixes.
fn prefixes(peer: &PeerSnapshot) -> impl Iterator<Item = (&'static str, &'static str, i64)> {
    peer.families.iter().flat_map(|family| {
        let name = crate::tables::family_name(family.family);
        [
            (name, "received", signed(family.received)),
            (name, "accepted", signed(family.accepted)),
            (name, "stale", signed(family.stale)),
            (name, "advertised", signed(family.advertised)),
        ]
    })
}

impl BfdMetrics {
    fn new(make: &Maker) -> Self {
        Self {
            up: make.gauges(
                "ocicat_bfd_session_up",
                "1 when BFD says that the path forwards.",
                &["peer"],
            ),
            down: make.counters(
                "ocicat_bfd_session_down_total",
                "How often the path failed while the BFD session was up, by who noticed: we, by \
                 silence for the detection time, or the peer, which said so.",
                &["peer", "noticed"],
            ),
            packets: make.counters(
                "ocicat_bfd_packets_total",
                "BFD packets sent, received and discarded (wrong TTL, interface or address).",
                &["peer", "kind"],
            ),
            gap: make.gauges(
                "ocicat_bfd_longest_gap_microseconds",
                "The longest silence of the peer since its BFD session came up.",
                &["peer"],
            ),
        }
    }

    fn set(&self, sessions: &[SessionSnapshot]) {
        self.up.reset();
        self.gap.reset();
        self.down.reset();
        self.packets.reset();
        for session in sessions {
            let name = session.name.as_str();
            let up = session.state == BfdState::Up;
            self.up.with_label_values(&[name]).set(i64::from(up));
            let failures = session.failures;
            for (noticed, count) in [("here", failures.expired), ("peer", failures.peer_down)] {
                self.down.with_label_values(&[name, noticed]).inc_by(count);
            }
            let gap = u64::try_from(session.longest_gap.as_micros()).unwrap_or(u64::MAX);
            self.gap.with_label_values(&[name]).set(signed(gap));
            for (kind, count) in [
                ("sent", session.sent),
                ("received", session.received),
                ("discarded", session.discarded),
            ] {
                self.packets.with_label_values(&[name, kind]).inc_by(count);
            }
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Makes metrics and registers them.
struct Maker {
    registry: Registry,
}

const LITERAL: &str = "names and labels are literals of this file";

impl Maker {
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect(LITERAL);
        self.registry.register(Box::new(gauge.clone())).expect(LITERAL);
        gauge
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect(LITERAL);
        self.registry.register(Box::new(gauges.clone())).expect(LITERAL);
        gauges
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(LITERAL);
        self.registry.register(Box::new(counters.clone())).expect(LITERAL);
        counters
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect(LITERAL);
        self.registry.register(Box::new(counter.clone())).expect(LITERAL);
        counter
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        let buckets = vec![
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            2.5, 5.0, 10.0,
        ];
        let options = HistogramOpts::new(name, help).buckets(buckets);
        let histogram = Histogram::with_opts(options).expect(LITERAL);
        self.registry.register(Box::new(histogram.clone())).expect(LITERAL);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connections_are_counted_by_reason() {
        let metrics = Metrics::default();
        metrics.set_refused(RefusedConnections { unknown: 3, full: 0, not_now: 1 });
        let page = String::from_utf8(metrics.render()).unwrap();
        let line = |reason, count| {
            format!("ocicat_bgp_refused_connections_total{{reason=\"{reason}\"}} {count}\n")
        };
        for (reason, count) in [("unknown", 3), ("full", 0), ("not-now", 1)] {
            assert!(page.contains(&line(reason, count)), "{page}");
        }
    }
}
