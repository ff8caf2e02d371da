//! What Calico's API has no field for: annotations under `bgp.ocicat.io/` on BGPPeer, BGPConfiguration and BGPFilter.
//!
//! One table each: a new knob is a line here and a row in `manifests/BGP-API.md`. What stands on a BGPConfiguration and is
//! a matter of a peer is the default of every peer of the node. Unknown names and unreadable values are problems; the
//! others still count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ocicat_bgp::rib::filter::Condition;
use ocicat_bgp::speaker::{
    AsOverride, Between, Confederation, DefaultRoute, Dial, Disclosure, LimitAction, LocalAs,
    LocalAsMode, MaxPaths, Multipath, PeerConfig, PeerRestart, PeerRole, Receive, RemoteAs,
    RemovePrivate, Role, Signing, SilentPeer, Specifics, Ttl,
};
use ocicat_bgp::wire::{Family, FamilySet, HoldTime, Prefix};

use super::filter::Unfiltered;
use crate::datastore::Key;
use crate::problem::Problem;
use crate::world::ANNOTATION_PREFIX;

/// Reads a value into its place.
type Read<T> = fn(&str, &mut T) -> Result<(), String>;

/// The knob that no session goes without when it cannot be read.
const TCP_AO: &str = "tcp-ao";

/// The confederation that the node's AS is a member of.
pub(super) const CONFEDERATION: &str = "confederation";

/// What can be set for one peer, or on a BGPConfiguration for all: the name without the prefix, and how it is read.
const OF_PEER: &[(&str, Read<PeerConfig>)] = &[
    ("hold-time", |text, peer| set(&mut peer.hold_time, hold_time(text))),
    ("send-hold-time", |text, peer| set(&mut peer.send_hold, interval(text).map(Some))),
    (TCP_AO, |text, peer| set(&mut peer.signing, super::tcp_ao::parse(text))),
    ("connect-retry", |text, peer| set(&mut peer.connect_retry, interval(text))),
    ("delay-open", |text, peer| set(&mut peer.delay_open, interval(text).map(Some))),
    ("passive", |text, peer| set(&mut peer.dial, dial(text))),
    ("shortest-hold-time", |text, peer| {
        set(&mut peer.shortest_hold_time, hold_time(text).map(Some))
    }),
    ("max-prefixes", |text, peer| set(&mut peer.max_paths, max_paths(text).map(Some))),
    ("max-advertised", |text, peer| set(&mut peer.max_advertised, count(text).map(Some))),
    ("default-originate", |text, peer| set(&mut peer.default_route, default_route(text))),
    ("role", |text, peer| set(&mut peer.role, role(text).map(Some))),
    ("families", |text, peer| set(&mut peer.families, families(text))),
    ("tcp-mss", |text, peer| set(&mut peer.tcp_mss, segment(text).map(Some))),
    ("announce-hostname", |text, peer| set(&mut peer.introduce.hostname, disclosure(text))),
    ("announce-software", |text, peer| set(&mut peer.introduce.software, disclosure(text))),
    ("multihop", |text, peer| set(&mut peer.ttl, hops(text).map(Ttl::Multihop))),
    ("graceful-restart", |text, peer| set(&mut peer.graceful_restart, restart(text))),
    ("bfd", |text, peer| set(&mut peer.bfd, super::bfd::parse(text))),
    ("long-lived-stale-time", |text, peer| set(&mut peer.long_lived, long_lived(text).map(Some))),
    ("add-path-receive", |text, peer| set(&mut peer.add_path.receive, receive(text))),
    ("add-path-send", |text, peer| set(&mut peer.add_path.send, paths(text).map(Some))),
    ("origin-validation", |text, peer| {
        set(&mut peer.origin_validation, super::rpki::policy(text).map(Some))
    }),
    ("local-as-mode", local_as_mode),
    ("as-override", |text, peer| set(&mut peer.as_override, as_override(text))),
    ("remove-private-as", |text, peer| set(&mut peer.remove_private, remove_private(text))),
];

