//! Whom the speaker talks to: Calico's BGPConfiguration, BGPPeer and BGPFilter, and the nodes, as a
//! [`Config`](ocicat_bgp::Config).
//!
//! Field names and meaning are Calico's: what a configured peer tells us is accepted, it hears of our own prefixes alone,
//! and filters change both. What is configured and cannot be honoured is a problem, never silence.

mod filter;
mod peer;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ocicat_bgp::speaker::{
    Chosen, Config, Dial, GracefulRestart, Multipath, Originated, PeerConfig, PeerName,
    PeerRestart, Start,
};

use crate::problem::Problem;
use crate::world::{Node, World};
use settings::Settings;

/// The speaker's configuration, and what was wrong with its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Peering {
    /// `None` while our own Node object is not known.
    pub config: Option<Config>,
    /// What could not be used or honoured.
    pub problems: Vec<Problem>,
}

/// Works out the configuration of the speaker on our node.
///
/// `start` says whether routes of an earlier life are still in the kernel.
pub fn plan(world: &World, start: Start) -> Peering {
    let mut problems = Vec::new();
    let Some(own) = world.own_node() else { return Peering { config: None, problems } };
    let settings = Settings::read(world, &mut problems);
    let local_as = settings.as_number_of(own);
    let mut peers = BTreeMap::new();
    if settings.mesh && own.cluster_id.is_none() {
        mesh(world, own, &settings, &mut peers);
    }
    peer::configured(world, own, &settings, &mut peers, &mut problems);
    let config = Config {
        local_as,
        router_id: router_id(own),
        listen: settings.listen(own),
        own_ipv4: own.ipv4,
        own_ipv6: own.ipv6,
        peers,
        multipath: Multipath::default(),
        graceful_restart: GracefulRestart { start, ..GracefulRestart::default() },
        cluster_id: own.cluster_id,
        originated: originated(world, own, &settings),
        chosen: Chosen::Told,
    };
    Peering { config: Some(config), problems }
}

/// A node without IPv4 has an identifier that follows from its name (RFC 6286: any 32 bits but zero).
fn router_id(node: &Node) -> Ipv4Addr {
    node.ipv4.unwrap_or_else(|| {
        let hash = node
            .name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Ipv4Addr::from(hash.max(1))
    })
}

/// Every node with every other, except route reflectors.
fn mesh(
    world: &World,
    own: &Node,
    settings: &Settings,
    peers: &mut BTreeMap<PeerName, PeerConfig>,
) {
    let others = world.nodes.values().filter(|node| node.name != own.name);
    for node in others.filter(|node| node.cluster_id.is_none()) {
        let Some((source, address)) = common_addresses(own, node) else { continue };
        let mut peer = PeerConfig::new(address, settings.as_number_of(node));
        peer.port = settings.listen_port;
        peer.source = Some(source);
        peer.dial = dial(source, address);
        peer.ttl = peer::multihop();
        peer.password = settings.mesh_password.clone();
        peer.graceful_restart = settings.mesh_restart;
        peers.insert(PeerName::from(format!("mesh-{}", node.name)), peer);
    }
}

/// One end of a pair of nodes dials, so that a restarting node is not met half-way by its own peer, whose connection
/// would end the graceful restart. Calico compares addresses as text; nodes of a cluster in the middle of a migration must
/// agree with it.
fn dial(own: IpAddr, peer: IpAddr) -> Dial {
    if peer.to_string() > own.to_string() { Dial::Passive } else { Dial::Both }
}

/// Our address and theirs, of the first family that both have.
fn common_addresses(own: &Node, other: &Node) -> Option<(IpAddr, IpAddr)> {
    let ipv4 = own.ipv4.zip(other.ipv4).map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b)));
    ipv4.or_else(|| own.ipv6.zip(other.ipv6).map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b))))
}

/// What we tell the world: the ranges of our pods, unless their pool is not to be told.
fn originated(
    world: &World,
    own: &Node,
    settings: &Settings,
) -> BTreeMap<ocicat_bgp::wire::Prefix, Originated> {
    let hidden: Vec<ipnet::IpNet> = world
        .ip_pools
        .values()
        .filter(|pool| pool.disable_bgp_export)
        .filter_map(|pool| pool.cidr.parse().ok())
        .collect();
    let told = own.pod_cidrs.iter().filter(|cidr| !hidden.iter().any(|pool| pool.contains(*cidr)));
    told.map(|cidr| (ocicat_bgp::wire::Prefix::from(*cidr), settings.communities_of(*cidr)))
        .collect()
}

/// `120s`, `2m`, `1m30s`: a duration as Kubernetes writes it, in whole seconds.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 90s or 2m");
    let mut seconds = 0_u64;
    let mut number = String::new();
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: u64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        seconds =
            count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
    }
    if text.is_empty() || !number.is_empty() {
        return Err(wrong());
    }
    Ok(std::time::Duration::from_secs(seconds))
}

/// Graceful restart with a time that the user gave.
fn restart_time(text: &str) -> Result<PeerRestart, String> {
    let time = duration(text)?;
    // RFC 4724 §3: twelve bits.
    if time.as_secs() > 4095 {
        return Err(format!("{text:?} is longer than 4095 s, the most that RFC 4724 can say"));
    }
    let PeerRestart::Enabled { stale, .. } = PeerRestart::default() else {
        return Ok(PeerRestart::Disabled);
    };
    Ok(PeerRestart::Enabled { time, stale })
}

#[cfg(test)]
mod tests;
