//! The PDUs of the RPKI to Router protocol, versions 0 (RFC 6810) and 1 (RFC 8210 §5).
//!
//! ```text
//!  0        1        2                 4                                   8
//! +--------+--------+-----------------+-----------------------------------+----
//! | version| type   | session or zero | length of the whole               | ...
//! +--------+--------+-----------------+-----------------------------------+----
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Vrp;
use crate::wire::iana::rpki_rtr::{error, pdu};
use crate::wire::{InvalidPrefixLength, Prefix};

/// Octets before the body.
pub const HEADER_LEN: usize = 8;
/// The longest PDU that is taken. Only router keys and error reports have no fixed length; the longest of
/// these, with a PDU and a text inside, stay far below.
pub const MAX_LEN: usize = 65_535;

/// The bit of a record's flags that tells an announcement from a withdrawal (RFC 8210 §5.6).
const ANNOUNCEMENT: u8 = 1;

/// A protocol version that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 6810.
    Zero,
    /// RFC 8210.
    One,
}

impl Version {
    /// The number in the first octet.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
        }
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It holds from now on.
    Announced,
    /// It does not hold any more.
    Withdrawn,
}

/// How long data may be used, and when they are to be asked for again (RFC 8210 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After an answer: when to ask for news.
    pub refresh: Duration,
    /// After a failure: when to ask again.
    pub retry: Duration,
    /// After an answer: when the data are not to be used any more.
    pub expire: Duration,
}

impl Default for Timing {
    /// What RFC 8210 §6 suggests, for caches that say nothing of it.
    fn default() -> Self {
        let [refresh, retry, expire] = [3600, 600, 7200].map(Duration::from_secs);
        Self { refresh, retry, expire }
    }
}

impl Timing {
    /// RFC 8210 §6: within its limits, and data do not expire before they are asked for again. A cache
    /// that says otherwise is taken to mean the nearest that it may say.
    #[must_use]
    pub fn clamped(self) -> Self {
        let within = |time: Duration, least: u64, most: u64| {
            time.clamp(Duration::from_secs(least), Duration::from_secs(most))
        };
        let refresh = within(self.refresh, 1, 86_400);
        let retry = within(self.retry, 1, 7200);
        let expire = within(self.expire, 600, 172_800).max(refresh).max(retry);
        Self { refresh, retry, expire }
    }
}

/// One PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// The cache has something new.
    SerialNotify {
        /// The cache's session.
        session: u16,
        /// The number of its newest data.
        serial: u32,
    },
    /// We ask for what changed since `serial`.
    SerialQuery {
        /// The session that `serial` is of.
        session: u16,
        /// The number of the data that we have.
        serial: u32,
    },
    /// We ask for everything.
    ResetQuery,
    /// An answer begins.
    CacheResponse {
        /// The cache's session.
        session: u16,
    },
    /// A record (RFC 8210 §5.6, §5.7).
    Record {
        /// What becomes of it.
        change: Change,
        /// The record.
        vrp: Vrp,
    },
    /// An answer ends.
    EndOfData {
        /// The cache's session.
        session: u16,
        /// The number of the data that are complete now.
        serial: u32,
        /// Version 1 alone says it.
        timing: Option<Timing>,
    },
    /// What changed is not known: we have to ask for everything.
    CacheReset,
    /// A key of BGPsec, which we do not speak (§5.10).
    RouterKey {
        /// Whether it is announced.
        flags: u8,
        /// Key identifier, AS number and key.
        body: &'a [u8],
    },
    /// Something was wrong (§5.11).
    ErrorReport {
        /// What.
        code: u16,
        /// The PDU that it is about, or a part; may be empty.
        about: &'a [u8],
        /// The sender's words; may be empty.
        text: &'a [u8],
    },
}

/// A PDU with what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The version as it stands there, spoken by us or not.
    pub version: u8,
    /// What it says.
    pub pdu: Pdu<'a>,
    /// The whole.
    pub octets: &'a [u8],
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A number that no RFC of these versions has.
    #[error("PDU type {0} is not known")]
    Type(u8),
    /// Another length than the type has.
    #[error("a PDU of type {kind} has a length of {length} octets")]
    Length {
        /// The type.
        kind: u8,
        /// The length that it says it has.
        length: u32,
    },
    /// A prefix longer than its family.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefixLength),
    /// A maximum length that the prefix cannot have.
    #[error("a maximum length of {max_length} for {prefix}")]
    MaxLength {
        /// The prefix.
        prefix: Prefix,
        /// The length.
        max_length: u8,
    },
}