/// Whom a BGPPeer means, where it is not one address: on a BGPPeer alone.
const WHOM: &[(&str, Read<Whom>)] = &[
    ("interface", |text, whom| set(&mut whom.interfaces, interfaces(text))),
    ("remote-as", |text, whom| set(&mut whom.remote_as, remote_as(text).map(Some))),
    ("listen-range", |text, whom| set(&mut whom.range, range(text).map(Some))),
    ("listen-limit", |text, whom| set(&mut whom.limit, count(text))),
];

/// Whom a BGPPeer means beside what Calico's fields can say.
#[derive(Debug, Clone)]
pub(super) struct Whom {
    /// The links at whose other end a router is.
    pub(super) interfaces: Vec<Arc<str>>,
    /// The AS number, where it is not one that is written down.
    pub(super) remote_as: Option<RemoteAs>,
    /// Where peers may connect from.
    pub(super) range: Option<Prefix>,
    /// How many of these there may be.
    pub(super) limit: NonZeroU32,
}

impl Default for Whom {
    fn default() -> Self {
        const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("a hundred is not zero");
        Self { interfaces: Vec::new(), remote_as: None, range: None, limit: HUNDRED }
    }
}

/// What can be set for the speaker of a node, on a BGPConfiguration alone.
const OF_SPEAKER: &[(&str, Read<SpeakerKnobs>)] = &[
    ("ebgp-requires-policy", |text, speaker| set(&mut speaker.unfiltered, unfiltered(text))),
    ("multipath", |text, speaker| {
        let (ebgp, ibgp) = (paths(text)?, paths(text)?);
        speaker.multipath = Multipath { ebgp, ibgp, ..speaker.multipath };
        Ok(())
    }),
    ("aggregates", |text, speaker| set(&mut speaker.aggregates, aggregates(text))),
    ("bmp", |text, speaker| set(&mut speaker.stations, super::bmp::parse(text))),
    (CONFEDERATION, |text, speaker| {
        set(&mut speaker.confederation, super::confederation::parse(text).map(Some))
    }),
    ("rpki", |text, speaker| set(&mut speaker.caches, super::rpki::caches(text))),
    ("multipath-between", |text, speaker| set(&mut speaker.multipath.between, between(text))),
];

/// What can be set on a BGPFilter alone.
const OF_FILTER: &[(&str, Read<Condition>)] = &[
    ("export-while", |text, condition| set(&mut condition.any_of, prefixes(text))),
    ("export-unless", |text, condition| set(&mut condition.none_of, prefixes(text))),
];

/// Some annotation of an object cannot be read, and was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What annotations say of the speaker as a whole.
#[derive(Debug, Clone)]
pub(super) struct SpeakerKnobs {
    /// What an eBGP peer without filters may tell and hear (RFC 8212).
    pub(super) unfiltered: Unfiltered,
    /// How many equal paths may carry a prefix.
    pub(super) multipath: Multipath,
    /// What is told in one.
    pub(super) aggregates: BTreeMap<Prefix, Specifics>,
    /// Who is told of all this by BMP.
    pub(super) stations: super::bmp::Stations,
    /// The confederation that our AS is a member of.
    pub(super) confederation: Option<Confederation>,
    /// Who says which AS may originate which prefix.
    pub(super) caches: BTreeSet<SocketAddr>,
}

impl Default for SpeakerKnobs {
    fn default() -> Self {
        Self {
            unfiltered: Unfiltered::Passes,
            multipath: Multipath::default(),
            aggregates: BTreeMap::new(),
            stations: super::bmp::Stations::new(),
            confederation: None,
            caches: BTreeSet::new(),
        }
    }
}

/// What annotations say of peers: checked once, applied to each.
#[derive(Debug, Default)]
pub(super) struct PeerKnobs(Vec<(Read<PeerConfig>, String)>);

