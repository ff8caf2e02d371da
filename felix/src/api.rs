//! What the command line asks the daemon on its Unix socket, and what it answers. The plugin's own requests are in
//! [`ocicat_cni::daemon`]; both are one JSON object a line.

pub mod bgp;

use serde::{Deserialize, Serialize};

use crate::explain::Explanation;
use crate::inventory::Inventory;
use crate::problem::Problem;

/// What the command line asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "kebab-case")]
pub enum Query {
    /// The peers of the speaker; answered with a list of [`PeerRow`].
    BgpPeers,
    /// A peer; answered with [`bgp::PeerView`].
    BgpPeer {
        /// Its name.
        name: String,
    },
    /// BFD with the peers; answered with a list of [`BfdRow`].
    BgpBfd,
    /// Monitoring stations; answered with a list of [`bgp::StationRow`].
    BgpBmp,
    /// Caches of the RPKI; answered with a list of [`bgp::CacheRow`].
    BgpRpki,
    /// What the speaker knows; answered with a list of [`RouteRow`].
    BgpRoutes(bgp::RouteQuery),
    /// Why a prefix goes where it goes; answered with [`bgp::RouteView`].
    BgpRoute {
        /// The prefix.
        prefix: String,
    },
    /// Have a peer tell its routes again (RFC 2918); answered with [`bgp::RefreshView`].
    BgpRefresh(bgp::RefreshQuery),
    /// A slice of the table as an MRT dump; answered with [`bgp::DumpPage`].
    BgpDump(bgp::DumpQuery),
    /// Take leave of the peers; answered with [`bgp::DrainView`] once they are told nothing any more.
    BgpDrain {
        /// How long they have to choose other ways.
        wait_seconds: u64,
    },
    /// Come back; answered with [`bgp::DrainView`].
    BgpUndrain,
    /// A pod's policy; answered with [`PolicyView`].
    PolicyShow {
        /// `NAMESPACE/POD`.
        pod: String,
    },
    /// Who decides about a flow; answered with a list of [`Explanation`].
    Explain {
        /// `SRC -> DST:PORT[/proto]`.
        flow: String,
    },
    /// What would change in the kernel, read now; answered with [`PlanView`].
    Plan,
    /// Whether the kernel is what we believe; answered with [`CheckView`].
    Check,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRow {
    /// Its name in the configuration.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its AS number.
    pub remote_as: Option<u32>,
    /// `external`, `confederation` or `internal`.
    pub kind: String,
    /// State of the session (RFC 4271 §8.2.2).
    pub state: String,
    /// How long it has been so, in seconds.
    pub since_seconds: u64,
    /// How often an established session was lost.
    pub flaps: u64,
    /// Why the last session or attempt ended; for one that cannot begin, what it waits for.
    pub last_error: Option<String>,
    /// How many seconds ago that was, since the agent started.
    pub last_error_seconds: Option<u64>,
    /// Prefixes by family.
    pub families: Vec<FamilyRow>,
    /// The hold time agreed on, in seconds.
    pub hold_seconds: Option<u16>,
    /// Capabilities that both ends have.
    pub capabilities: Vec<String>,
    /// Messages heard and sent.
    pub messages: Messages,
    /// UPDATEs with an error that cost their routes or an attribute, and not the session (RFC 7606).
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<String>,
}

/// BFD with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdRow {
    /// The peer's name in the configuration.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// `single-hop` or `multihop`.
    pub reach: String,
    /// State of the session (RFC 5880 §6.2).
    pub state: String,
    /// How long it has been so, in seconds.
    pub since_seconds: u64,
    /// The state that the peer told last.
    pub remote_state: String,
    /// Our name of the session.
    pub local_discriminator: u32,
    /// The peer's name of it, while it is heard.
    pub remote_discriminator: Option<u32>,
    /// Time between our packets before jitter; absent while none are sent.
    pub transmit_microseconds: Option<u64>,
    /// Silence for so long ends the session; absent until the peer was heard.
    pub detect_microseconds: Option<u64>,
    /// How many of our packets the peer may miss.
    pub multiplier: u8,
    /// How many of the peer's packets we may miss; 0 until it was heard.
    pub remote_multiplier: u8,
    /// Whether the peer's BFD outlives its BGP speaker (the C bit).
    pub control_plane_independent: bool,
    /// How often the path failed while the session was up.
    pub flaps: u64,
    /// Why the session was last lost.
    pub last_down: Option<String>,
    /// How long ago that was, in seconds.
    pub last_down_seconds: Option<u64>,
    /// The longest silence of the peer since the session came up.
    pub longest_gap_microseconds: u64,
    /// Packets by what became of them.
    pub packets: BfdPackets,
    /// What keeps packets from being sent or heard.
    pub error: Option<String>,
}

