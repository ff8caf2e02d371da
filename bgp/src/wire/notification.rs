//! NOTIFICATION: the last message of a session, and why (RFC 4271 §4.5).

use std::fmt;

use super::header::{self, MessageKind};
use super::iana;

/// The reasons of a Cease (RFC 4486, RFC 8538 §3, RFC 9384 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cease {
    /// More prefixes than the configured maximum.
    MaximumPrefixes,
    /// The operator shut the session down.
    AdministrativeShutdown,
    /// The peer is no longer configured.
    PeerDeconfigured,
    /// The operator restarts the session.
    AdministrativeReset,
    /// The connection is refused.
    ConnectionRejected,
    /// The configuration changed in a way that needs a new session.
    OtherConfigurationChange,
    /// The other of two colliding connections was kept (RFC 4271 §6.8).
    CollisionResolution,
    /// Out of memory or the like.
    OutOfResources,
    /// End the session for good: no graceful restart (RFC 8538 §3.1).
    HardReset,
    /// BFD says that the path to the peer is down (RFC 9384).
    BfdDown,
}

impl Cease {
    const NAMES: [(Self, u8, &'static str); 10] = [
        (Self::MaximumPrefixes, 1, "maximum number of prefixes reached"),
        (Self::AdministrativeShutdown, 2, "administrative shutdown"),
        (Self::PeerDeconfigured, 3, "peer de-configured"),
        (Self::AdministrativeReset, 4, "administrative reset"),
        (Self::ConnectionRejected, 5, "connection rejected"),
        (Self::OtherConfigurationChange, 6, "other configuration change"),
        (Self::CollisionResolution, 7, "connection collision resolution"),
        (Self::OutOfResources, 8, "out of resources"),
        (Self::HardReset, 9, "hard reset"),
        (Self::BfdDown, 10, "BFD down"),
    ];

    /// The subcode.
    #[must_use]
    pub fn subcode(self) -> u8 {
        let row = Self::NAMES.iter().find(|row| row.0 == self);
        row.expect("each reason has a row").1
    }

    /// The reason with this subcode, if it is assigned.
    #[must_use]
    pub fn from_subcode(subcode: u8) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.1 == subcode).map(|row| row.0)
    }
}

impl fmt::Display for Cease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|row| row.0 == *self).expect("each reason has a row").2)
    }
}

/// A NOTIFICATION as sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code (`iana::error`).
    pub code: u8,
    /// Error subcode; its meaning depends on the code.
    pub subcode: u8,
    /// Evidence; its form depends on code and subcode.
    pub data: Vec<u8>,
}

/// The longest shutdown message in octets (RFC 9003 §2).
const SHUTDOWN_MESSAGE_MAX: usize = 255;

impl Notification {
    /// Without data.
    #[must_use]
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// A Cease without text.
    #[must_use]
    pub fn cease(reason: Cease) -> Self {
        Self::new(iana::error::CEASE, reason.subcode())
    }

    /// A Cease with a text for the other operator (RFC 9003 §2), cut at 255 octets. Only
    /// administrative shutdown and reset carry one; other reasons go without.
    #[must_use]
    pub fn cease_with_text(reason: Cease, text: &str) -> Self {
        let mut notification = Self::cease(reason);
        if notification.may_carry_text() && !text.is_empty() {
            let cut = &text[..text.floor_char_boundary(SHUTDOWN_MESSAGE_MAX)];
            notification.data.push(u8::try_from(cut.len()).expect("cut at 255 octets"));
            notification.data.extend_from_slice(cut.as_bytes());
        }
        notification
    }

