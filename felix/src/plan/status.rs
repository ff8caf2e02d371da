//! What a CalicoNodeStatus is to say of this node, and whether that is worth a write. Pure.
//!
//! A write costs the API server an event for everybody who watches the kind. So what changes all the time by itself is
//! no news: when the status was written, and at which of its attempts a session that does not stand is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use ocicat_bgp::speaker::{PeerName, PeerSnapshot, State};
use ocicat_bgp::wire::Family;

use crate::datastore::calico::status::{
    AgentStatus, BgpStatus, CalicoNodeStatusSpec, Class, NodeStatus, PeerStatus, RouteStatus,
    RoutesStatus, Source, SpeakerStatus,
};
use crate::plan::peering::{Abouts, Nodes, PeerGroup};
use crate::plan::routes::{Leg, LegOrigin};

/// So many peers of a family are listed at most, those without a session first. They are counted in any case.
pub const PEERS_MAX: usize = 500;
/// So many legs of routes of a family are listed at most.
pub const ROUTES_MAX: usize = 256;

/// As Calico has it where nothing is said.
const DEFAULT_PERIOD: Duration = Duration::from_secs(10);
/// Calico's longest.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// By so much the beginning of a state may differ between two readings of the clock.
const SAME_TIME_SECONDS: i64 = 2;

/// The speaker itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Whether it does all that it should.
    pub ready: bool,
    /// When it started.
    pub booted: Timestamp,
    /// When its configuration last changed.
    pub configured: Option<Timestamp>,
    /// Its BGP Identifier.
    pub router_id: Option<Ipv4Addr>,
    /// The families that the node has an address of.
    pub families: Vec<Family>,
}

/// A leg of a route, and whether the kernel has the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLeg {
    /// The leg.
    pub leg: Leg,
    /// Whether the kernel has it.
    pub in_kernel: bool,
}

/// What is known of the node.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// The speaker itself.
    pub agent: &'a AgentFacts,
    /// Its peers.
    pub peers: &'a [PeerSnapshot],
    /// What the speaker does not know of them.
    pub about: &'a Abouts,
    /// Routes, at most one more than [`ROUTES_MAX`] of each family.
    pub legs: &'a [KnownLeg],
}

/// At most how often the status is written; `None`: not at all.
pub fn period(spec: &CalicoNodeStatusSpec) -> Option<Duration> {
    let period = match spec.update_period_seconds {
        None => DEFAULT_PERIOD,
        Some(seconds) => Duration::from_secs(seconds.into()).min(LONGEST_PERIOD),
    };
    (!period.is_zero()).then_some(period)
}

/// The status as it should be. `stored` is what the API server has.
pub fn status(classes: &[Class], facts: &Facts<'_>, stored: Option<&NodeStatus>) -> NodeStatus {
    let wanted = |class| classes.contains(&class);
    let before = stored.and_then(|stored| stored.bgp.as_ref());
    NodeStatus {
        last_updated: Some(text(facts.now)),
        agent: wanted(Class::Agent).then(|| agent(facts.agent)),
        bgp: wanted(Class::Bgp).then(|| bgp(facts, before)),
        routes: wanted(Class::Routes).then(|| routes(facts)),
    }
}

/// Whether a status says something that the stored one does not.
pub fn is_news(status: &NodeStatus, stored: Option<&NodeStatus>) -> bool {
    stored.is_none_or(|stored| essence(status) != essence(stored))
}

/// The status without what changes by itself.
fn essence(status: &NodeStatus) -> NodeStatus {
    let mut status = NodeStatus { last_updated: None, ..status.clone() };
    let peers = status.bgp.iter_mut().flat_map(|bgp| bgp.ipv4.iter_mut().chain(&mut bgp.ipv6));
    for peer in peers.filter(|peer| peer.state != State::Established.to_string()) {
        (peer.state, peer.since) = (String::new(), String::new());
    }
    status
}

fn agent(facts: &AgentFacts) -> AgentStatus {
    let speaker = |family| {
        facts.families.contains(&family).then(|| SpeakerStatus {
            state: if facts.ready { "Ready" } else { "NotReady" }.to_owned(),
            version: concat!("ocicat ", env!("CARGO_PKG_VERSION")).to_owned(),
            last_boot_time: text(facts.booted),
            last_reconfiguration_time: facts.configured.map(text),
            router_id: facts.router_id.map(|id| id.to_string()),
        })
    };
    AgentStatus { ipv4: speaker(Family::Ipv4), ipv6: speaker(Family::Ipv6) }
}

