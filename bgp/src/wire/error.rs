//! What can be wrong with a received message, typed by what the receiver does about it.
//!
//! A [`MessageError`] ends the session and says which NOTIFICATION to send (RFC 4271 §6). An
//! [`AttributeError`] has a [`Severity`], one row each, with the section of RFC 7606 that rules it.

use std::net::IpAddr;

use super::attribute::AttributeOverflow;
use super::nlri::NlriError;
use super::notification::Notification;
use super::{Family, iana};

/// The message cannot be used and the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An OPEN.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An UPDATE whose parts cannot be told apart or whose prefixes cannot be read.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A ROUTE-REFRESH.
    #[error(transparent)]
    RouteRefresh(#[from] RouteRefreshError),
}

impl MessageError {
    /// The NOTIFICATION that tells the peer.
    #[must_use]
    pub fn notification(&self) -> Notification {
        match self {
            Self::Header(error) => error.notification(),
            Self::Open(error) => error.notification(),
            Self::Update(error) => error.notification(),
            Self::RouteRefresh(error) => error.notification(),
        }
    }
}

/// RFC 4271 §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The marker is not all ones.
    #[error("message marker is not all ones")]
    NotSynchronized,
    /// The length is not possible for the type.
    #[error("message length {0} does not fit its type")]
    BadLength(u16),
    /// The type is not known.
    #[error("message type {0} is not known")]
    BadType(u8),
}

impl HeaderError {
    /// The NOTIFICATION that tells the peer.
    #[must_use]
    pub fn notification(&self) -> Notification {
        use iana::header_error as subcode;
        let (subcode, data) = match self {
            Self::NotSynchronized => (subcode::CONNECTION_NOT_SYNCHRONIZED, vec![]),
            Self::BadLength(length) => (subcode::BAD_MESSAGE_LENGTH, length.to_be_bytes().into()),
            Self::BadType(kind) => (subcode::BAD_MESSAGE_TYPE, vec![*kind]),
        };
        Notification { code: iana::error::MESSAGE_HEADER, subcode, data }
    }
}

/// RFC 4271 §6.2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Version other than 4.
    #[error("BGP version {0} is not supported")]
    Version(u8),
    /// AS number 0 (RFC 7607 §2).
    #[error("AS number 0 in OPEN")]
    ZeroAs,
    /// Router identifier 0 (RFC 6286 §2.2).
    #[error("BGP identifier 0.0.0.0 in OPEN")]
    ZeroIdentifier,
    /// A hold time that is neither 0 nor at least 3.
    #[error("hold time of {0} s is neither 0 nor at least 3 (RFC 4271 §4.2)")]
    HoldTime(u16),
    /// An optional parameter that is not a capability.
    #[error("optional parameter {0} is not known")]
    Parameter(u8),
    /// The parameters do not fill the space they claim, or a capability has a wrong length.
    #[error("malformed OPEN: {0}")]
    Malformed(&'static str),
}

impl OpenError {
    /// The NOTIFICATION that tells the peer.
    #[must_use]
    pub fn notification(&self) -> Notification {
        use iana::open_error as subcode;
        let (subcode, data) = match self {
            Self::Version(_) => (
                subcode::UNSUPPORTED_VERSION_NUMBER,
                u16::from(iana::BGP_VERSION).to_be_bytes().into(),
            ),
            Self::ZeroAs => (subcode::BAD_PEER_AS, vec![]),
            Self::ZeroIdentifier => (subcode::BAD_BGP_IDENTIFIER, vec![]),
            Self::HoldTime(_) => (subcode::UNACCEPTABLE_HOLD_TIME, vec![]),
            Self::Parameter(_) => (subcode::UNSUPPORTED_OPTIONAL_PARAMETER, vec![]),
            Self::Malformed(_) => (subcode::UNSPECIFIC, vec![]),
        };
        Notification { code: iana::error::OPEN_MESSAGE, subcode, data }
    }
}

/// RFC 4271 §6.3, as far as RFC 7606 left it: what cannot be mended by withdrawing routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Withdrawn routes length or total attribute length run past the message (RFC 7606 §3 (a)).
    #[error("the lengths inside the UPDATE run past its end")]
    Lengths,
    /// The withdrawn or announced prefixes cannot be read (RFC 7606 §3 (j)).
    #[error("{0}")]
    Nlri(#[from] NlriError),
}

impl UpdateError {
    /// The NOTIFICATION that tells the peer.
    #[must_use]
    pub fn notification(&self) -> Notification {
        use iana::update_error as subcode;
        let subcode = match self {
            Self::Lengths => subcode::MALFORMED_ATTRIBUTE_LIST,
            Self::Nlri(_) => subcode::INVALID_NETWORK_FIELD,
        };
        Notification::new(iana::error::UPDATE_MESSAGE, subcode)
    }
}

