//! Writes UPDATEs: as many prefixes into each message as fit.
//!
//! Each function appends one message and says how many prefixes went in, so that the caller comes
//! back with the rest.

use std::net::Ipv4Addr;

use super::attribute::{self, Attributes, flags};
use super::header::{self, HEADER_LEN, MessageKind};
use super::iana::attribute as code;
use super::nlri;
use super::{AfiSafi, Codec, Family, NextHop, PathIds, Prefix};

/// The attributes leave no room for the first prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{attributes} octets of path attributes leave no room for a prefix in an UPDATE of {max}")]
pub struct AttributesTooLong {
    /// Length of the attributes in octets.
    pub attributes: usize,
    /// Longest message of the session in octets.
    pub max: usize,
    /// For how many prefixes, from the first on, there is no room; a shorter one may follow. Of very many
    /// not all are looked at: it is at least as many as [`withdraw`] gets into one message.
    pub prefixes: usize,
}

/// Octets of an UPDATE without routes: the header and the two inner lengths.
const BARE: usize = HEADER_LEN + 4;
/// Octets of NEXT_HOP.
const NEXT_HOP_LEN: usize = 7;
/// Octets of flags, type and two-octet length.
const LONG_HEAD: usize = 4;

/// Appends one UPDATE that announces the first of `prefixes`, and returns how many went in.
///
/// `attributes` come from [`super::Rewrite::apply`] and hold no next hop. IPv4 with an IPv4 next
/// hop takes the classic form, everything else MP_REACH_NLRI.
///
/// # Errors
/// When not even one prefix fits; then nothing is appended.
pub fn announce(
    out: &mut Vec<u8>,
    codec: &Codec,
    attributes: &[u8],
    next_hop: NextHop,
    family: Family,
    prefixes: impl IntoIterator<Item = (u32, Prefix)>,
) -> Result<usize, AttributesTooLong> {
    let max = codec.message_size.octets();
    let (field, field_len) = next_hop.octets(family);
    let fixed = match (family, next_hop) {
        (Family::Ipv4, NextHop::V4(_)) => NEXT_HOP_LEN,
        // Family, length of the next hop, the next hop, and a reserved octet.
        (Family::Ipv4 | Family::Ipv6, _) => LONG_HEAD + 3 + 1 + field_len + 1,
    };
    let mut run = Run::new(prefixes, codec.sent_path_ids(family));
    let room = max.checked_sub(BARE + fixed + attributes.len());
    let Some(room) = room.filter(|room| run.fits(*room)) else {
        return if run.is_done() {
            Ok(0)
        } else {
            let prefixes = run.count_too_long(room.unwrap_or(0), max);
            Err(AttributesTooLong { attributes: attributes.len(), max, prefixes })
        };
    };
    header::emit(out, MessageKind::Update, |out| {
        out.extend_from_slice(&[0, 0]);
        if let (Family::Ipv4, NextHop::V4(addr)) = (family, next_hop) {
            with_length(out, |out| put_with_next_hop(out, attributes, addr));
            run.fill(out, room);
        } else {
            with_length(out, |out| {
                // RFC 7606 §5.1: MP_REACH_NLRI comes first.
                put_mp(out, code::MP_REACH_NLRI, family, |out| {
                    out.push(u8::try_from(field_len).expect("at most 32"));
                    out.extend_from_slice(&field[..field_len]);
                    out.push(0);
                    run.fill(out, room);
                });
                out.extend_from_slice(attributes);
            });
        }
    });
    Ok(run.written)
}

/// Appends one UPDATE that withdraws the first of `prefixes`, and returns how many went in; writes
/// nothing when there are none.
pub fn withdraw(
    out: &mut Vec<u8>,
    codec: &Codec,
    family: Family,
    prefixes: impl IntoIterator<Item = (u32, Prefix)>,
) -> usize {
    let mut run = Run::new(prefixes, codec.sent_path_ids(family));
    if run.is_done() {
        return 0;
    }
    let room = codec.message_size.octets() - BARE;
    header::emit(out, MessageKind::Update, |out| match family {
        Family::Ipv4 => {
            with_length(out, |out| run.fill(out, room));
            out.extend_from_slice(&[0, 0]);
        }
        Family::Ipv6 => {
            out.extend_from_slice(&[0, 0]);
            with_length(out, |out| {
                put_mp(out, code::MP_UNREACH_NLRI, family, |out| {
                    run.fill(out, room - LONG_HEAD - 3);
                });
            });
        }
    });
    run.written
}