impl PeerKnobs {
    /// Sets what the annotations say, and leaves the rest.
    pub(super) fn apply(&self, peer: &mut PeerConfig) {
        for (read, text) in &self.0 {
            read(text, peer).expect("only values that can be read are kept");
        }
    }

    /// Checks a value; one that cannot be read changes nothing, unless a session would then be signed otherwise than was
    /// asked for.
    fn add(&mut self, name: &str, read: Read<PeerConfig>, text: &str) -> Result<(), String> {
        let mut anyone = PeerConfig::new(Ipv4Addr::UNSPECIFIED.into(), NonZeroU32::MIN);
        let checked = read(text, &mut anyone);
        if checked.is_ok() {
            self.0.push((read, text.to_owned()));
        } else if name == TCP_AO {
            self.0.push((|_, peer| set(&mut peer.signing, Ok(Signing::Unreadable)), String::new()));
        }
        checked
    }
}

/// Reads the annotations of a BGPPeer.
pub(super) fn of_peer(
    key: &Key,
    given: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> (PeerKnobs, Whom) {
    let (mut knobs, mut whom) = (PeerKnobs::default(), Whom::default());
    for (name, text) in given {
        let outcome = if let Some(read) = find(OF_PEER, name) {
            knobs.add(name, read, text)
        } else if let Some(read) = find(WHOM, name) {
            read(text, &mut whom)
        } else {
            Err(misplaced(name, text))
        };
        problems.extend(outcome.err().map(|message| problem(key, name, message)));
    }
    (knobs, whom)
}

/// Reads the annotations of a BGPConfiguration: what it says of every peer is added to `peers`.
pub(super) fn of_configuration(
    key: &Key,
    given: &BTreeMap<String, String>,
    (peers, speaker): (&mut PeerKnobs, &mut SpeakerKnobs),
    problems: &mut Vec<Problem>,
) {
    for (name, text) in given {
        let outcome = if let Some(read) = find(OF_PEER, name) {
            peers.add(name, read, text)
        } else if let Some(read) = find(OF_SPEAKER, name) {
            read(text, speaker)
        } else {
            Err(misplaced(name, text))
        };
        problems.extend(outcome.err().map(|message| problem(key, name, message)));
    }
}

/// Reads the annotations of a BGPFilter: under which condition its export rules take part, if there is one.
pub(super) fn of_filter(
    key: &Key,
    given: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Arc<Condition>>, Unreadable> {
    let mut condition = Condition::default();
    let mut readable = Ok(());
    for (name, text) in given {
        let Some(read) = find(OF_FILTER, name) else {
            problems.push(problem(key, name, misplaced(name, text)));
            continue;
        };
        if let Err(message) = read(text, &mut condition) {
            let field = format!("metadata.annotations[{ANNOTATION_PREFIX}{name}]");
            let message = format!("{message}; its export rules reject everything");
            problems.push(Problem::new(key, field, message));
            readable = Err(Unreadable);
        }
    }
    readable.map(|()| (condition != Condition::default()).then(|| condition.into()))
}

fn find<T>(table: &[(&str, Read<T>)], name: &str) -> Option<Read<T>> {
    table.iter().find(|(known, _)| *known == name).map(|(_, read)| *read)
}

fn problem(key: &Key, name: &str, message: String) -> Problem {
    Problem::new(
        key,
        format!("metadata.annotations[{ANNOTATION_PREFIX}{name}]"),
        message + if name == TCP_AO { "; the session stays down" } else { "; ignored" },
    )
}

/// What is wrong with an annotation that is not for the kind of object that it stands on.
fn misplaced(name: &str, text: &str) -> String {
    let place = if find(OF_PEER, name).is_some() {
        "a BGPPeer or a BGPConfiguration"
    } else if find(WHOM, name).is_some() {
        "a BGPPeer"
    } else if find(OF_SPEAKER, name).is_some() {
        "a BGPConfiguration"
    } else if find(OF_FILTER, name).is_some() {
        "a BGPFilter"
    } else {
        return format!("no such annotation is known (its value is {text:?})");
    };
    format!("{text:?} is for {place}")
}

fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| *place = value)
}