/// RFC 7313 §5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ROUTE-REFRESH of {} octets", super::header::HEADER_LEN + body.len())]
pub struct RouteRefreshError {
    /// What followed the header.
    pub body: Vec<u8>,
}

impl RouteRefreshError {
    /// The NOTIFICATION that tells the peer; its data is the complete message.
    #[must_use]
    pub fn notification(&self) -> Notification {
        let mut data = Vec::new();
        super::header::emit(&mut data, super::MessageKind::RouteRefresh, |out| {
            out.extend_from_slice(&self.body);
        });
        Notification {
            code: iana::error::ROUTE_REFRESH_MESSAGE,
            subcode: iana::route_refresh_error::INVALID_MESSAGE_LENGTH,
            data,
        }
    }
}

/// What an attribute error costs, mildest first (RFC 7606 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The attribute is dropped, the routes stay.
    AttributeDiscard,
    /// The routes of the UPDATE count as withdrawn.
    TreatAsWithdraw,
    /// All routes of the family go, and nothing more of it is accepted on this session.
    AfiSafiDisable,
    /// The session ends with a NOTIFICATION.
    SessionReset,
}

/// What is wrong with the path attributes of an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The attribute list ends inside an attribute.
    #[error("the attribute list ends inside attribute {0}")]
    Truncated(u8),
    /// Optional or transitive bit does not fit the type.
    #[error("{} has flags {flags:#04x}", iana::attribute::name(*code))]
    Flags {
        /// Type code.
        code: u8,
        /// Flags octet as received.
        flags: u8,
    },
    /// The length is not possible for the type.
    #[error("{} is {len} octets long", iana::attribute::name(*code))]
    Length {
        /// Type code.
        code: u8,
        /// Length as received.
        len: usize,
    },
    /// A mandatory attribute is absent.
    #[error("{} is missing", iana::attribute::name(*.0))]
    Missing(u8),
    /// Flagged well-known, and we do not know it.
    #[error("well-known attribute {0} is not known")]
    UnknownWellKnown(u8),
    /// ORIGIN is none of the three.
    #[error("ORIGIN {0} is not defined")]
    Origin(u8),
    /// A segment overruns the attribute, has no AS, or is of no known type.
    #[error("{} cannot be read", iana::attribute::name(*.0))]
    AsPath(u8),
    /// The path of an old speaker is too long for one attribute once its AS numbers take four octets.
    #[error(transparent)]
    Overflow(AttributeOverflow),
    /// AS 0 in AS_PATH, AS4_PATH, AGGREGATOR or AS4_AGGREGATOR.
    #[error("{} contains AS 0", iana::attribute::name(*.0))]
    ZeroAs(u8),
    /// AS_SET or AS_CONFED_SET.
    #[error("{} contains an AS_SET", iana::attribute::name(*.0))]
    AsSet(u8),
    /// Confederation segments from a peer that is not in our confederation.
    #[error("AS_PATH contains a confederation segment")]
    Confederation,
    /// Another Member-AS has not put its number there.
    #[error("AS_PATH does not begin with a confederation segment")]
    NotOfConfederation,
    /// NEXT_HOP is no host address.
    #[error("NEXT_HOP {0} is not a host address")]
    NextHop(IpAddr),
    /// An attribute that only an internal peer may send.
    #[error("{} from an external peer", iana::attribute::name(*.0))]
    FromExternalPeer(u8),
    /// AS4_PATH or AS4_AGGREGATOR from a peer with four-octet AS numbers.
    #[error("{} from a peer with four-octet AS numbers", iana::attribute::name(*.0))]
    FromNewSpeaker(u8),
    /// Another than MP_REACH_NLRI or MP_UNREACH_NLRI appears again; the first one counts.
    #[error("attribute {0} appears more than once")]
    Duplicate(u8),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI appears again.
    #[error("{} appears more than once", iana::attribute::name(*.0))]
    DuplicateMp(u8),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI is too short to name its family.
    #[error("{} of {len} octets is too short", iana::attribute::name(*code))]
    MpTooShort {
        /// Type code.
        code: u8,
        /// Length as received.
        len: usize,
    },
    /// The next hop of MP_REACH_NLRI has a length that the family and session do not allow.
    #[error("next hop of {len} octets for {family}")]
    MpNextHop {
        /// Family of the attribute.
        family: Family,
        /// Length octet as received.
        len: u8,
    },
    /// The prefixes of MP_REACH_NLRI or MP_UNREACH_NLRI cannot be read.
    #[error("{}: {error}", iana::attribute::name(*code))]
    MpNlri {
        /// Type code.
        code: u8,
        /// What is wrong.
        error: NlriError,
        /// Family of the attribute.
        family: Family,
    },
}

