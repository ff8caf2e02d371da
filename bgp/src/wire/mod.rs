//! The BGP wire format: bytes to values and back, and nothing else.
//!
//! Received messages are views over the read buffer: [`frame`] finds a message, [`Message::parse`]
//! tells its kind and parts apart, [`check`] judges the attributes of an UPDATE and makes the
//! canonical block that the table interns. On the way out, [`Rewrite`] edits such a block for a
//! peer and [`announce`] packs it with prefixes. No session state lives here: what two speakers
//! agreed on comes in as a [`Codec`].
//!
//! | RFC | here | where |
//! |---|---|---|
//! | 4271 §4, §6 | messages, errors and their NOTIFICATIONs | `header`, `open`, `update`, `error` |
//! | 4760, 2545 | MP_REACH_NLRI, MP_UNREACH_NLRI; global and link-local next hop | `check`, `next_hop`, `pack` |
//! | 8950 | IPv4 prefixes with an IPv6 next hop | `next_hop`, `pack` |
//! | 5492, 9072 | capabilities; extended optional parameters | `capability`, `open` |
//! | 6793 | four-octet AS numbers, AS4_PATH from and to old speakers | `as_path`, `check`, `rewrite` |
//! | 2918, 7313 | ROUTE-REFRESH, enhanced | `route_refresh` |
//! | 4724, 8538, 9494 | graceful restart capabilities (R, N, F bits), End-of-RIB | `capability`, `pack` |
//! | 7911 | path identifiers | `nlri` |
//! | 8654 | messages up to 65535 octets | `header`, `codec` |
//! | 1997, 4360, 5701, 8092 | communities (5701: carried, not decoded); what is not transitive | `community`, `attribute`, `rewrite` |
//! | 8326, 7999, 9494 | well-known communities as marks | `summary` |
//! | 4486, 9003, 8538, 9384, 9687 | NOTIFICATION codes, shutdown text, hard reset | `notification` |
//! | 7606 | revised error handling | `error`, `check` |
//! | 7607 | AS 0 | `as_path`, `check`, `open` |
//! | 9774 | AS_SET is refused | `as_path` |
//! | 4456 | ORIGINATOR_ID, CLUSTER_LIST | `check`, `rewrite` |
//! | 9234 | role capability and ONLY_TO_CUSTOMER: carried, not acted on | `capability`, `attribute` |
//! | 5065 | AS_CONFED_SEQUENCE from members alone; AS_CONFED_SET is refused (9774) | `as_path`, `rewrite` |

pub mod as_path;
pub mod attribute;
mod canonical;
pub mod capability;
mod check;
mod codec;
mod community;
pub mod error;
mod family;
mod header;
pub mod iana;
mod next_hop;
pub mod nlri;
pub mod notification;
mod open;
mod pack;
mod prefix;
mod rewrite;
mod route_refresh;
mod summary;
mod update;

#[cfg(test)]
pub(crate) mod tests;

pub use as_path::AsPath;
pub use attribute::{Aggregator, AttributeOverflow, Attributes, Origin, RawAttribute};
pub use canonical::{Scratch, canonical_form_is_stable, stretched};
pub use capability::Capability;
pub use check::{Checked, Fault, Reach, check};
pub use codec::{AsnWidth, Codec, ConfedSegments, MessageSize, PeerKind};
pub use community::{Community, ExtendedCommunity, InvalidCommunity, LargeCommunity};
pub use error::{AttributeError, MessageError, Severity};
pub use family::{AfiSafi, Family, FamilySet};
pub use header::{Frame, HEADER_LEN, MessageKind, frame};
pub use next_hop::NextHop;
pub use nlri::{Nlri, PathIds};
pub use notification::{Cease, Notification};
pub use open::{HoldTime, Open};
pub use pack::{AttributesTooLong, announce, dumped, end_of_rib, withdraw};
pub use prefix::{InvalidPrefixLength, Prefix};
pub use rewrite::{
    ConfedEdit, Edit, ListEdit, PrivateEdit, Reflection, Rewrite, aggregated, originated,
};
pub use route_refresh::{Refresh, RouteRefresh};
pub use summary::{Marks, Summary};
pub use update::Update;

/// A message, parsed as far as it can be without the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Opens the session.
    Open(Open),
    /// Announces and withdraws routes.
    Update(Update<'a>),
    /// Ends the session.
    Notification(Notification),
    /// Says that the speaker lives.
    Keepalive,
    /// Asks for routes again.
    RouteRefresh(RouteRefresh),
}

impl<'a> Message<'a> {
    /// Reads the body of a framed message.
    ///
    /// # Errors
    /// When the session has to end; the error knows the NOTIFICATION to send.
    pub fn parse(frame: Frame<'a>, codec: &Codec) -> Result<Self, MessageError> {
        Ok(match frame.kind {
            MessageKind::Open => Self::Open(Open::parse(frame.body)?),
            MessageKind::Update => Self::Update(Update::parse(frame.body, codec)?),
            MessageKind::Notification => Self::Notification(Notification::parse(frame.body)),
            MessageKind::Keepalive => Self::Keepalive,
            MessageKind::RouteRefresh => Self::RouteRefresh(RouteRefresh::parse(frame.body)?),
        })
    }
}

/// Appends a KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    header::emit(out, MessageKind::Keepalive, |_| {});
}

/// For the fuzz target: a message that was read, written and read again is the same.
///
/// # Panics
/// When it is not.
pub fn reencode_is_stable(bytes: &[u8], codec: &Codec) {
    let Ok(Some(framed)) = frame(bytes, codec.message_size) else { return };
    let Ok(first) = Message::parse(framed, codec) else { return };
    let mut again = Vec::new();
    match &first {
        Message::Open(open) => open.emit(&mut again),
        Message::Notification(notification) => notification.emit(&mut again),
        Message::Keepalive => keepalive(&mut again),
        Message::RouteRefresh(refresh) => refresh.emit(&mut again),
        Message::Update(update) => return canonical_form_is_stable(update, codec),
    }
    let framed = frame(&again, codec.message_size).ok().flatten().expect("we write whole messages");
    let second = Message::parse(framed, codec).expect("what we write can be read");
    match (&first, &second) {
        // An unknown subtype is ignored, body and all; a long NOTIFICATION is cut.
        (Message::Notification(a), Message::Notification(b)) => {
            assert_eq!((a.code, a.subcode), (b.code, b.subcode));
            assert!(a.data.starts_with(&b.data));
        }
        _ => assert_eq!(first, second),
    }
}
