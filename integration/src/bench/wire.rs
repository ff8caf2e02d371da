//! The few BGP messages that the tester speaks, written and read by hand: nothing here is shared
//! with the speaker under test, so that it cannot agree with itself on a mistake.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::table::{Attributes, Family, Table, mix};

const HEADER: usize = 19;
const LONGEST: usize = 4096;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// Appends a message of this type.
pub(crate) fn message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u16::try_from(HEADER + body.len()).expect("messages are at most 4096 octets");
    out.extend([0xFF; 16]);
    out.extend(length.to_be_bytes());
    out.push(kind);
    out.extend(body);
}

/// An OPEN with four-octet AS numbers and one family; hold time 240 s.
pub(crate) fn open(asn: u32, router_id: Ipv4Addr, family: Family) -> Vec<u8> {
    let afi = match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    };
    let mut capabilities = vec![1, 4, 0, afi, 0, 1, 2, 0, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23_456).to_be_bytes());
    body.extend(240u16.to_be_bytes());
    body.extend(router_id.octets());
    let length = u8::try_from(capabilities.len()).expect("a few octets");
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    let mut out = Vec::new();
    message(&mut out, OPEN, &body);
    out
}

/// The end of the session: Cease, administrative shutdown.
pub(crate) fn cease() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, NOTIFICATION, &[6, 2]);
    out
}

fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, code, length]),
        Err(_) => {
            let length = u16::try_from(value.len()).expect("it fits a message");
            out.extend([flags | 0x10, code]);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(value);
}

/// Who tells: what is the same in all messages of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller {
    pub(crate) next_hop: IpAddr,
    pub(crate) local_pref: Option<u32>,
}

/// Appends UPDATEs that announce `prefixes` with these attributes.
pub(crate) fn announce(
    out: &mut Vec<u8>,
    table: &Table,
    teller: Teller,
    attributes: &Attributes,
    prefixes: Range<u32>,
) {
    let mut block = Vec::new();
    attribute(&mut block, 0x40, 1, &[0]);
    let mut path = Vec::new();
    if !attributes.path.is_empty() {
        path.extend([2, u8::try_from(attributes.path.len()).expect("a short path")]);
        path.extend(attributes.path.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    attribute(&mut block, 0x40, 2, &path);
    if let IpAddr::V4(next_hop) = teller.next_hop {
        attribute(&mut block, 0x40, 3, &next_hop.octets());
    }
    if let Some(local_pref) = teller.local_pref {
        attribute(&mut block, 0x40, 5, &local_pref.to_be_bytes());
    }
    if !attributes.communities.is_empty() {
        let value: Vec<u8> = attributes.communities.iter().flat_map(|c| c.to_be_bytes()).collect();
        attribute(&mut block, 0xC0, 8, &value);
    }
    let room = LONGEST - HEADER - 4 - block.len() - 32;
    for nlri in packed(table, prefixes, room) {
        match teller.next_hop {
            IpAddr::V4(_) => update(out, &[], &block, &nlri),
            IpAddr::V6(next_hop) => {
                let mut reach = vec![0, 2, 1, 16];
                reach.extend(next_hop.octets());
                reach.push(0);
                reach.extend(&nlri);
                let mut with_reach = block.clone();
                attribute(&mut with_reach, 0x80, 14, &reach);
                update(out, &[], &with_reach, &[]);
            }
        }
    }
}

/// Appends UPDATEs that withdraw `prefixes`, as many in each as it holds.
pub(crate) fn withdraw(out: &mut Vec<u8>, table: &Table, prefixes: Range<u32>) {
    for nlri in packed(table, prefixes, LONGEST - HEADER - 4 - 16) {
        match table.family {
            Family::Ipv4 => update(out, &nlri, &[], &[]),
            Family::Ipv6 => {
                let mut unreach = vec![0, 2, 1];
                unreach.extend(&nlri);
                let mut block = Vec::new();
                attribute(&mut block, 0x80, 15, &unreach);
                update(out, &[], &block, &[]);
            }
        }
    }
}

fn packed(table: &Table, prefixes: Range<u32>, room: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::new()];
    for prefix in prefixes {
        let mut octets = Vec::new();
        table.put(&mut octets, prefix);
        let last = pieces.last_mut().expect("there is one from the start");
        if last.len() + octets.len() > room {
            pieces.push(octets);
        } else {
            last.extend(octets);
        }
    }
    pieces
}

fn update(out: &mut Vec<u8>, withdrawn: &[u8], block: &[u8], announced: &[u8]) {
    let length = |part: &[u8]| u16::try_from(part.len()).expect("it fits a message").to_be_bytes();
    let mut body = Vec::with_capacity(4 + withdrawn.len() + block.len() + announced.len());
    body.extend(length(withdrawn));
    body.extend(withdrawn);
    body.extend(length(block));
    body.extend(block);
    body.extend(announced);
    message(out, UPDATE, &body);
}

/// An UPDATE, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    pub(crate) withdrawn: &'a [u8],
    pub(crate) announced: &'a [u8],
    /// See [`fingerprint`]; of no meaning when nothing is announced.
    pub(crate) fingerprint: u64,
}

/// What tells one route's attributes from another's: AS path and communities in one number. The
/// order of communities has no meaning, and some speakers sort them.
pub(crate) fn fingerprint(attributes: &Attributes) -> u64 {
    let path = attributes.path.iter().fold(1, |sum, asn| mix(sum ^ u64::from(*asn)));
    let communities = attributes.communities.iter().map(|each| mix(u64::from(*each) << 32));
    mix(path) ^ communities.fold(0, u64::wrapping_add)
}