impl AttributeError {
    /// What the error costs. RFC 7606 §5.2 may raise it: see [`super::check`].
    #[must_use]
    pub fn severity(&self) -> Severity {
        use iana::attribute as a;
        match self {
            Self::Truncated(_) => Severity::TreatAsWithdraw, // RFC 7606 §4
            Self::Flags { .. } => Severity::TreatAsWithdraw, // §3 (c)
            Self::Missing(_) => Severity::TreatAsWithdraw,   // §3 (d)
            Self::UnknownWellKnown(_) => Severity::SessionReset, // RFC 4271 §6.3, not revised
            Self::Length { code, .. } => match *code {
                a::ATOMIC_AGGREGATE | a::AGGREGATOR => Severity::AttributeDiscard, // §7.6, §7.7
                a::AS4_PATH | a::AS4_AGGREGATOR => Severity::AttributeDiscard,     // RFC 6793 §6
                _ => Severity::TreatAsWithdraw, // §7.1-7.5, 7.8-7.10, 7.14, 7.15; RFC 8092 §6
            },
            Self::Origin(_) => Severity::TreatAsWithdraw, // §7.1
            Self::AsPath(code) => match *code {
                a::AS4_PATH => Severity::AttributeDiscard, // RFC 6793 §6
                _ => Severity::TreatAsWithdraw,            // §7.2
            },
            Self::ZeroAs(code) => match *code {
                a::AS_PATH => Severity::TreatAsWithdraw, // RFC 7607 §2
                _ => Severity::AttributeDiscard,         // RFC 7607 §2 with RFC 6793 §6, §7.7
            },
            // §7.2, as nobody else could be told of it: RFC 8654 §4
            Self::Overflow(_) => Severity::TreatAsWithdraw,
            Self::AsSet(_) => Severity::TreatAsWithdraw, // RFC 9774 §3
            // RFC 5065 §5 with §7.2
            Self::Confederation | Self::NotOfConfederation => Severity::TreatAsWithdraw,
            Self::NextHop(_) => Severity::TreatAsWithdraw, // §7.3
            Self::FromExternalPeer(_) => Severity::AttributeDiscard, // §7.5, 7.9, 7.10
            Self::FromNewSpeaker(_) => Severity::AttributeDiscard, // RFC 6793 §6
            Self::Duplicate(_) => Severity::AttributeDiscard, // §3 (g)
            Self::DuplicateMp(_) => Severity::SessionReset, // §3 (g)
            Self::MpTooShort { .. } => Severity::SessionReset, // §5.3
            Self::MpNextHop { .. } => Severity::AfiSafiDisable, // §7.11
            Self::MpNlri { .. } => Severity::AfiSafiDisable, // §5.3, RFC 4760 §7
        }
    }

    /// The family to disable, when that is the severity.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        if let Self::MpNextHop { family, .. } | Self::MpNlri { family, .. } = self {
            Some(*family)
        } else {
            None
        }
    }

    /// The NOTIFICATION, for when the session has to end over this error. `attribute` is the whole
    /// attribute as received, which most of the subcodes show to the peer (RFC 4271 §6.3).
    #[must_use]
    pub fn notification(&self, attribute: &[u8]) -> Notification {
        use iana::update_error as subcode;
        let (subcode, data) = match self {
            Self::Truncated(_) | Self::Duplicate(_) | Self::DuplicateMp(_) => {
                (subcode::MALFORMED_ATTRIBUTE_LIST, &[][..])
            }
            Self::Flags { .. } => (subcode::ATTRIBUTE_FLAGS_ERROR, attribute),
            Self::Length { .. } => (subcode::ATTRIBUTE_LENGTH_ERROR, attribute),
            Self::Missing(code) => (subcode::MISSING_WELL_KNOWN_ATTRIBUTE, &[*code][..]),
            Self::UnknownWellKnown(_) => (subcode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE, attribute),
            Self::Origin(_) => (subcode::INVALID_ORIGIN_ATTRIBUTE, attribute),
            Self::NextHop(_) => (subcode::INVALID_NEXT_HOP_ATTRIBUTE, attribute),
            Self::AsPath(_)
            | Self::Overflow(_)
            | Self::ZeroAs(_)
            | Self::AsSet(_)
            | Self::Confederation
            | Self::NotOfConfederation => (subcode::MALFORMED_AS_PATH, &[][..]),
            Self::FromExternalPeer(_)
            | Self::FromNewSpeaker(_)
            | Self::MpTooShort { .. }
            | Self::MpNextHop { .. }
            | Self::MpNlri { .. } => (subcode::OPTIONAL_ATTRIBUTE_ERROR, attribute),
        };
        Notification { code: iana::error::UPDATE_MESSAGE, subcode, data: data.to_vec() }
    }
}