    /// A hard reset that wraps this reason (RFC 8538 §3.1): the peer must not keep our routes.
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut hard = Self::cease(Cease::HardReset);
        hard.data = [&[self.code, self.subcode], &self.data[..]].concat();
        hard
    }

    /// The reason inside a hard reset, or the notification itself.
    #[must_use]
    pub fn unwrapped(&self) -> Self {
        match (self.reason(), &self.data[..]) {
            (Some(Cease::HardReset), [code, subcode, data @ ..]) => {
                Self { code: *code, subcode: *subcode, data: data.to_vec() }
            }
            _ => self.clone(),
        }
    }

    /// Why the session ceased, if the code is Cease and the subcode is known.
    #[must_use]
    pub fn reason(&self) -> Option<Cease> {
        (self.code == iana::error::CEASE).then(|| Cease::from_subcode(self.subcode)).flatten()
    }

    /// The text of the other operator (RFC 9003), with invalid UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let (&len, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(len))?;
        (self.may_carry_text() && len > 0).then(|| String::from_utf8_lossy(text).into_owned())
    }

    fn may_carry_text(&self) -> bool {
        matches!(self.reason(), Some(Cease::AdministrativeShutdown | Cease::AdministrativeReset))
    }

    /// Reads the body of a message.
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        // [`super::frame`] made sure of two octets.
        let (&[code, subcode], data) = body.split_first_chunk().unwrap_or((&[0, 0], &[]));
        Self { code, subcode, data: data.to_vec() }
    }

    /// Appends the whole message. Data beyond the standard message size is cut.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let room = super::MessageSize::Standard.octets() - header::HEADER_LEN - 2;
        header::emit(out, MessageKind::Notification, |out| {
            out.extend_from_slice(&[self.code, self.subcode]);
            out.extend_from_slice(&self.data[..self.data.len().min(room)]);
        });
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.reason() {
            write!(f, "cease, {reason}")?;
            if reason == Cease::HardReset && self.data.len() >= 2 {
                write!(f, " ({})", self.unwrapped())?;
            }
        } else {
            f.write_str(code_name(self.code))?;
            match subcode_name(self.code, self.subcode) {
                Some(name) => write!(f, ", {name}")?,
                None if self.subcode == 0 => {}
                None => write!(f, ", subcode {}", self.subcode)?,
            }
        }
        self.text().map_or(Ok(()), |text| write!(f, ": {text:?}"))
    }
}

fn code_name(code: u8) -> &'static str {
    match code {
        iana::error::MESSAGE_HEADER => "message header error",
        iana::error::OPEN_MESSAGE => "OPEN message error",
        iana::error::UPDATE_MESSAGE => "UPDATE message error",
        iana::error::HOLD_TIMER_EXPIRED => "hold timer expired",
        iana::error::FINITE_STATE_MACHINE => "finite state machine error",
        iana::error::CEASE => "cease",
        iana::error::ROUTE_REFRESH_MESSAGE => "ROUTE-REFRESH message error",
        iana::error::SEND_HOLD_TIMER_EXPIRED => "send hold timer expired",
        _ => "unknown error code",
    }
}