impl Malformed {
    /// The code of the Error Report (RFC 8210 §12).
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Type(_) => error::UNSUPPORTED_PDU,
            Self::Length { .. } | Self::Prefix(_) | Self::MaxLength { .. } => error::CORRUPT_DATA,
        }
    }
}

/// The first PDU of a stream; `None` when it is not whole yet.
///
/// # Errors
/// When it cannot be read. Where the next one begins is not known then.
pub fn parse(stream: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&[version, kind, a, b, l0, l1, l2, l3], _)) = stream.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let wrong = Malformed::Length { kind, length };
    let size = usize::try_from(length).map_err(|_| wrong.clone())?;
    // Before it is waited for: nothing of an impossible length is ever kept.
    if !possible(kind, version)?.contains(&size) {
        return Err(wrong);
    }
    let Some((octets, _)) = stream.split_at_checked(size) else { return Ok(None) };
    let pdu = body(version, kind, [a, b], &octets[HEADER_LEN..])?.ok_or(wrong)?;
    Ok(Some(Frame { version, pdu, octets }))
}

/// The lengths that a type has.
fn possible(kind: u8, version: u8) -> Result<std::ops::RangeInclusive<usize>, Malformed> {
    Ok(match kind {
        pdu::RESET_QUERY | pdu::CACHE_RESPONSE | pdu::CACHE_RESET => 8..=8,
        pdu::SERIAL_NOTIFY | pdu::SERIAL_QUERY => 12..=12,
        pdu::IPV4_PREFIX => 20..=20,
        pdu::IPV6_PREFIX => 32..=32,
        pdu::END_OF_DATA if version == 0 => 12..=12,
        pdu::END_OF_DATA => 24..=24,
        pdu::ROUTER_KEY => 32..=MAX_LEN,
        pdu::ERROR_REPORT => 16..=MAX_LEN,
        unknown => return Err(Malformed::Type(unknown)),
    })
}

/// `None`: its parts do not fit into it.
fn body<'a>(
    version: u8,
    kind: u8,
    word: [u8; 2],
    body: &'a [u8],
) -> Result<Option<Pdu<'a>>, Malformed> {
    let session = u16::from_be_bytes(word);
    let number = |at: usize| {
        let octets = body.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*octets))
    };
    Ok(match kind {
        pdu::SERIAL_NOTIFY => number(0).map(|serial| Pdu::SerialNotify { session, serial }),
        pdu::SERIAL_QUERY => number(0).map(|serial| Pdu::SerialQuery { session, serial }),
        pdu::RESET_QUERY => Some(Pdu::ResetQuery),
        pdu::CACHE_RESPONSE => Some(Pdu::CacheResponse { session }),
        pdu::IPV4_PREFIX | pdu::IPV6_PREFIX => record(body)?,
        pdu::END_OF_DATA => end_of_data(version, session, number),
        pdu::CACHE_RESET => Some(Pdu::CacheReset),
        pdu::ROUTER_KEY => Some(Pdu::RouterKey { flags: word[0], body }),
        pdu::ERROR_REPORT => error_report(session, body),
        unknown => return Err(Malformed::Type(unknown)),
    })
}

fn record(body: &[u8]) -> Result<Option<Pdu<'_>>, Malformed> {
    let Some((&[flags, length, max_length, _], rest)) = body.split_first_chunk() else {
        return Ok(None);
    };
    let Some((address, asn)) = rest.split_last_chunk::<4>() else { return Ok(None) };
    let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(octets), _) => IpAddr::V4(Ipv4Addr::from(octets)),
        (_, Ok(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
        (Err(_), Err(_)) => return Ok(None),
    };
    let prefix = Prefix::new(address, length)?;
    if !(length..=prefix.family().max_len()).contains(&max_length) {
        return Err(Malformed::MaxLength { prefix, max_length });
    }
    let change = if flags & ANNOUNCEMENT == 0 { Change::Withdrawn } else { Change::Announced };
    let vrp = Vrp { prefix, max_length, asn: u32::from_be_bytes(*asn) };
    Ok(Some(Pdu::Record { change, vrp }))
}

