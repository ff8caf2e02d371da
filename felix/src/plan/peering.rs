//! Whom the speaker talks to: Calico's BGPConfiguration, BGPPeer and BGPFilter, and the nodes, as a
//! [`Config`].
//!
//! Field names and meaning are Calico's: what a configured peer tells us is accepted, it hears of our own prefixes alone,
//! and filters change both. What is configured and cannot be honoured is a problem, never silence.

mod about;
mod annotations;
mod bfd;
mod bmp;
mod candidate;
mod confederation;
mod draft;
mod drain;
mod filter;
mod log;
mod password;
mod peer;
mod rpki;
mod services;
mod settings;
mod tcp_ao;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use ocicat_bgp::speaker::{
    Chosen, Config, Dial, GracefulRestart, Introduction, Originated, PeerConfig, PeerName,
    PeerRestart, Start,
};
use ocicat_bgp::wire::Family;

use crate::datastore::calico::ProgramClusterRoutes;
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Node, World};
pub use about::{About, Abouts, Nodes, PeerGroup, RuleOrigins, range_of};
pub use bmp::names as table_names;
use candidate::{Candidate, Claim};
use draft::Draft;
pub use drain::{Departure, depart};
pub use log::LogLevel;
use settings::Settings;
pub use workload::Workloads;

/// The speaker's configuration, and what was wrong with its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Peering {
    /// `None` while our own Node object is not known.
    pub config: Option<Config>,
    /// What the speaker does not know of its peers.
    pub about: Abouts,
    /// Names of the Secrets that passwords are looked for in.
    pub secrets: BTreeSet<String>,
    /// What the routes of this node follow beside what peers tell.
    pub routing: Routing,
    /// The interfaces of pods of this node that are peers, and the addresses at which these find the node.
    pub workloads: Workloads,
    /// How much the speaker is to log; `None`: as the daemon.
    pub log: Option<LogLevel>,
    /// What could not be used or honoured.
    pub problems: Vec<Problem>,
}

/// What peers' configuration says of routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// Peers that are reached by a gateway, whatever else is said of them.
    pub gateways: BTreeMap<IpAddr, IpAddr>,
    /// Ranges of which nothing learned is put into the kernel.
    pub unprogrammed: Vec<IpNet>,
}

/// Works out the configuration of the speaker on our node.
///
/// `start` says whether routes of an earlier life are still in the kernel.
pub fn plan(world: &World, start: Start) -> Peering {
    let mut draft = Draft::default();
    let Some(own) = world.own_node() else { return draft.finish(None, None, Routing::default()) };
    let settings = Settings::read(world, &mut draft.problems);
    if settings.mesh && own.cluster_id.is_none() {
        mesh(world, own, &settings, &mut draft);
    }
    peer::configured(world, own, &settings, &mut draft);
    draft.choose();
    let config = Config {
        local_as: settings.as_number_of(own),
        confederation: settings.speaker.confederation.clone(),
        ranges: std::mem::take(&mut draft.ranges),
        router_id: router_id(own),
        listen: settings.listen(own),
        listen_ahead: settings.listen_ahead(own, &draft.workloads),
        own_ipv4: own.ipv4,
        own_ipv6: own.ipv6,
        peers: std::mem::take(&mut draft.peers),
        multipath: settings.speaker.multipath,
        graceful_restart: GracefulRestart { start, ..GracefulRestart::default() },
        cluster_id: own.cluster_id,
        originated: originated(world, own, &settings),
        aggregates: settings.speaker.aggregates.clone(),
        monitoring: bmp::monitoring(own, &settings.speaker.stations),
        introduction: introduction(own),
        caches: settings.speaker.caches.clone(),
        chosen: Chosen::Told,
    };
    let routing = Routing {
        gateways: std::mem::take(&mut draft.gateways),
        unprogrammed: unprogrammed(world, settings.program),
    };
    draft.finish(Some(config), settings.log, routing)
}