fn hold_time(text: &str) -> Result<HoldTime, String> {
    let wrong = || format!("{text:?} is neither 0s nor 3s to 65535s (RFC 4271 §4.2)");
    let seconds = u16::try_from(super::duration(text)?.as_secs()).map_err(|_| wrong())?;
    HoldTime::from_secs(seconds).map_err(|_| wrong())
}

/// RFC 9494 §3: 24 bits.
fn long_lived(text: &str) -> Result<Duration, String> {
    let time = interval(text)?;
    if time.as_secs() > 0x00ff_ffff {
        return Err(format!("{text:?} is longer than 16777215s, the most that RFC 9494 can say"));
    }
    Ok(time)
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = super::duration(text)?;
    if time.is_zero() { Err(format!("{text:?} is no time at all")) } else { Ok(time) }
}

fn dial(text: &str) -> Result<Dial, String> {
    Ok(if is_true(text)? { Dial::Passive } else { Dial::Both })
}

fn is_true(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither \"true\" nor \"false\""))
}

fn count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number from 1 to 4294967295"))
}

/// What Linux takes for TCP_MAXSEG.
fn segment(text: &str) -> Result<NonZeroU16, String> {
    let octets =
        text.parse().ok().filter(|octets: &NonZeroU16| (88..=32767).contains(&octets.get()));
    octets.ok_or_else(|| format!("{text:?} is not a number of octets from 88 to 32767"))
}

fn disclosure(text: &str) -> Result<Disclosure, String> {
    Ok(if is_true(text)? { Disclosure::Told } else { Disclosure::Withheld })
}

fn hops(text: &str) -> Result<NonZeroU8, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of hops from 1 to 255"))
}

fn families(text: &str) -> Result<FamilySet, String> {
    let family = |name: &str| match name.trim() {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err(format!("{text:?} is not \"ipv4\", \"ipv6\" or \"ipv4,ipv6\"")),
    };
    text.split(',').map(family).collect()
}

fn restart(text: &str) -> Result<PeerRestart, String> {
    match text {
        "off" => Ok(PeerRestart::Disabled),
        "on" => Ok(PeerRestart::default()),
        _ => Err(format!("{text:?} is neither \"on\" nor \"off\"")),
    }
}

/// Which of our two AS numbers a peer with a local one of its own sees; without one it means nothing.
fn local_as_mode(text: &str, peer: &mut PeerConfig) -> Result<(), String> {
    let mode = match text {
        "replace" => LocalAsMode::Replace,
        "no-prepend" => LocalAsMode::NoPrepend,
        "prepend" => LocalAsMode::Prepend,
        _ => return Err(format!("{text:?} is not \"replace\", \"no-prepend\" or \"prepend\"")),
    };
    peer.local_as = peer.local_as.map(|local_as| LocalAs { mode, ..local_as });
    Ok(())
}

fn as_override(text: &str) -> Result<AsOverride, String> {
    Ok(if is_true(text)? { AsOverride::Replace } else { AsOverride::Keep })
}

fn remove_private(text: &str) -> Result<RemovePrivate, String> {
    match text {
        "no" => Ok(RemovePrivate::Keep),
        "when-all" => Ok(RemovePrivate::WhenAll),
        "all" => Ok(RemovePrivate::Remove),
        "replace" => Ok(RemovePrivate::Replace),
        _ => Err(format!("{text:?} is not \"no\", \"when-all\", \"all\" or \"replace\"")),
    }
}

fn receive(text: &str) -> Result<Receive, String> {
    Ok(if is_true(text)? { Receive::Several } else { Receive::One })
}

