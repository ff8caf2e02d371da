//! What our OPEN says, and what two OPENs amount to.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::collision::Identity;
use crate::speaker::introduction::{self, Introduction};
use crate::speaker::{OwnAs, PeerConfig, PeerRestart, PeerRole, Receive, SilentPeer};
use crate::wire::capability::{
    AddPathMode, Forwarding, GracefulRestart, LongLivedFamily, NotificationSupport, RestartState,
    STALE_SECS_MAX,
};
use crate::wire::iana::{afi, error, open_error};
use crate::wire::{
    AsnWidth, Capability, Codec, Family, FamilySet, HoldTime, MessageSize, Notification, Open,
    PeerKind,
};

/// The terms of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) codec: Codec,
    pub(crate) theirs: Identity,
    pub(crate) hold_time: HoldTime,
    pub(crate) keepalive: Option<Duration>,
    /// Codes of the capabilities that both OPENs hold.
    pub(crate) shared: Vec<u8>,
    /// What the peer says of its restarts, when we have offered to help.
    pub(crate) restart: Option<GracefulRestart>,
    /// What the peer says of long restarts (RFC 9494), when we have offered to help.
    pub(crate) long_lived: Vec<LongLivedFamily>,
    /// Who the peer says that it is.
    pub(crate) who: Introduction,
}

impl Terms {
    pub(crate) fn has(&self, capability: u8) -> bool {
        self.shared.contains(&capability)
    }

    /// Whether a NOTIFICATION leaves the routes standing (RFC 8538 §4); we always say so.
    pub(crate) fn survives_notification(&self) -> bool {
        self.restart.as_ref().is_some_and(|r| r.notification == NotificationSupport::Graceful)
    }

    /// The families that the peer can restart gracefully.
    pub(crate) fn restartable(&self) -> FamilySet {
        let theirs = self.restart.iter().flat_map(|restart| &restart.families);
        let families: FamilySet = theirs.filter_map(|(family, _)| family.family()).collect();
        families.intersection(self.codec.families)
    }

    /// The families of which the peer went on forwarding while it restarted.
    pub(crate) fn preserved(&self) -> FamilySet {
        let theirs = self.restart.iter().flat_map(|restart| &restart.families);
        let kept = theirs.filter(|(_, forwarding)| *forwarding == Forwarding::Preserved);
        let families: FamilySet = kept.filter_map(|(family, _)| family.family()).collect();
        families.intersection(self.codec.families)
    }

    /// How long the stale paths of a family may be kept after the restart time: as long as the
    /// peer says, and at most as long as we are configured to (RFC 9494 §4.2).
    pub(crate) fn long_lived(&self, family: Family, most: Option<Duration>) -> Duration {
        let theirs = self.long_lived.iter().find(|each| each.family.family() == Some(family));
        let theirs = theirs.map_or(0, |each| each.stale_secs);
        let spoken = self.codec.families.contains(family);
        most.filter(|_| spoken)
            .map_or(Duration::ZERO, |most| most.min(Duration::from_secs(theirs.into())))
    }

    /// The families of which the peer went on forwarding while it was away for long.
    pub(crate) fn long_preserved(&self) -> FamilySet {
        let kept = self.long_lived.iter().filter(|each| each.forwarding == Forwarding::Preserved);
        kept.filter_map(|each| each.family.family()).collect()
    }

    /// Whether the peer has just restarted, and does not wait for us.
    pub(crate) fn peer_restarted(&self) -> bool {
        self.restart.as_ref().is_some_and(|restart| restart.state == RestartState::Restarted)
    }
}

/// Our OPEN to a peer.
pub(crate) fn our_open(
    config: &PeerConfig,
    ours: Identity,
    expected: PeerKind,
    (state, forwarding): (RestartState, Forwarding),
) -> Open {
    let mut capabilities: Vec<_> = config.families.iter().map(Capability::family).collect();
    // RFC 9234 §4.1: never within an AS.
    let role = config.role.filter(|_| expected == PeerKind::External);
    capabilities.extend(role.map(|role| Capability::Role(role.role.octet())));
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::EnhancedRouteRefresh);
    capabilities.push(Capability::ExtendedMessage);
    if offers_ipv6_next_hops(config) {
        capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4.into(), afi::IPV6)]));
    }
    match config.graceful_restart {
        PeerRestart::Disabled => {}
        PeerRestart::Enabled { time, .. } => {
            let families = config.families.iter();
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                state,
                notification: NotificationSupport::Graceful,
                restart_secs: u16::try_from(time.as_secs()).unwrap_or(u16::MAX),
                families: families.map(|family| (family.into(), forwarding)).collect(),
            }));
            capabilities.extend(long_lived(config, forwarding));
        }
    }
    capabilities.extend(add_path(config));
    capabilities.push(Capability::FourOctetAs(ours.asn));
    Open { asn: ours.asn, hold_time: config.hold_time, router_id: ours.router_id, capabilities }
}