/// Appends the attributes of a path as a table dump holds them (RFC 6396 §4.3.4): MP_REACH_NLRI has
/// nothing but the next hop, and stands last.
pub fn dumped(out: &mut Vec<u8>, attributes: &[u8], next_hop: NextHop, family: Family) {
    if let (Family::Ipv4, NextHop::V4(addr)) = (family, next_hop) {
        put_with_next_hop(out, attributes, addr);
    } else {
        out.extend_from_slice(attributes);
        let (field, len) = next_hop.octets(family);
        let length = u8::try_from(len).expect("at most 32");
        let value = [&[length], &field[..len]].concat();
        attribute::emit(out, flags::OPTIONAL, code::MP_REACH_NLRI, &value);
    }
}

/// Appends the End-of-RIB marker of a family (RFC 4724 §2).
pub fn end_of_rib(out: &mut Vec<u8>, family: Family) {
    header::emit(out, MessageKind::Update, |out| {
        out.extend_from_slice(&[0, 0]);
        with_length(out, |out| match family {
            Family::Ipv4 => {}
            Family::Ipv6 => put_mp(out, code::MP_UNREACH_NLRI, family, |_| {}),
        });
    });
}

/// The prefixes still to write; one is taken ahead to know whether it fits.
struct Run<I> {
    next: Option<(u32, Prefix)>,
    rest: I,
    path_ids: PathIds,
    written: usize,
}

impl<I: Iterator<Item = (u32, Prefix)>> Run<I> {
    fn new(prefixes: impl IntoIterator<IntoIter = I>, path_ids: PathIds) -> Self {
        let mut rest = prefixes.into_iter();
        Self { next: rest.next(), rest, path_ids, written: 0 }
    }

    const fn is_done(&self) -> bool {
        self.next.is_none()
    }

    fn fits(&self, room: usize) -> bool {
        self.next.is_some_and(|(_, prefix)| nlri::emitted_len(prefix, self.path_ids) <= room)
    }

    /// How many prefixes, of the first `most`, do not fit into `room` octets before one does.
    fn count_too_long(mut self, room: usize, most: usize) -> usize {
        let mut count = 0;
        while count < most && !self.is_done() && !self.fits(room) {
            count += 1;
            self.next = self.rest.next();
        }
        count
    }

    /// Writes prefixes into at most `room` octets.
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) {
        let limit = out.len() + room;
        while let Some((path_id, prefix)) = self.next {
            if out.len() + nlri::emitted_len(prefix, self.path_ids) > limit {
                return;
            }
            nlri::emit(out, path_id, prefix, self.path_ids);
            self.written += 1;
            self.next = self.rest.next();
        }
    }
}

/// Appends what `body` appends, preceded by its length in two octets.
fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len() + 2;
    out.extend_from_slice(&[0, 0]);
    body(out);
    let length = u16::try_from(out.len() - start).expect("the message size was checked");
    out[start - 2..start].copy_from_slice(&length.to_be_bytes());
}

fn put_mp(out: &mut Vec<u8>, code: u8, family: Family, body: impl FnOnce(&mut Vec<u8>)) {
    let AfiSafi { afi, safi } = family.into();
    out.extend_from_slice(&[flags::OPTIONAL | flags::EXTENDED_LENGTH, code]);
    with_length(out, |out| {
        out.extend_from_slice(&afi.to_be_bytes());
        out.push(safi);
        body(out);
    });
}

/// Copies the attributes with NEXT_HOP at its place in the order.
fn put_with_next_hop(out: &mut Vec<u8>, attributes: &[u8], next_hop: Ipv4Addr) {
    let before: usize = Attributes::new(attributes)
        .iter()
        .take_while(|attribute| attribute.code < code::NEXT_HOP)
        .map(|attribute| attribute.whole.len())
        .sum();
    out.extend_from_slice(&attributes[..before]);
    attribute::emit(out, flags::TRANSITIVE, code::NEXT_HOP, &next_hop.octets());
    out.extend_from_slice(&attributes[before..]);
}
