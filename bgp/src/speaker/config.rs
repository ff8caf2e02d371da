//! What the operator wants of the speaker. Plain values: a new [`Config`] is compared with the one
//! in force, and only what differs takes effect, peer by peer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use super::aggregate::Specifics;
use super::as_rules::{AsOverride, LocalAs, RemoteAs, RemovePrivate};
use super::confederation::Confederation;
use super::introduction::{Introduce, Introduction};
use super::limit::MaxPaths;
use super::monitor::Monitoring;
use super::role::PeerRole;
use super::rpki::OriginValidation;
use super::signing::Signing;
use crate::bfd::{Reach, Timing};
use crate::rib::filter::Filter;
use crate::wire::{Community, FamilySet, HoldTime, LargeCommunity, Prefix};

/// The operator's name of a peer, unique within a [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PeerName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for PeerName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The whole configuration of a speaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Our AS number; in a confederation our Member-AS Number.
    pub local_as: NonZeroU32,
    /// The confederation that we are in.
    pub confederation: Option<Confederation>,
    /// Our BGP Identifier: any non-zero 32 bits, unique within the AS (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Where the edge accepts connections; the core never reads it. Empty: it accepts none.
    pub listen: Vec<SocketAddr>,
    /// Where to accept connections beside, on addresses that this machine may only get later: listened on ahead of them,
    /// so that the first who dials is heard.
    pub listen_ahead: Vec<SocketAddr>,
    /// Whom we talk to.
    pub peers: BTreeMap<PeerName, PeerConfig>,
    /// Who may talk to us without being named.
    pub ranges: BTreeMap<PeerName, PeerRange>,
    /// How many equal paths may carry a prefix.
    pub multipath: Multipath,
    /// Graceful restart of the whole speaker.
    pub graceful_restart: GracefulRestart,
    /// The next hop of IPv4 routes on sessions over IPv6, unless the session allows IPv6 ones.
    pub own_ipv4: Option<Ipv4Addr>,
    /// The next hop of IPv6 routes on sessions over IPv4.
    pub own_ipv6: Option<Ipv6Addr>,
    /// Set: we reflect iBGP routes of clients under this cluster id (RFC 4456).
    pub cluster_id: Option<Ipv4Addr>,
    /// The prefixes that we originate at start. [`super::Speaker::originate`] changes them later.
    pub originated: BTreeMap<Prefix, Originated>,
    /// What is told in one instead of, or beside, many.
    pub aggregates: BTreeMap<Prefix, Specifics>,
    /// Who is told of all this by BMP.
    pub monitoring: Monitoring,
    /// Who we are, for people: told to peers that may know.
    pub introduction: Introduction,
    /// Who tells us which AS may originate which prefix (RFC 8210). All are asked, and what any of them
    /// says counts.
    pub caches: BTreeSet<SocketAddr>,
    /// Whether the edge is told the chosen routes. Counts only in [`super::Speaker::new`].
    pub chosen: Chosen,
}

/// What becomes of the routes that were chosen, besides that peers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chosen {
    /// [`super::Output::RouteChanged`] and [`super::Output::RouteWithdrawn`] tell them.
    #[default]
    Told,
    /// Nobody programs them: a speaker alone, as a route reflector is.
    Kept,
}

impl Config {
    /// A speaker without peers and routes, with the customary settings.
    pub fn new(local_as: NonZeroU32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            confederation: None,
            router_id,
            listen: Vec::new(),
            listen_ahead: Vec::new(),
            peers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            multipath: Multipath::default(),
            graceful_restart: GracefulRestart::default(),
            own_ipv4: None,
            own_ipv6: None,
            cluster_id: None,
            originated: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            monitoring: Monitoring::default(),
            introduction: Introduction::default(),
            caches: BTreeSet::new(),
            chosen: Chosen::default(),
        }
    }
}