fn subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
    use iana::{error, fsm_error, header_error, open_error, route_refresh_error, update_error};
    let name = match (code, subcode) {
        (error::MESSAGE_HEADER, header_error::CONNECTION_NOT_SYNCHRONIZED) => {
            "connection not synchronized"
        }
        (error::MESSAGE_HEADER, header_error::BAD_MESSAGE_LENGTH) => "bad message length",
        (error::MESSAGE_HEADER, header_error::BAD_MESSAGE_TYPE) => "bad message type",
        (error::OPEN_MESSAGE, open_error::UNSUPPORTED_VERSION_NUMBER) => {
            "unsupported version number"
        }
        (error::OPEN_MESSAGE, open_error::BAD_PEER_AS) => "bad peer AS",
        (error::OPEN_MESSAGE, open_error::BAD_BGP_IDENTIFIER) => "bad BGP identifier",
        (error::OPEN_MESSAGE, open_error::UNSUPPORTED_OPTIONAL_PARAMETER) => {
            "unsupported optional parameter"
        }
        (error::OPEN_MESSAGE, open_error::UNACCEPTABLE_HOLD_TIME) => "unacceptable hold time",
        (error::OPEN_MESSAGE, open_error::UNSUPPORTED_CAPABILITY) => "unsupported capability",
        (error::OPEN_MESSAGE, open_error::ROLE_MISMATCH) => "role mismatch",
        (error::UPDATE_MESSAGE, update_error::MALFORMED_ATTRIBUTE_LIST) => {
            "malformed attribute list"
        }
        (error::UPDATE_MESSAGE, update_error::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE) => {
            "unrecognized well-known attribute"
        }
        (error::UPDATE_MESSAGE, update_error::MISSING_WELL_KNOWN_ATTRIBUTE) => {
            "missing well-known attribute"
        }
        (error::UPDATE_MESSAGE, update_error::ATTRIBUTE_FLAGS_ERROR) => "attribute flags error",
        (error::UPDATE_MESSAGE, update_error::ATTRIBUTE_LENGTH_ERROR) => "attribute length error",
        (error::UPDATE_MESSAGE, update_error::INVALID_ORIGIN_ATTRIBUTE) => "invalid ORIGIN",
        (error::UPDATE_MESSAGE, update_error::INVALID_NEXT_HOP_ATTRIBUTE) => "invalid NEXT_HOP",
        (error::UPDATE_MESSAGE, update_error::OPTIONAL_ATTRIBUTE_ERROR) => {
            "optional attribute error"
        }
        (error::UPDATE_MESSAGE, update_error::INVALID_NETWORK_FIELD) => "invalid network field",
        (error::UPDATE_MESSAGE, update_error::MALFORMED_AS_PATH) => "malformed AS_PATH",
        (error::FINITE_STATE_MACHINE, fsm_error::OPEN_SENT) => "unexpected message in OpenSent",
        (error::FINITE_STATE_MACHINE, fsm_error::OPEN_CONFIRM) => {
            "unexpected message in OpenConfirm"
        }
        (error::FINITE_STATE_MACHINE, fsm_error::ESTABLISHED) => {
            "unexpected message in Established"
        }
        (error::ROUTE_REFRESH_MESSAGE, route_refresh_error::INVALID_MESSAGE_LENGTH) => {
            "invalid message length"
        }
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_carries_its_text_and_prints_it() {
        let sent = Notification::cease_with_text(Cease::AdministrativeShutdown, "rack 4 moves");
        assert_eq!(sent.data, b"\x0crack 4 moves");
        assert_eq!(sent.to_string(), "cease, administrative shutdown: \"rack 4 moves\"");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let sent = Notification::cease_with_text(Cease::AdministrativeReset, &"ä".repeat(200));
        assert_eq!(sent.data[0], 254);
        assert_eq!(sent.text(), Some("ä".repeat(127)));
    }

    #[test]
    fn only_shutdown_and_reset_carry_text() {
        let sent = Notification::cease_with_text(Cease::BfdDown, "link");
        assert_eq!((sent.data.len(), sent.text()), (0, None));
    }

    #[test]
    fn a_text_longer_than_its_message_is_no_text() {
        let mut got = Notification::cease(Cease::AdministrativeShutdown);
        got.data = vec![5, b'a'];
        assert_eq!(got.text(), None);
    }

    #[test]
    fn a_hard_reset_wraps_the_reason() {
        let inner = Notification::cease_with_text(Cease::AdministrativeShutdown, "bye");
        let hard = inner.clone().into_hard_reset();
        assert_eq!(hard.data, b"\x06\x02\x03bye");
        assert_eq!(hard.unwrapped(), inner);
        assert_eq!(hard.to_string(), "cease, hard reset (cease, administrative shutdown: \"bye\")");
    }

    #[test]
    fn the_message_is_header_code_subcode_data() {
        let mut out = Vec::new();
        Notification { code: 2, subcode: 1, data: vec![0, 4] }.emit(&mut out);
        assert_eq!(out[16..], [0, 23, 3, 2, 1, 0, 4]);
    }
}
