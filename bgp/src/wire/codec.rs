//! What both ends agreed on that changes how bytes are read and written.

use super::{Family, FamilySet, PathIds};

/// How many octets an AS number takes in AS_PATH and AGGREGATOR (RFC 6793 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AsnWidth {
    /// An "old" speaker: two octets, with AS4_PATH beside.
    Two,
    /// A "new" speaker.
    #[default]
    Four,
}

impl AsnWidth {
    /// Size in octets.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// Whether the peer is in our AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerKind {
    /// iBGP.
    Internal,
    /// Another Member-AS of our confederation (RFC 5065): as if internal, but for AS_PATH and what
    /// belongs to one Member-AS alone.
    Confederation,
    /// eBGP.
    External,
}

impl PeerKind {
    /// Whether the peer is in the AS that we are to the world.
    #[must_use]
    pub const fn is_within(self) -> bool {
        match self {
            Self::Internal | Self::Confederation => true,
            Self::External => false,
        }
    }
}

/// Where confederation segments may stand on the paths that a peer sends (RFC 5065 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConfedSegments {
    /// Nowhere: one of us is in no confederation, or in another.
    #[default]
    Refused,
    /// Anywhere: the peer is in our Member-AS.
    Allowed,
    /// First of all: the peer is in another Member-AS, whose number has to be there.
    First,
}

/// The longest UPDATE, NOTIFICATION or ROUTE-REFRESH that may be sent (RFC 8654 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MessageSize {
    /// 4096 octets.
    #[default]
    Standard,
    /// 65535 octets.
    Extended,
}

impl MessageSize {
    /// In octets, header included.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::Standard => 4096,
            Self::Extended => 65535,
        }
    }
}

/// The agreed encoding of one session. `Copy` and comparable: sessions with equal codecs and equal
/// policy can share encoded messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec {
    /// Whether the peer is in our AS; decides which attributes it may send (RFC 7606 §7).
    pub peer: PeerKind,
    /// Whether AS_PATH may have, or has to have, confederation segments.
    pub confed_segments: ConfedSegments,
    /// Width of AS numbers, both ways.
    pub asn_width: AsnWidth,
    /// Families that both ends announced (RFC 4760 §8).
    pub families: FamilySet,
    /// Families in which the peer sends path identifiers.
    pub add_path_receive: FamilySet,
    /// Families in which we send path identifiers.
    pub add_path_send: FamilySet,
    /// Families of which a next hop may be IPv6 though they are not (RFC 8950).
    pub extended_next_hop: FamilySet,
    /// Longest message, both ways.
    pub message_size: MessageSize,
}

impl Codec {
    /// What holds before any capability is agreed on: IPv4 unicast, two-octet AS numbers.
    #[must_use]
    pub fn baseline(peer: PeerKind) -> Self {
        Self {
            peer,
            confed_segments: match peer {
                PeerKind::Internal | PeerKind::External => ConfedSegments::Refused,
                PeerKind::Confederation => ConfedSegments::First,
            },
            asn_width: AsnWidth::Two,
            families: FamilySet::from_iter([Family::Ipv4]),
            add_path_receive: FamilySet::EMPTY,
            add_path_send: FamilySet::EMPTY,
            extended_next_hop: FamilySet::EMPTY,
            message_size: MessageSize::Standard,
        }
    }

    /// Form of the prefixes that the peer sends.
    #[must_use]
    pub const fn received_path_ids(&self, family: Family) -> PathIds {
        if self.add_path_receive.contains(family) { PathIds::Present } else { PathIds::Absent }
    }

    /// Form of the prefixes that we send.
    #[must_use]
    pub const fn sent_path_ids(&self, family: Family) -> PathIds {
        if self.add_path_send.contains(family) { PathIds::Present } else { PathIds::Absent }
    }

    /// The encodings that differ most, for the fuzz targets: old and new speakers of all kinds,
    /// everything off and everything on, and old speakers of long messages: what they send grows most.
    pub fn samples() -> impl Iterator<Item = Self> {
        let kinds = [PeerKind::Internal, PeerKind::Confederation, PeerKind::External];
        kinds.into_iter().flat_map(|peer| {
            let old = Self::baseline(peer);
            let confed_segments = match peer {
                PeerKind::Internal => ConfedSegments::Allowed,
                PeerKind::Confederation | PeerKind::External => old.confed_segments,
            };
            let full = Self {
                peer,
                confed_segments,
                asn_width: AsnWidth::Four,
                families: FamilySet::ALL,
                add_path_receive: FamilySet::ALL,
                add_path_send: FamilySet::ALL,
                extended_next_hop: FamilySet::ALL,
                message_size: MessageSize::Extended,
            };
            [old, full, Self { asn_width: AsnWidth::Two, ..full }]
        })
    }
}