/// Addresses from which peers may connect that are not named one by one. Each gets a name of the
/// range's name, a hyphen and its address, lives as long as it has a session or routes kept for a
/// restart, and is never dialled.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRange {
    /// Where they are.
    pub prefix: Prefix,
    /// How many there may be at a time.
    pub limit: NonZeroU32,
    /// What they have in common; address and `dial` are put in.
    pub template: PeerConfig,
}

/// Limits on equal-cost paths, counted apart for routes heard over eBGP and iBGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multipath {
    /// At most this many eBGP paths per prefix.
    pub ebgp: NonZeroU8,
    /// At most this many iBGP paths per prefix.
    pub ibgp: NonZeroU8,
    /// Whose paths count as equal.
    pub between: Between,
}

/// Which paths of equal rank and length may carry a prefix together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Those through any neighbouring AS: each rack's router may have a number of its own.
    AnyAs,
    /// Only those through the same neighbouring AS as the best path.
    SameAs,
}

impl Default for Multipath {
    fn default() -> Self {
        const SIXTEEN: NonZeroU8 = NonZeroU8::new(16).expect("sixteen is not zero");
        Self { ebgp: SIXTEEN, ibgp: SIXTEEN, between: Between::AnyAs }
    }
}

/// RFC 4724 for the speaker as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    /// Whether this start resumes a forwarding state that survived.
    pub start: Start,
    /// The longest that the first selection of routes waits for the peers' End-of-RIB.
    pub deferral: Duration,
    /// After this time without a session a peer counts as unable to answer and is not waited for.
    pub answer_within: Duration,
    /// Next hops of the routes that survived. Where one lies in a range of peers, it was a guest of the
    /// earlier life, whom we cannot dial: it is waited for as long as `deferral`.
    pub guests: BTreeSet<IpAddr>,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            start: Start::Cold,
            deferral: Duration::from_secs(120),
            answer_within: Duration::from_secs(15),
            guests: BTreeSet::new(),
        }
    }
}

/// Whether the routes of an earlier life are still in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing was kept.
    Cold,
    /// Forwarding went on while we were away: OPEN says so with the R and F bits, and the choice of
    /// routes waits until the peers have told us theirs (RFC 4724 §4.1).
    Restarting,
}