/// RFC 9494 §4.1: only beside graceful restart.
fn long_lived(config: &PeerConfig, forwarding: Forwarding) -> Option<Capability> {
    let stale = config.long_lived.filter(|stale| !stale.is_zero())?;
    let stale_secs = u32::try_from(stale.as_secs()).unwrap_or(u32::MAX).min(STALE_SECS_MAX);
    let families = config.families.iter();
    Some(Capability::LongLivedGracefulRestart(
        families
            .map(|family| LongLivedFamily { family: family.into(), forwarding, stale_secs })
            .collect(),
    ))
}

/// RFC 7911 §4.
fn add_path(config: &PeerConfig) -> Option<Capability> {
    let mode = match (config.add_path.receive, config.add_path.send) {
        (Receive::One, None) => return None,
        (Receive::Several, None) => AddPathMode::Receive,
        (Receive::One, Some(_)) => AddPathMode::Send,
        (Receive::Several, Some(_)) => AddPathMode::Both,
    };
    let families = config.families.iter().map(|family| (family.into(), mode));
    Some(Capability::AddPath(families.collect()))
}

/// RFC 8950 is offered where it is of use: on sessions over IPv6 that carry IPv4.
fn offers_ipv6_next_hops(config: &PeerConfig) -> bool {
    matches!(config.address, IpAddr::V6(_)) && config.families.contains(Family::Ipv4)
}

/// An OPEN that we do not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unacceptable {
    pub(crate) notification: Notification,
    pub(crate) text: String,
}

fn unacceptable(subcode: u8, text: String) -> Unacceptable {
    Unacceptable { notification: Notification::new(error::OPEN_MESSAGE, subcode), text }
}

/// Compares both OPENs.
pub(crate) fn agree(
    config: &PeerConfig,
    own: OwnAs<'_>,
    ours: &Open,
    theirs: &Open,
) -> Result<Terms, Unacceptable> {
    if !own.admits(config.remote_as, theirs.asn, ours.asn) {
        let text = if config.remote_as.admits(theirs.asn, ours.asn) {
            format!("the peer is AS {}, a number of our own confederation", theirs.asn)
        } else {
            format!("the peer is AS {}, not AS {}", theirs.asn, config.remote_as)
        };
        return Err(unacceptable(open_error::BAD_PEER_AS, text));
    }
    // RFC 4271 §6.2: any hold time may be refused. Zero means that nobody looks.
    let shortest = config.shortest_hold_time.filter(|shortest| theirs.hold_time < *shortest);
    if let Some(shortest) = shortest {
        let (theirs, shortest) = (theirs.hold_time.secs(), shortest.secs());
        let text = format!("the peer proposes a hold time of {theirs} s, less than {shortest} s");
        return Err(unacceptable(open_error::UNACCEPTABLE_HOLD_TIME, text));
    }
    let kind = own.kind(theirs.asn, ours.asn);
    // RFC 6286 §2.2: equal identifiers are an error only within one AS.
    if kind == PeerKind::Internal && theirs.router_id == ours.router_id {
        let text = format!("the peer has our own BGP Identifier {}", theirs.router_id);
        return Err(unacceptable(open_error::BAD_BGP_IDENTIFIER, text));
    }
    if kind == PeerKind::External {
        check_roles(config, theirs)?;
    }
    let families = offered(theirs).intersection(config.families);
    if families.is_empty() {
        let text = format!("no common family: we offer {:?}", config.families);
        let mut refusal = unacceptable(open_error::UNSUPPORTED_CAPABILITY, text);
        // RFC 5492 §3: the capabilities that we miss.
        refusal.notification.data = config.families.iter().flat_map(multiprotocol).collect();
        return Err(refusal);
    }
    let hold_time = ours.hold_time.min(theirs.hold_time);
    Ok(Terms {
        codec: Codec {
            confed_segments: own.confed_segments(kind),
            ..codec(kind, families, ours, theirs)
        },
        theirs: Identity { router_id: theirs.router_id, asn: theirs.asn },
        hold_time,
        keepalive: keepalive(config, hold_time),
        shared: shared(ours, theirs),
        restart: match config.graceful_restart {
            PeerRestart::Disabled => None,
            PeerRestart::Enabled { .. } => restart(theirs).cloned(),
        },
        long_lived: match (config.graceful_restart, config.long_lived) {
            (PeerRestart::Enabled { .. }, Some(_)) if restart(theirs).is_some() => {
                long_lived_of(theirs)
            }
            (PeerRestart::Enabled { .. } | PeerRestart::Disabled, _) => Vec::new(),
        },
        who: introduction::introduced(theirs),
    })
}

