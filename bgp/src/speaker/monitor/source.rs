//! All that a station may be told, as it is now.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::bmp::PeerHeader;
use crate::rib::Rib;
use crate::rib::group::Groups;
use crate::rib::path::PeerIndex;
use crate::session::Peer;
use crate::session::link::Link;
use crate::session::negotiate::Terms;
use crate::speaker::Config;
use crate::wire::{AsnWidth, Capability, Codec, Family, FamilySet, MessageSize, NextHop};
use crate::wire::{HoldTime, Open, PeerKind};

/// The speaker, looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) config: &'a Config,
    pub(super) rib: &'a Rib,
    pub(super) groups: &'a Groups,
    pub(super) peers: &'a BTreeMap<PeerIndex, Box<Peer>>,
    /// The time since the Unix epoch, if it is known.
    pub(super) time: Option<Duration>,
}

/// A session that stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session<'a> {
    pub(super) peer: &'a Peer,
    pub(super) link: &'a Link,
    pub(super) terms: &'a Terms,
}

impl<'a> Source<'a> {
    /// The session of a peer, if it has one.
    pub(super) fn session(&self, index: PeerIndex) -> Option<Session<'a>> {
        let peer = self.peers.get(&index)?;
        let link = peer.line(peer.established()?).link.as_ref()?;
        Some(Session { peer, link, terms: link.terms.as_ref()? })
    }

    /// The time of something that happened.
    pub(super) fn time_of(&self, now: Instant, then: Instant) -> Option<Duration> {
        self.time?.checked_sub(now.duration_since(then))
    }

    /// Ourselves as the peer that the Loc-RIB is (RFC 9069 §4.1).
    pub(super) fn own_header(&self) -> PeerHeader {
        PeerHeader {
            address: Ipv4Addr::UNSPECIFIED.into(),
            asn: self.config.local_as.get(),
            router_id: self.config.router_id,
        }
    }

    /// The OPEN of that peer, which says how its UPDATEs are to be read (RFC 9069 §4.4).
    pub(super) fn own_open(&self) -> Vec<u8> {
        let mut capabilities: Vec<_> = FamilySet::ALL.iter().map(Capability::family).collect();
        capabilities.push(Capability::ExtendedMessage);
        capabilities.push(Capability::FourOctetAs(self.config.local_as.get()));
        let open = Open {
            asn: self.config.local_as.get(),
            hold_time: HoldTime::from_secs(0).expect("zero stands for none"),
            router_id: self.config.router_id,
            capabilities,
        };
        let mut out = Vec::new();
        open.emit(&mut out);
        out
    }
}

impl Session<'_> {
    pub(super) fn header(&self) -> PeerHeader {
        let address: IpAddr = self.peer.address().unwrap_or(self.peer.config.address);
        PeerHeader { address, asn: self.terms.theirs.asn, router_id: self.terms.theirs.router_id }
    }

    /// How what the peer told is written down again: with its path identifiers, and always with
    /// four octets for each AS.
    pub(super) fn codec_in(&self) -> Codec {
        let codec = self.terms.codec;
        Codec { add_path_send: codec.add_path_receive, ..plain(codec.peer) }
    }

    /// How what the peer is told was written to it.
    pub(super) fn codec_out(&self) -> Codec {
        let codec = self.terms.codec;
        let Codec { add_path_send, asn_width, .. } = codec;
        Codec { add_path_send, asn_width, ..plain(codec.peer) }
    }
}

/// The next hop of what we originate, where no session says which.
pub(in crate::speaker) fn own_next_hop(config: &Config, family: Family) -> NextHop {
    match family {
        Family::Ipv4 => NextHop::V4(config.own_ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        Family::Ipv6 => NextHop::V6(config.own_ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED)),
    }
}

/// UPDATEs without anything special.
pub(super) fn plain(peer: PeerKind) -> Codec {
    Codec {
        families: FamilySet::ALL,
        asn_width: AsnWidth::Four,
        message_size: MessageSize::Standard,
        ..Codec::baseline(peer)
    }
}