/// A peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    /// Whether a session is wanted at all.
    pub admin: Admin,
    /// The peer's address. `::` stands for the router at the other end of `interface`, whose
    /// link-local address is found out (unnumbered peering).
    pub address: IpAddr,
    /// The peer's TCP port, 179 by custom.
    pub port: u16,
    /// The AS number that the peer may have.
    pub remote_as: RemoteAs,
    /// The AS number that we show to this peer instead of [`Config::local_as`], or of the identifier
    /// of our confederation; not within that.
    pub local_as: Option<LocalAs>,
    /// Whether ours stands for the peer's own AS number on the paths that we tell it. Only eBGP.
    pub as_override: AsOverride,
    /// Whether private AS numbers stand on the paths that we tell the peer. Only eBGP.
    pub remove_private: RemovePrivate,
    /// Who dials.
    pub dial: Dial,
    /// The hold time that we propose.
    pub hold_time: HoldTime,
    /// A peer that proposes less is refused (RFC 4271 §6.2). `None`: any time will do.
    pub shortest_hold_time: Option<HoldTime>,
    /// Time between keepalives; `None`: a third of the negotiated hold time, which is also the most.
    pub keepalive: Option<Duration>,
    /// A peer that takes nothing of what we have for it for so long is lost (RFC 9687); never less than
    /// the hold time. `None`: twice the hold time, and at least eight minutes.
    pub send_hold: Option<Duration>,
    /// Time between attempts to connect.
    pub connect_retry: Duration,
    /// How long we wait for the peer to speak first once a connection stands (RFC 4271 §8.1.1, DelayOpen).
    /// `None`: we do not.
    pub delay_open: Option<Duration>,
    /// The IP TTL of what we send, and whether low ones are refused. The edge sets the socket.
    pub ttl: Ttl,
    /// The key that signs the segments. The edge sets the socket.
    pub password: Password,
    /// What the password is a key of.
    pub signing: Signing,
    /// The address that we connect from. The edge binds the socket.
    pub source: Option<IpAddr>,
    /// The largest TCP segment that either side may send, in octets, 88 to 32,767; less where the path takes
    /// less. `None`: what the interface takes. The edge sets the sockets; of connections that the peer
    /// makes it holds by the smallest of all peers.
    pub tcp_mss: Option<NonZeroU16>,
    /// The interface of a link-local or unnumbered peer.
    pub interface: Option<Arc<str>>,
    /// The families that we offer.
    pub families: FamilySet,
    /// The next hop of what we advertise.
    pub next_hop: NextHopMode,
    /// The peer is a client of our route reflector (RFC 4456). Only iBGP.
    pub reflection: Reflection,
    /// What we take from the peer.
    pub import: Filter,
    /// What we tell the peer.
    pub export: Filter,
    /// RFC 4724 with this peer.
    pub graceful_restart: PeerRestart,
    /// How often our own AS may stand in a path that we accept.
    pub allow_own_as: u8,
    /// What becomes of paths whose AS must not originate the prefix, as [`Config::caches`] say. `None`:
    /// they are rejected over eBGP, and not judged over iBGP.
    pub origin_validation: Option<OriginValidation>,
    /// BFD with this peer, which the edge runs; `None`: only BGP's own timers watch.
    pub bfd: Option<PeerBfd>,
    /// What the peer is told of who we are. Counts from the next session on.
    pub introduce: Introduce,
    /// The most paths per family that the peer may send.
    pub max_paths: Option<MaxPaths>,
    /// The most prefixes per family that we tell the peer; the rest waits until there is room.
    pub max_advertised: Option<NonZeroU32>,
    /// RFC 9234: what we are to the peer. Only eBGP.
    pub role: Option<PeerRole>,
    /// Whether the peer is told a default route.
    pub default_route: DefaultRoute,
    /// RFC 7911 with this peer.
    pub add_path: AddPath,
    /// RFC 9494 with this peer: how long stale routes may be kept after the restart time, at most
    /// 16,777,215 s. Needs graceful restart.
    pub long_lived: Option<Duration>,
}

impl PeerConfig {
    /// A peer with the customary settings: it may dial and be dialled, IPv4 and IPv6 are offered,
    /// everything is imported, and only what we originate is exported.
    ///
    /// RFC 8212 would have an eBGP peer without policy import and export nothing. This deviation is
    /// deliberate: the filters below *are* the policy, and they are visible here.
    pub fn new(address: IpAddr, remote_as: impl Into<RemoteAs>) -> Self {
        Self {
            admin: Admin::Up,
            address,
            port: 179,
            remote_as: remote_as.into(),
            local_as: None,
            as_override: AsOverride::Keep,
            remove_private: RemovePrivate::Keep,
            dial: Dial::Both,
            hold_time: HoldTime::from_secs(90).expect("ninety is neither one nor two"),
            shortest_hold_time: None,
            keepalive: None,
            send_hold: None,
            connect_retry: Duration::from_secs(5),
            delay_open: None,
            ttl: Ttl::Direct,
            password: Password::None,
            signing: Signing::Md5,
            source: None,
            tcp_mss: None,
            interface: None,
            families: FamilySet::ALL,
            next_hop: NextHopMode::Auto,
            reflection: Reflection::NonClient,
            import: Filter::accept_all(),
            export: Filter::own_routes(),
            graceful_restart: PeerRestart::default(),
            allow_own_as: 0,
            origin_validation: None,
            bfd: None,
            introduce: Introduce::default(),
            max_paths: None,
            max_advertised: None,
            role: None,
            default_route: DefaultRoute::Ordinary,
            add_path: AddPath::default(),
            long_lived: None,
        }
    }
}

