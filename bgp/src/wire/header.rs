//! Framing: where a message ends, and what it is (RFC 4271 §4.1, §6.1).

use super::error::HeaderError;
use super::{MessageSize, iana};

/// Octets of marker, length and type.
pub const HEADER_LEN: usize = 19;
const MARKER: [u8; 16] = [0xFF; 16];

/// The kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Opens the session.
    Open,
    /// Announces and withdraws routes.
    Update,
    /// Ends the session.
    Notification,
    /// Says that the speaker lives.
    Keepalive,
    /// Asks for routes again.
    RouteRefresh,
}

impl MessageKind {
    /// Type octet.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => iana::message::OPEN,
            Self::Update => iana::message::UPDATE,
            Self::Notification => iana::message::NOTIFICATION,
            Self::Keepalive => iana::message::KEEPALIVE,
            Self::RouteRefresh => iana::message::ROUTE_REFRESH,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            iana::message::OPEN => Some(Self::Open),
            iana::message::UPDATE => Some(Self::Update),
            iana::message::NOTIFICATION => Some(Self::Notification),
            iana::message::KEEPALIVE => Some(Self::Keepalive),
            iana::message::ROUTE_REFRESH => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    /// Shortest and longest message of this kind. A ROUTE-REFRESH of a wrong length has its own
    /// error (RFC 7313 §5) and is let through here.
    const fn bounds(self, size: MessageSize) -> (usize, usize) {
        match self {
            // RFC 8654 §4: OPEN and KEEPALIVE never grow.
            Self::Open => (29, MessageSize::Standard.octets()),
            Self::Keepalive => (HEADER_LEN, HEADER_LEN),
            Self::Update => (23, size.octets()),
            Self::Notification => (21, size.octets()),
            Self::RouteRefresh => (HEADER_LEN, size.octets()),
        }
    }
}

/// A message that stands at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Kind of message.
    pub kind: MessageKind,
    /// What follows the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Length of the whole message in octets.
    #[must_use]
    pub const fn len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// Whether the message is a bare header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// Finds the message at the start of `bytes`; `None` when it has not wholly arrived.
///
/// A bad header is found as soon as the header is there, however long it claims to be.
///
/// # Errors
/// When marker, length or type are wrong (RFC 4271 §6.1).
pub fn frame(bytes: &[u8], size: MessageSize) -> Result<Option<Frame<'_>>, HeaderError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
    if header[..16] != MARKER {
        return Err(HeaderError::NotSynchronized);
    }
    let claimed = u16::from_be_bytes([header[16], header[17]]);
    let length = usize::from(claimed);
    let Some(kind) = MessageKind::from_code(header[18]) else {
        return Err(HeaderError::BadType(header[18]));
    };
    let (shortest, longest) = kind.bounds(size);
    if !(shortest..=longest).contains(&length) {
        return Err(HeaderError::BadLength(claimed));
    }
    Ok(bytes.get(HEADER_LEN..length).map(|body| Frame { kind, body }))
}

/// Appends a message: the header, then what `body` appends, then the length put in.
///
/// The caller keeps the body within the session's message size.
pub(super) fn emit(out: &mut Vec<u8>, kind: MessageKind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind.code()]);
    body(out);
    let length = u16::try_from(out.len() - start).expect("no message is longer than 65535 octets");
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF; 16];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    #[test]
    fn a_message_is_found_once_it_has_wholly_arrived() {
        let mut bytes = header(23, 2);
        assert_eq!(frame(&bytes[..18], MessageSize::Standard), Ok(None));
        assert_eq!(frame(&bytes, MessageSize::Standard), Ok(None));
        bytes.extend_from_slice(&[0, 0, 0, 0, 0xFF]);
        let found = frame(&bytes, MessageSize::Standard).unwrap().unwrap();
        assert_eq!((found.kind, found.body, found.len()), (MessageKind::Update, &[0; 4][..], 23));
    }

    #[test]
    fn each_kind_has_its_own_shortest_and_longest_length() {
        use HeaderError::{BadLength, BadType};
        for (length, kind, size, expected) in [
            (28, 1, MessageSize::Standard, Err(BadLength(28))),
            (29, 1, MessageSize::Standard, Ok(None)),
            (4097, 1, MessageSize::Extended, Err(BadLength(4097))),
            (22, 2, MessageSize::Standard, Err(BadLength(22))),
            (4097, 2, MessageSize::Standard, Err(BadLength(4097))),
            (65535, 2, MessageSize::Extended, Ok(None)),
            (20, 3, MessageSize::Standard, Err(BadLength(20))),
            (20, 4, MessageSize::Extended, Err(BadLength(20))),
            (18, 4, MessageSize::Standard, Err(BadLength(18))),
            (19, 9, MessageSize::Standard, Err(BadType(9))),
        ] {
            assert_eq!(frame(&header(length, kind), size), expected, "{length} {kind}");
        }
    }

    #[test]
    fn a_broken_marker_means_the_stream_is_out_of_step() {
        let mut bytes = header(19, 4);
        bytes[7] = 0;
        assert_eq!(frame(&bytes, MessageSize::Standard), Err(HeaderError::NotSynchronized));
    }
}