fn end_of_data<'a>(
    version: u8,
    session: u16,
    number: impl Fn(usize) -> Option<u32>,
) -> Option<Pdu<'a>> {
    let seconds = |at| number(at).map(|seconds| Duration::from_secs(seconds.into()));
    let timing = match version {
        0 => None,
        _ => Some(Timing { refresh: seconds(4)?, retry: seconds(8)?, expire: seconds(12)? }),
    };
    Some(Pdu::EndOfData { session, serial: number(0)?, timing })
}

fn error_report(code: u16, body: &[u8]) -> Option<Pdu<'_>> {
    let counted = |octets: &'_ [u8]| {
        let (count, rest) = octets.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        (count <= rest.len()).then_some(count)
    };
    let inside = counted(body)?;
    let (about, rest) = body[4..].split_at(inside);
    let words = counted(rest)?;
    let (text, after) = rest[4..].split_at(words);
    after.is_empty().then_some(Pdu::ErrorReport { code, about, text })
}

/// Appends a PDU.
pub fn put(out: &mut Vec<u8>, version: u8, pdu: Pdu<'_>) {
    let start = out.len();
    let (kind, word) = head(pdu);
    out.extend([version, kind]);
    out.extend(word);
    out.extend([0; 4]);
    match pdu {
        Pdu::ResetQuery | Pdu::CacheResponse { .. } | Pdu::CacheReset => {}
        Pdu::SerialNotify { serial, .. } | Pdu::SerialQuery { serial, .. } => {
            out.extend(serial.to_be_bytes());
        }
        Pdu::Record { change, vrp } => put_record(out, change, vrp),
        Pdu::EndOfData { serial, timing, .. } => {
            out.extend(serial.to_be_bytes());
            if let Some(Timing { refresh, retry, expire }) = timing {
                for time in [refresh, retry, expire] {
                    out.extend(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
                }
            }
        }
        Pdu::RouterKey { body, .. } => out.extend(body),
        Pdu::ErrorReport { about, text, .. } => {
            for part in [about, text] {
                out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend(part);
            }
        }
    }
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start + 4..start + HEADER_LEN].copy_from_slice(&length.to_be_bytes());
}

/// The type, and the two octets behind it.
fn head(pdu: Pdu<'_>) -> (u8, [u8; 2]) {
    match pdu {
        Pdu::SerialNotify { session, .. } => (pdu::SERIAL_NOTIFY, session.to_be_bytes()),
        Pdu::SerialQuery { session, .. } => (pdu::SERIAL_QUERY, session.to_be_bytes()),
        Pdu::ResetQuery => (pdu::RESET_QUERY, [0; 2]),
        Pdu::CacheResponse { session } => (pdu::CACHE_RESPONSE, session.to_be_bytes()),
        Pdu::Record { vrp, .. } => match vrp.prefix.addr() {
            IpAddr::V4(_) => (pdu::IPV4_PREFIX, [0; 2]),
            IpAddr::V6(_) => (pdu::IPV6_PREFIX, [0; 2]),
        },
        Pdu::EndOfData { session, .. } => (pdu::END_OF_DATA, session.to_be_bytes()),
        Pdu::CacheReset => (pdu::CACHE_RESET, [0; 2]),
        Pdu::RouterKey { flags, .. } => (pdu::ROUTER_KEY, [flags, 0]),
        Pdu::ErrorReport { code, .. } => (pdu::ERROR_REPORT, code.to_be_bytes()),
    }
}

fn put_record(out: &mut Vec<u8>, change: Change, vrp: Vrp) {
    let flags = match change {
        Change::Announced => ANNOUNCEMENT,
        Change::Withdrawn => 0,
    };
    out.extend([flags, vrp.prefix.len(), vrp.max_length, 0]);
    match vrp.prefix.addr() {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
    out.extend(vrp.asn.to_be_bytes());
}