/// What routers may show beside a session with us.
fn introduction(own: &Node) -> Introduction {
    let software = concat!("ocicat/", env!("CARGO_PKG_VERSION"));
    Introduction { hostname: Some(own.name.as_str().into()), software: Some(software.into()) }
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
fn mesh(world: &World, own: &Node, settings: &Settings, draft: &mut Draft) {
    let key = Key::cluster(Kind::BgpConfiguration, "default");
    let others: Vec<_> = world
        .nodes
        .values()
        .filter(|node| node.name != own.name && node.cluster_id.is_none())
        .flat_map(|node| Pair::all(own, node).into_iter().map(move |pair| (node, pair)))
        .collect();
    if others.is_empty() {
        return;
    }
    let field = "spec.nodeMeshPassword.secretKeyRef";
    let found = draft.password(world, &key, field, settings.mesh_password.as_ref());
    for (node, pair) in others {
        let peer = settings.mesh_peer(pair.other, node);
        let Some(mut peer) = pair.alone(pair.between(peer)) else { continue };
        peer.password = found.password.clone();
        let about = About {
            origin: "the mesh of nodes".to_owned(),
            group: PeerGroup::Mesh,
            nodes: Nodes::All,
            held: found.held.clone().or_else(|| tcp_ao::held(&peer)),
            rules: Arc::default(),
        };
        draft.candidates.push(Candidate {
            name: PeerName::from(pair.name("mesh", node)),
            peer,
            about,
            gateway: None,
            claim: Claim::Mesh,
            said_by: (key.clone(), "spec.nodeToNodeMeshEnabled".to_owned()),
        });
    }
}

/// One end of a pair of nodes dials, so that a restarting node is not met half-way by its own peer, whose connection
/// would end the graceful restart. Calico compares addresses as text; nodes of a cluster in the middle of a migration must
/// agree with it.
fn dial(own: IpAddr, peer: IpAddr) -> Dial {
    if peer.to_string() > own.to_string() { Dial::Passive } else { Dial::Both }
}

/// A session between two nodes. As in Calico, whose daemons know one family each, there is one for each family that both
/// nodes have addresses of, and it carries that family alone.
struct Pair {
    own: IpAddr,
    other: IpAddr,
    family: Family,
}

impl Pair {
    fn all(own: &Node, other: &Node) -> Vec<Self> {
        let ipv4 = own.ipv4.zip(other.ipv4).map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b)));
        let ipv6 = own.ipv6.zip(other.ipv6).map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b)));
        let pairs = ipv4.map(|pair| (pair, Family::Ipv4)).into_iter();
        pairs
            .chain(ipv6.map(|pair| (pair, Family::Ipv6)))
            .map(|((own, other), family)| Self { own, other, family })
            .collect()
    }

    /// What the session is called: `start`, the other node, and which of two it is.
    fn name(&self, start: &str, other: &Node) -> String {
        let family = match self.family {
            Family::Ipv4 => "",
            Family::Ipv6 => "-ipv6",
        };
        format!("{start}-{}{family}", other.name)
    }

    /// A peer with what follows from both ends.
    fn between(&self, peer: PeerConfig) -> PeerConfig {
        PeerConfig { source: Some(self.own), dial: dial(self.own, self.other), ..peer }
    }

    /// A peer whose annotations were read, with the family of the pair alone; `None` where they leave that out.
    fn alone(&self, peer: PeerConfig) -> Option<PeerConfig> {
        let families = peer.families.intersection([self.family].into_iter().collect());
        (!families.is_empty()).then_some(PeerConfig { families, ..peer })
    }
}

/// Whether what we tell depends on Services.
pub fn asks_for_services(world: &World) -> bool {
    Settings::read(world, &mut Vec::new()).services.are_any()
}

/// What we tell the world: the ranges of our pods, unless their pool is not to be told, and of Services what is asked for.
fn originated(
    world: &World,
    own: &Node,
    settings: &Settings,
) -> BTreeMap<ocicat_bgp::wire::Prefix, Originated> {
    let hidden: Vec<IpNet> = world
        .ip_pools
        .values()
        .filter(|pool| pool.disable_bgp_export)
        .filter_map(|pool| pool.cidr.parse().ok())
        .collect();
    let told = own.pod_cidrs.iter().filter(|cidr| !hidden.iter().any(|pool| pool.contains(*cidr)));
    let told = told.copied().chain(settings.services.told(world, own));
    told.map(|cidr| (ocicat_bgp::wire::Prefix::from(cidr), settings.originated(cidr))).collect()
}

/// The pools whose routes somebody else is to program. Pools with VXLAN are not a matter of BGP.
fn unprogrammed(world: &World, program: Option<ProgramClusterRoutes>) -> Vec<IpNet> {
    let is_on = |mode: &Option<String>| {
        mode.as_deref().is_some_and(|mode| mode != "Never" && !mode.is_empty())
    };
    let pools = world.ip_pools.values().filter(|pool| !is_on(&pool.vxlan_mode));
    let left_out = pools.filter(|pool| match program {
        // There is nobody else on this node who would program the routes of IPIP pools.
        None | Some(ProgramClusterRoutes::Enabled | ProgramClusterRoutes::EnabledNoEncapOnly) => {
            false
        }
        Some(ProgramClusterRoutes::Disabled) => true,
        Some(ProgramClusterRoutes::EnabledIpipOnly) => !is_on(&pool.ipip_mode),
    });
    left_out.filter_map(|pool| pool.cidr.parse().ok()).collect()
}

/// `192.0.2.1:5000`, or `[2001:db8::1]:5000`: something to connect to. `text` is what the word stands in.
fn endpoint(word: &str, text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = word.parse().map_err(|_| {
        format!("{word:?} in {text:?} is not an address with a port, like 192.0.2.1:5000 or [2001:db8::1]:5000")
    })?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!("{word:?} in {text:?} is nothing to connect to"));
    }
    Ok(address)
}

/// `120s`, `2m`, `1m30s`: a duration as Kubernetes writes it, in whole seconds.
///
/// # Errors
/// A sentence that quotes the text.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
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

/// A time beside an annotation that leaves it nothing to say.
const RESTART_IS_OFF: &str = "set beside the annotation graceful-restart: off, which goes before it; there is no graceful restart";

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