/// RFC 9234 §4.2.
fn check_roles(config: &PeerConfig, theirs: &Open) -> Result<(), Unacceptable> {
    let Some(PeerRole { role, silent }) = config.role else { return Ok(()) };
    let named = |capability: &Capability| {
        if let Capability::Role(role) = capability { Some(*role) } else { None }
    };
    let mut said = theirs.capabilities.iter().filter_map(named).peekable();
    if said.peek().is_none() && silent == SilentPeer::Refused {
        let text = format!("the peer does not say its role; we are its {role}");
        return Err(unacceptable(open_error::ROLE_MISMATCH, text));
    }
    let wanted = role.counterpart();
    match said.find(|said| *said != wanted.octet()) {
        None => Ok(()),
        Some(other) => {
            let text =
                format!("the peer's role is {other} (RFC 9234), not {wanted}: we are its {role}");
            Err(unacceptable(open_error::ROLE_MISMATCH, text))
        }
    }
}

/// RFC 4760 §8: without the capability, a speaker does IPv4 unicast only.
fn offered(open: &Open) -> FamilySet {
    let named = |capability: &Capability| {
        if let Capability::MultiProtocol(family) = capability { Some(*family) } else { None }
    };
    let mut families = open.capabilities.iter().filter_map(named).peekable();
    if families.peek().is_none() {
        return [Family::Ipv4].into_iter().collect();
    }
    families.filter_map(crate::wire::AfiSafi::family).collect()
}

fn multiprotocol(family: Family) -> [u8; 6] {
    let [high, low] = crate::wire::AfiSafi::from(family).afi.to_be_bytes();
    [crate::wire::iana::capability::MULTIPROTOCOL, 4, high, low, 0, 1]
}

fn codec(kind: PeerKind, families: FamilySet, ours: &Open, theirs: &Open) -> Codec {
    let mut codec = Codec::baseline(kind);
    codec.families = families;
    if theirs.capabilities.iter().any(|each| matches!(each, Capability::FourOctetAs(_))) {
        codec.asn_width = AsnWidth::Four;
    }
    let over_ipv6 = |open: &Open| {
        open.capabilities.iter().any(|each| {
            let wanted = (Family::Ipv4.into(), afi::IPV6);
            matches!(each, Capability::ExtendedNextHop(list) if list.contains(&wanted))
        })
    };
    if over_ipv6(ours) && over_ipv6(theirs) {
        codec.extended_next_hop.insert(Family::Ipv4);
    }
    // RFC 8654 §4: once both have said so, either may send long messages.
    let long = |open: &Open| open.capabilities.contains(&Capability::ExtendedMessage);
    if long(ours) && long(theirs) {
        codec.message_size = MessageSize::Extended;
    }
    for family in families.iter() {
        let [ours, theirs] = [ours, theirs].map(|open| add_path_of(open, family));
        if ours.is_some_and(AddPathMode::receives) && theirs.is_some_and(AddPathMode::sends) {
            codec.add_path_receive.insert(family);
        }
        if ours.is_some_and(AddPathMode::sends) && theirs.is_some_and(AddPathMode::receives) {
            codec.add_path_send.insert(family);
        }
    }
    codec
}

/// What an OPEN says of several paths per prefix. RFC 7911 §4: of two entries for one family, the
/// first counts.
fn add_path_of(open: &Open, family: Family) -> Option<AddPathMode> {
    let entries = open
        .capabilities
        .iter()
        .flat_map(|each| if let Capability::AddPath(list) = each { list.as_slice() } else { &[] });
    let mut modes = entries.filter(|(each, _)| each.family() == Some(family));
    modes.next().map(|(_, mode)| *mode)
}

