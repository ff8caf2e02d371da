//! What an operator may look at: peers and routes, as values that own all they show.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::config::PeerName;
use super::event::NextHopVia;
use super::introduction::Introduction;
use crate::rib::best::{Ineligible, Step};
use crate::rib::filter::Condition;
use crate::rpki::Validity;
use crate::session::State;
use crate::wire::{Community, Family, FamilySet, HoldTime, LargeCommunity, PeerKind, Prefix};

/// Why a session, or an attempt at one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownReason {
    /// Who ended it.
    pub by: EndedBy,
    /// Error code and subcode of the NOTIFICATION, if there was one (RFC 4271 §4.5).
    pub code: Option<(u8, u8)>,
    /// One sentence.
    pub text: String,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// We did.
    Us,
    /// The peer sent a NOTIFICATION.
    Peer,
    /// The connection failed or could not be made.
    Transport,
}

/// One peer, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSnapshot {
    /// Its name.
    pub name: PeerName,
    /// Its address; `::` while that of an unnumbered peer is not found out.
    pub address: IpAddr,
    /// The interface of a link-local or unnumbered peer.
    pub interface: Option<Arc<str>>,
    /// Its AS number; `None` while any will do and it has told none.
    pub remote_as: Option<u32>,
    /// eBGP or iBGP.
    pub kind: PeerKind,
    /// The state of its session.
    pub state: State,
    /// How long the session has been in that state.
    pub since: Duration,
    /// How often an Established session was lost.
    pub flaps: u64,
    /// Why the last session, or the talk before one, ended.
    pub last_error: Option<Arc<DownReason>>,
    /// Why the last attempt to connect failed, until a session stands.
    pub connect_error: Option<String>,
    /// What both sides agreed on; only with a session.
    pub negotiated: Option<NegotiatedSnapshot>,
    /// Routes and what is kept of them, per family.
    pub families: Vec<FamilySnapshot>,
    /// The conditions of the export filter, and whether each holds now.
    pub conditions: Vec<(Arc<Condition>, bool)>,
    /// UPDATEs with errors that did not end the session (RFC 7606 §2).
    pub faults: u64,
    /// The last such error.
    pub last_fault: Option<String>,
    /// Messages heard.
    pub received: MessageCounts,
    /// Messages sent.
    pub sent: MessageCounts,
    /// What runs out when, if nothing happens before: the name of the timer and the time that is left.
    pub timers: Vec<(&'static str, Duration)>,
}

/// The terms of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedSnapshot {
    /// The peer's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The smaller of both hold times.
    pub hold_time: HoldTime,
    /// Time between our keepalives.
    pub keepalive: Option<Duration>,
    /// Families that both sides offer.
    pub families: FamilySet,
    /// The names of the capabilities that both sides have.
    pub capabilities: Vec<&'static str>,
    /// Who the peer says that it is.
    pub who: Introduction,
}

/// A peer's routes of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilySnapshot {
    /// Which.
    pub family: Family,
    /// Paths heard.
    pub received: u64,
    /// Of these, those that may be chosen.
    pub accepted: u64,
    /// Of these, those kept from before the peer's restart (RFC 4724).
    pub stale: u64,
    /// Prefixes that we have told the peer.
    pub advertised: u64,
    /// The peer has sent its End-of-RIB in this session.
    pub end_of_rib: bool,
}

/// Messages by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// A prefix and all its paths, the best one first.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSnapshot {
    /// Which.
    pub prefix: Prefix,
    /// At least one.
    pub paths: Vec<PathSnapshot>,
}

/// One path to a prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSnapshot {
    /// Who told us; `None`: we originate it.
    pub peer: Option<PeerName>,
    /// Which of the peer's paths for the prefix (RFC 7911 §3); 0 where it tells only one.
    pub path_id: u32,
    /// Where packets would go; `None`: we originate it.
    pub next_hop: Option<NextHopVia>,
    /// What became of it.
    pub verdict: Verdict,
    /// Kept from before the peer's restart.
    pub stale: bool,
    /// The number of the rule of the import filter that decided about it; `None` when none matched.
    pub rule: Option<usize>,
    /// What its prefix and origin are worth (RFC 6811); `None`: no cache is configured, or we originate
    /// it.
    pub validity: Option<Validity>,
    /// Its attributes.
    pub attributes: AttributeSnapshot,
    /// Its attributes as the peer sent them, where import changed them.
    pub received: Option<AttributeSnapshot>,
    /// The BGP Identifier that is compared: the peer's, or the ORIGINATOR_ID (RFC 4456 §9).
    pub router_id: Ipv4Addr,
    /// The address of the peer.
    pub peer_address: IpAddr,
    /// eBGP or iBGP; of no meaning for what we originate.
    pub kind: PeerKind,
}

/// What became of a path, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Chosen, and told to others.
    Best,
    /// Used beside the best one.
    Multipath,
    /// Another path was preferred at this step.
    Lost(Step),
    /// It may not be chosen at all.
    Ineligible(Ineligible),
}

/// The attributes of a path, after import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeSnapshot {
    /// ORIGIN: IGP, EGP or INCOMPLETE.
    pub origin: &'static str,
    /// AS_PATH as operators write it.
    pub as_path: String,
    /// LOCAL_PREF, or the default.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<LargeCommunity>,
}