/// Reads the body of an UPDATE. The next hop must be `next_hop`, and ORIGIN be IGP.
pub(crate) fn parse_update(
    body: &[u8],
    family: Family,
    next_hop: IpAddr,
) -> Result<Update<'_>, &'static str> {
    let (withdrawn, rest) = counted(body).ok_or("withdrawn routes are cut off")?;
    let (mut block, announced) = counted(rest).ok_or("attributes are cut off")?;
    let mut update = Update { withdrawn, announced, fingerprint: 0 };
    if family == Family::Ipv6 && !(withdrawn.is_empty() && announced.is_empty()) {
        return Err("IPv4 routes on a session of IPv6");
    }
    let (mut path, mut communities) = (1, 0u64);
    while !block.is_empty() {
        let (flags, code, value);
        (flags, code, value, block) = next_attribute(block).ok_or("an attribute is cut off")?;
        let _ = flags;
        match code {
            1 if value != [0] => return Err("ORIGIN is not IGP"),
            2 => path = parse_path(value)?,
            3 if IpAddr::from(<[u8; 4]>::try_from(value).map_err(|_| "bad NEXT_HOP")?)
                != next_hop =>
            {
                return Err("NEXT_HOP is not the speaker");
            }
            8 => {
                let (numbers, []) = value.as_chunks::<4>() else { return Err("bad COMMUNITIES") };
                let numbers = numbers.iter().map(|each| u32::from_be_bytes(*each));
                communities = numbers
                    .map(|each| mix(u64::from(each) << 32))
                    .fold(communities, u64::wrapping_add);
            }
            14 => update.announced = reached(value, next_hop)?,
            15 => update.withdrawn = value.get(3..).ok_or("bad MP_UNREACH_NLRI")?,
            _ => {}
        }
    }
    update.fingerprint = mix(path) ^ communities;
    Ok(update)
}

fn parse_path(value: &[u8]) -> Result<u64, &'static str> {
    let Some((head, numbers)) = value.split_at_checked(2) else {
        return if value.is_empty() { Ok(1) } else { Err("bad AS_PATH") };
    };
    let (numbers, rest) = numbers.as_chunks::<4>();
    if head[0] != 2 || usize::from(head[1]) != numbers.len() || !rest.is_empty() {
        return Err("AS_PATH is not one sequence");
    }
    let numbers = numbers.iter().map(|each| u32::from_be_bytes(*each));
    Ok(numbers.fold(1, |sum, asn| mix(sum ^ u64::from(asn))))
}

fn reached(value: &[u8], expected: IpAddr) -> Result<&[u8], &'static str> {
    let [_, _, 1, length, rest @ ..] = value else { return Err("bad MP_REACH_NLRI") };
    let (next_hop, rest) =
        rest.split_at_checked(usize::from(*length)).ok_or("bad MP_REACH_NLRI")?;
    let global: [u8; 16] = *next_hop.first_chunk().ok_or("a next hop that is not IPv6")?;
    if IpAddr::from(global) != expected {
        return Err("the next hop is not the speaker");
    }
    rest.get(1..).ok_or("bad MP_REACH_NLRI")
}

fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

fn next_attribute(block: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let [flags, code, rest @ ..] = block else { return None };
    let (length, rest) = if flags & 0x10 != 0 {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        (u16::from_be_bytes(*length).into(), rest)
    } else {
        let (length, rest) = rest.split_first()?;
        (usize::from(*length), rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*flags, *code, value, rest))
}

/// A whole message: its type, its body, and its length with the header.
pub(crate) type Frame<'a> = (u8, &'a [u8], usize);

/// The first message of a stream, if it is whole.
pub(crate) fn frame(stream: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let Some(header) = stream.first_chunk::<HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    if header[..16] != [0xFF; 16] || !(HEADER..=LONGEST).contains(&length) {
        return Err("what comes is no BGP message");
    }
    Ok(stream.get(HEADER..length).map(|body| (header[18], body, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::table::attributes;

    #[test]
    fn what_is_announced_is_read_back_in_both_families() {
        for (family, next_hop) in [(Family::Ipv4, "10.99.0.1"), (Family::Ipv6, "fd99::1")] {
            let table = Table::new(family, 1, 2_000, 2);
            let next_hop: IpAddr = next_hop.parse().unwrap();
            let told = attributes(7, Some(64_600), 4);
            let mut stream = Vec::new();
            let teller = Teller { next_hop, local_pref: None };
            announce(&mut stream, &table, teller, &told, table.members(0));
            let mut rest = stream.as_slice();
            let mut heard = Vec::new();
            while let Some((kind, body, length)) = frame(rest).unwrap() {
                assert_eq!(kind, UPDATE);
                let update = parse_update(body, family, next_hop).unwrap();
                assert_eq!(update.fingerprint, fingerprint(&told));
                let mut nlri = update.announced;
                while !nlri.is_empty() {
                    heard.push(table.take(&mut nlri, 0).unwrap().unwrap());
                }
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
            assert_eq!(heard, table.members(0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_path_with_one_number_changed_has_another_fingerprint() {
        let told = attributes(7, Some(64_600), 4);
        let mut other = told.clone();
        other.path[1] += 1;
        assert_ne!(fingerprint(&told), fingerprint(&other));
        let mut turned = told.clone();
        turned.path.reverse();
        assert_ne!(fingerprint(&told), fingerprint(&turned));
    }
}