impl PeerConfig {
    /// The router at the other end of a link, whatever its address: customary settings otherwise.
    pub fn on_link(interface: &str, remote_as: impl Into<RemoteAs>) -> Self {
        let address = Ipv6Addr::UNSPECIFIED.into();
        Self { interface: Some(interface.into()), ..Self::new(address, remote_as) }
    }

    /// Whether the peer's address has to be found out.
    pub const fn is_unnumbered(&self) -> bool {
        self.address.is_unspecified()
    }
}

/// What a peer is told of 0.0.0.0/0 and ::/0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DefaultRoute {
    /// The same as of any other prefix.
    Ordinary,
    /// That it leads to us, whatever the table and the filter say.
    Originated,
    /// The same, with the marks of a route that is about to go ([`crate::rib::filter::LEAVING`]).
    Leaving,
}

impl DefaultRoute {
    /// Whether it leads to us whatever the table and the filter say.
    #[must_use]
    pub const fn is_originated(self) -> bool {
        match self {
            Self::Ordinary => false,
            Self::Originated | Self::Leaving => true,
        }
    }
}

/// Several paths for one prefix between two speakers (RFC 7911).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AddPath {
    /// Whether the peer may tell us several.
    pub receive: Receive,
    /// How many of the best paths we tell the peer of each prefix; `None`: the best one alone,
    /// without a path identifier.
    pub send: Option<NonZeroU8>,
}

/// Whether several paths for one prefix are taken from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Receive {
    /// One path for each prefix.
    #[default]
    One,
    /// As many as the peer sends, up to 256 of each prefix; what is beyond is ignored and counts as a fault.
    Several,
}

/// Whether the operator wants the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// Keep a session.
    Up,
    /// Keep none, and refuse the peer's connections.
    Down,
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// Both sides may; a collision is resolved by RFC 4271 §6.8.
    Both,
    /// Only the peer does.
    Passive,
    /// Only we do; connections from the peer are refused.
    Active,
}

/// The TTL of the packets of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// 1 for eBGP and between the members of a confederation, the system's default for iBGP.
    Direct,
    /// Up to this many hops away.
    Multihop(NonZeroU8),
    /// Send 255 and refuse less than 256 minus this many hops (GTSM, RFC 5082).
    Security(NonZeroU8),
}

/// The key of TCP MD5 or TCP-AO.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// None is wanted.
    None,
    /// This one.
    Key(Arc<str>),
    /// One is wanted, but could not be read: the session stays down rather than run without.
    Missing,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Key(_) => "Key(..)",
            Self::Missing => "Missing",
        })
    }
}

/// Which next hop we advertise. Routes that we originate always carry ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// Ourselves to eBGP peers, unchanged to iBGP peers (RFC 4271 §5.1.3) and to the other members of
    /// a confederation (RFC 5065 §4).
    Auto,
    /// Always ourselves.
    Own,
    /// Never changed.
    Keep,
}

/// The peer's part in route reflection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reflection {
    /// An ordinary peer.
    NonClient,
    /// A client of ours, when [`Config::cluster_id`] is set.
    Client,
}

/// RFC 4724 with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRestart {
    /// The capability is not sent.
    Disabled,
    /// We help the peer restart, and ask it to help us.
    Enabled {
        /// How long the peer shall wait for us, at most 4095 s.
        time: Duration,
        /// How long we keep a restarted peer's old routes after it is back, until its End-of-RIB.
        stale: Duration,
    },
}

impl Default for PeerRestart {
    fn default() -> Self {
        Self::Enabled { time: Duration::from_secs(120), stale: Duration::from_secs(360) }
    }
}

/// BFD with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerBfd {
    /// How fast the failure of the path shall be seen.
    pub timing: Timing,
    /// Whether routers may lie between. What the peer does must match: a router takes a neighbour
    /// on its link for [`Reach::SingleHop`], whatever TTL the BGP session has.
    pub reach: Reach,
}

/// The attributes of a prefix that we originate. The next hop is ourselves, by session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Originated {
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// LOCAL_PREF shown to iBGP peers; `None`: 100.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}