/// Packets of a BFD session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdPackets {
    /// Sent.
    pub sent: u64,
    /// Taken in.
    pub received: u64,
    /// Of the peer, but not acceptable (TTL, interface, address).
    pub discarded: u64,
}

/// Messages of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// All heard.
    pub received: u64,
    /// All sent.
    pub sent: u64,
    /// UPDATEs heard.
    pub updates_received: u64,
    /// UPDATEs sent.
    pub updates_sent: u64,
}

/// Prefixes of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyRow {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Heard.
    pub received: u64,
    /// Of these, usable.
    pub accepted: u64,
    /// Of these, not usable.
    pub rejected: u64,
    /// Of these, kept through a restart of the peer.
    pub stale: u64,
    /// Told.
    pub advertised: u64,
}

/// A path to a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// The prefix.
    pub prefix: String,
    /// Next hop; absent for what we originate.
    pub next_hop: Option<String>,
    /// Who told us; absent for what we originate.
    pub peer: Option<String>,
    /// Which of the peer's paths for the prefix, where it tells several (RFC 7911).
    pub path_id: Option<u32>,
    /// `best`, `multipath`, or why it is not used.
    pub verdict: String,
    /// AS path.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities of both lengths.
    pub communities: Vec<String>,
    /// Kept through a restart of the peer.
    pub stale: bool,
    /// `valid`, `invalid` or `not-found` (RFC 6811); absent without RPKI caches, and for what we originate.
    pub validity: Option<String>,
}

/// A pod's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// `NAMESPACE/POD`.
    pub pod: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its interface on this node, if it is on this node.
    pub interface: Option<String>,
    /// Whether the kernel has its policy; absent for pods of other nodes.
    pub enforced: Option<bool>,
    /// Policies that select it for what it receives; absent when it may receive anything.
    pub ingress: Option<Vec<String>>,
    /// Policies that select it for what it sends; absent when it may send anything.
    pub egress: Option<Vec<String>>,
    /// Who may reach it and whom it may reach, port by port.
    pub rules: Vec<RuleRow>,
}

/// One line of a pod's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Protocol and ports.
    pub ports: String,
    /// Addresses and blocks of the other side.
    pub peers: Vec<String>,
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// nft and ip lines; empty when nothing would.
    pub change: String,
}

/// Whether all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// Whether the kernel holds what it should.
    pub in_sync: bool,
    /// What it lacks or has too much, as nft and ip lines.
    pub difference: String,
    /// What was wrong with the input.
    pub problems: Vec<Problem>,
    /// What could not be done, and why.
    pub failures: Vec<String>,
    /// Pods attached here whose policy is not known yet; they are closed.
    pub waiting: Vec<String>,
    /// What we believe the kernel's table holds; absent when no kernel is programmed.
    pub inventory: Option<Inventory>,
}

/// The answers, by question.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Query::BgpPeers`].
    Peers(Vec<PeerRow>),
    /// To [`Query::BgpPeer`].
    Peer(Box<bgp::PeerView>),
    /// To [`Query::BgpBfd`].
    Bfd(Vec<BfdRow>),
    /// To [`Query::BgpBmp`].
    Bmp(Vec<bgp::StationRow>),
    /// To [`Query::BgpRpki`].
    Rpki(Vec<bgp::CacheRow>),
    /// To [`Query::BgpRoutes`].
    Routes(Vec<RouteRow>),
    /// To [`Query::BgpRoute`].
    Route(bgp::RouteView),
    /// To [`Query::BgpRefresh`].
    Refresh(bgp::RefreshView),
    /// To [`Query::BgpDump`].
    Dump(bgp::DumpPage),
    /// To [`Query::BgpDrain`] and [`Query::BgpUndrain`].
    Drain(bgp::DrainView),
    /// To [`Query::PolicyShow`].
    Policy(PolicyView),
    /// To [`Query::Explain`].
    Explanations(Vec<Explanation>),
    /// To [`Query::Plan`].
    Plan(PlanView),
    /// To [`Query::Check`].
    Check(CheckView),
}