/// `1000`, `1000 warn`, `1000 restart 5m`, `1000 stay-down`.
fn max_paths(text: &str) -> Result<MaxPaths, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let limit = count(words.first().copied().unwrap_or_default())?;
    let then = match words[1..] {
        [] => return Ok(MaxPaths::from(limit)),
        ["warn"] => LimitAction::Warn,
        ["stay-down"] => LimitAction::StayDown,
        ["restart", time] => LimitAction::Restart(interval(time)?),
        _ => {
            return Err(format!(
                "{text:?} is not a number, alone or with \"warn\", \"stay-down\" or \"restart TIME\""
            ));
        }
    };
    Ok(MaxPaths { limit, then })
}

/// `customer`, `customer strict`.
fn role(text: &str) -> Result<PeerRole, String> {
    let wrong = || {
        format!(
            "{text:?} is not \"provider\", \"customer\", \"peer\", \"route-server\" or \"route-server-client\", alone or with \"strict\""
        )
    };
    let (name, silent) = match text.split_once(' ') {
        None => (text, SilentPeer::Accepted),
        Some((name, "strict")) => (name, SilentPeer::Refused),
        Some(_) => return Err(wrong()),
    };
    let role = match name {
        "provider" => Role::Provider,
        "customer" => Role::Customer,
        "peer" => Role::Peer,
        "route-server" => Role::RouteServer,
        "route-server-client" => Role::RouteServerClient,
        _ => return Err(wrong()),
    };
    Ok(PeerRole { role, silent })
}

fn default_route(text: &str) -> Result<DefaultRoute, String> {
    Ok(if is_true(text)? { DefaultRoute::Originated } else { DefaultRoute::Ordinary })
}

/// `10.65.0.0/16`, `10.65.0.0/16 summary-only, fd00:65::/32`.
fn aggregates(text: &str) -> Result<BTreeMap<Prefix, Specifics>, String> {
    let aggregate = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words[..] {
            [cidr] => Ok((range(cidr)?, Specifics::Told)),
            [cidr, "summary-only"] => Ok((range(cidr)?, Specifics::Hidden)),
            _ => {
                Err(format!("{text:?} is not a list of CIDRs, each alone or with \"summary-only\""))
            }
        }
    };
    text.split(',').map(aggregate).collect()
}

/// `eth0`, `eth0, eth1`: names that the kernel could give.
fn interfaces(text: &str) -> Result<Vec<Arc<str>>, String> {
    let name = |name: &str| {
        let name = name.trim();
        let wrong = name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']);
        if wrong {
            Err(format!("{text:?} has {name:?}, no interface's name"))
        } else {
            Ok(name.into())
        }
    };
    text.split(',').map(name).collect()
}

fn remote_as(text: &str) -> Result<RemoteAs, String> {
    match text {
        "external" => Ok(RemoteAs::External),
        "internal" => Ok(RemoteAs::Internal),
        "any" => Ok(RemoteAs::Any),
        number => number.parse().map(RemoteAs::Number).map_err(|_| {
            format!("{text:?} is not \"external\", \"internal\", \"any\" or an AS number")
        }),
    }
}

fn range(text: &str) -> Result<Prefix, String> {
    let range: IpNet = text.parse().map_err(|_| format!("{text:?} is not a CIDR"))?;
    Ok(range.trunc().into())
}

/// `0.0.0.0/0`, `192.0.2.0/24, 2001:db8::/32`.
fn prefixes(text: &str) -> Result<BTreeSet<Prefix>, String> {
    let all = text.split(',').map(|part| range(part.trim()));
    all.collect::<Result<_, _>>().map_err(|_| format!("{text:?} is not a list of CIDRs"))
}

fn between(text: &str) -> Result<Between, String> {
    match text {
        "any-as" => Ok(Between::AnyAs),
        "same-as" => Ok(Between::SameAs),
        _ => Err(format!("{text:?} is neither \"any-as\" nor \"same-as\"")),
    }
}

fn unfiltered(text: &str) -> Result<Unfiltered, String> {
    Ok(if is_true(text)? { Unfiltered::Rejected } else { Unfiltered::Passes })
}

fn paths(text: &str) -> Result<NonZeroU8, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of paths from 1 to 255"))
}

#[cfg(test)]
mod tests;