fn long_lived_of(open: &Open) -> Vec<LongLivedFamily> {
    let named = open.capabilities.iter().rev().find_map(|each| {
        if let Capability::LongLivedGracefulRestart(list) = each { Some(list) } else { None }
    });
    named.cloned().unwrap_or_default()
}

fn shared(ours: &Open, theirs: &Open) -> Vec<u8> {
    let theirs: Vec<u8> = theirs.capabilities.iter().map(Capability::code).collect();
    let mut codes: Vec<u8> = ours.capabilities.iter().map(Capability::code).collect();
    codes.retain(|code| theirs.contains(code));
    codes.dedup();
    codes
}

/// RFC 4724 §3: the last one counts.
fn restart(open: &Open) -> Option<&GracefulRestart> {
    open.capabilities.iter().rev().find_map(|each| {
        if let Capability::GracefulRestart(restart) = each { Some(restart) } else { None }
    })
}

/// RFC 4271 §4.4: a third of the hold time, or less if the operator wants; none without one.
fn keepalive(config: &PeerConfig, hold_time: HoldTime) -> Option<Duration> {
    let most = Duration::from_secs(hold_time.secs().into()) / 3;
    let wanted = config.keepalive.unwrap_or(most).min(most);
    (hold_time.secs() != 0).then(|| wanted.max(Duration::from_secs(1)))
}

/// The BGP Identifier and AS number that a configuration gives us.
pub(crate) fn identity(router_id: Ipv4Addr, own: OwnAs<'_>, config: &PeerConfig) -> Identity {
    Identity { router_id, asn: own.shown_to(config.remote_as, config.local_as) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const OWN: NonZeroU32 = NonZeroU32::new(65001).unwrap();

    fn config(remote_as: u32) -> PeerConfig {
        PeerConfig::new([10, 0, 0, 2].into(), NonZeroU32::new(remote_as).unwrap())
    }

    fn open(asn: u32, last: u8, config: &PeerConfig) -> Open {
        let ours = Identity { router_id: Ipv4Addr::new(10, 0, 0, last), asn };
        let kind = PeerKind::External;
        our_open(config, ours, kind, (RestartState::Running, Forwarding::Preserved))
    }

    #[test]
    fn two_alike_agree_on_everything() {
        let config = config(65002);
        let (ours, theirs) = (open(65001, 1, &config), open(65002, 2, &config));
        let terms = agree(&config, OWN.into(), &ours, &theirs).unwrap();
        assert_eq!(terms.codec.families, FamilySet::ALL);
        assert_eq!(terms.codec.asn_width, AsnWidth::Four);
        assert_eq!(terms.keepalive, Some(Duration::from_secs(30)));
        assert_eq!(terms.preserved(), FamilySet::ALL);
    }

    #[test]
    fn what_does_not_fit_has_its_own_subcode() {
        let (ours, wrong) = (config(65002), config(65003));
        let check = |config: &PeerConfig, a: &Open, b: &Open| {
            agree(config, OWN.into(), a, b).unwrap_err().notification.subcode
        };
        assert_eq!(check(&wrong, &open(65001, 1, &ours), &open(65002, 2, &ours)), 2);
        assert_eq!(check(&ours, &open(65002, 1, &ours), &open(65002, 1, &ours)), 3);
        let mut ipv6 = ours.clone();
        ipv6.families.remove(Family::Ipv4);
        let mut bare = open(65002, 2, &ours);
        bare.capabilities.clear();
        assert_eq!(check(&ipv6, &open(65001, 1, &ipv6), &bare), 7);
    }

    /// calico#9575: a fifth of the nodes sent the F bit as 0.
    #[test]
    fn a_restarted_speaker_sends_the_r_and_f_bits() {
        let ours = Identity { router_id: Ipv4Addr::new(10, 0, 0, 1), asn: 65001 };
        let restart = (RestartState::Restarted, Forwarding::Preserved);
        let open = our_open(&config(65002), ours, PeerKind::External, restart);
        let mut bytes = Vec::new();
        open.emit(&mut bytes);
        // Code 64, length 10: R and N with 120 s, then both families with F.
        let expected = [64, 10, 0xC0, 120, 0, 1, 1, 0x80, 0, 2, 1, 0x80];
        assert!(bytes.windows(expected.len()).any(|window| window == expected), "{bytes:?}");
    }
}