fn bgp(facts: &Facts<'_>, before: Option<&BgpStatus>) -> BgpStatus {
    let of = |is_ipv4: bool| {
        let peers = facts.peers.iter().filter(move |peer| peer.address.is_ipv4() == is_ipv4);
        let (up, down): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.state == State::Established);
        let before = before.map(|before| if is_ipv4 { &before.ipv4 } else { &before.ipv6 });
        let before: BTreeMap<&str, &PeerStatus> =
            before.into_iter().flatten().map(|peer| (peer.address.as_str(), peer)).collect();
        let mut listed = Vec::new();
        for mut group in [down.clone(), up.clone()] {
            group.sort_by(|a, b| a.name.cmp(&b.name));
            listed.extend(group.into_iter().map(|peer| peer_status(peer, facts, &before)));
        }
        listed.truncate(PEERS_MAX);
        (up.len(), down.len(), listed)
    };
    let (established_ipv4, not_established_ipv4, ipv4) = of(true);
    let (established_ipv6, not_established_ipv6, ipv6) = of(false);
    BgpStatus {
        established_ipv4,
        not_established_ipv4,
        established_ipv6,
        not_established_ipv6,
        ipv4,
        ipv6,
    }
}

fn peer_status(
    peer: &PeerSnapshot,
    facts: &Facts<'_>,
    before: &BTreeMap<&str, &PeerStatus>,
) -> PeerStatus {
    let about = facts.about.get(&peer.name);
    let kind = match about.map(|about| (about.group, about.nodes)) {
        Some((PeerGroup::Mesh, _)) => "NodeMesh",
        Some((PeerGroup::Configured, Nodes::All)) => "GlobalPeer",
        Some((PeerGroup::Configured, Nodes::Selected)) | None => "NodePeer",
    };
    let age = i64::try_from(peer.since.as_millis()).unwrap_or(i64::MAX);
    let since = facts.now.as_millisecond().saturating_sub(age).div_euclid(1000);
    let address = crate::tables::bgp::found_text(peer);
    let mut status = PeerStatus {
        kind: kind.to_owned(),
        state: peer.state.to_string(),
        since: text(Timestamp::from_second(since).unwrap_or(facts.now)),
        address,
    };
    // Two readings of two clocks never agree to the second.
    let earlier = before.get(status.address.as_str()).filter(|earlier| {
        let at = earlier.since.parse::<Timestamp>().map(Timestamp::as_second);
        earlier.state == status.state
            && at.is_ok_and(|at| at.abs_diff(since) <= SAME_TIME_SECONDS.unsigned_abs())
    });
    if let Some(earlier) = earlier {
        status.since.clone_from(&earlier.since);
    }
    status
}

fn routes(facts: &Facts<'_>) -> RoutesStatus {
    let addresses: BTreeMap<&PeerName, IpAddr> =
        facts.peers.iter().map(|peer| (&peer.name, peer.address)).collect();
    let of = |is_ipv4: bool| {
        let legs =
            facts.legs.iter().filter(|known| known.leg.destination.addr().is_ipv4() == is_ipv4);
        legs.take(ROUTES_MAX).map(|known| route_status(known, facts.about, &addresses)).collect()
    };
    RoutesStatus { ipv4: of(true), ipv6: of(false) }
}

fn route_status(
    known: &KnownLeg,
    about: &Abouts,
    addresses: &BTreeMap<&PeerName, IpAddr>,
) -> RouteStatus {
    let (source_type, peer) = match &known.leg.origin {
        LegOrigin::Pod => ("Direct", None),
        LegOrigin::Configured => ("Static", None),
        LegOrigin::EarlierLife => ("Kernel", None),
        LegOrigin::Peer(name) => match about.get(name).map(|about| about.group) {
            Some(PeerGroup::Mesh) => ("NodeMesh", Some(name)),
            Some(PeerGroup::Configured) | None => ("BGPPeer", Some(name)),
        },
    };
    let peer_ip = peer.and_then(|name| addresses.get(name)).map(ToString::to_string);
    RouteStatus {
        kind: if known.in_kernel { "FIB" } else { "RIB" }.to_owned(),
        destination: known.leg.destination.to_string(),
        gateway: known.leg.gateway.map(|gateway| gateway.to_string()),
        interface: known.leg.interface.as_ref().map(ToString::to_string),
        learned_from: Source { source_type: source_type.to_owned(), peer_ip },
    }
}

/// In whole seconds, as Kubernetes writes times.
fn text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests;
