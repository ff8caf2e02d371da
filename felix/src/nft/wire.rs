//! Netlink messages and attributes: alignment, nesting, bounds. What every netlink family shares.

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 0x8000;
/// The flags in an attribute's type (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

/// Builds a run of netlink messages.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends one message; `body` writes what follows the header.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(self);
        let len = u32::try_from(self.bytes.len() - start).expect("one message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Sets flags of the message that starts at `start`.
    pub(crate) fn add_flags(&mut self, start: usize, flags: u16) {
        let at = start + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Appends raw bytes (a family's fixed header).
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute_with(kind, |w| w.raw(value));
    }

    /// A number in network byte order.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A number in the host's byte order.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A string with its final zero.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute_with(kind, |w| {
            w.raw(value.as_bytes());
            w.raw(&[0]);
        });
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute_with(kind | NESTED, body);
    }

    /// A nest without the flag that says so, as the older families have it.
    pub(crate) fn plain_nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute_with(kind, body);
    }

    fn attribute_with(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let len = u16::try_from(self.bytes.len() - start)
            .expect("lists of elements are split, everything else is short");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The header of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) port: u32,
}

/// The messages of one datagram. Ends at the first that is cut short.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::try_from(ne32(bytes)?).ok()?;
        let message = bytes.get(..len).filter(|_| len >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        let header = Header {
            kind: ne16(&message[4..])?,
            flags: ne16(&message[6..])?,
            seq: ne32(&message[8..])?,
            port: ne32(&message[12..])?,
        };
        Some((header, &message[HEADER..]))
    })
}

/// The attributes in a payload, types without their flags. Ends at the first that is cut short.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(ne16(bytes)?);
        let kind = ne16(bytes.get(2..)?)? & TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of this type, if it is there.
pub(crate) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(crate) fn ne16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.first_chunk()?))
}

pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.first_chunk()?))
}

/// A string, up to its final zero.
pub(crate) fn string(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.message(7, 5, 42, |w| {
            w.raw(&[1, 0, 0, 0]);
            w.string(1, "abc");
            w.nest(2, |w| w.be32(3, 9));
        });
        let bytes = w.into_bytes();
        let (header, payload) = messages(&bytes).next().unwrap();
        assert_eq!(header, Header { kind: 7, flags: 5, seq: 42, port: 0 });
        assert_eq!(find(&payload[4..], 1).and_then(string), Some("abc"));
        let nested = find(&payload[4..], 2).unwrap();
        assert_eq!(find(nested, 3).and_then(be32), Some(9));
    }

    #[test]
    fn a_message_that_is_cut_short_ends_the_run() {
        let mut w = Writer::default();
        w.message(7, 5, 42, |w| w.string(1, "abc"));
        let bytes = w.into_bytes();
        for end in 0..bytes.len() {
            assert_eq!(messages(&bytes[..end]).count(), 0);
        }
    }
}
