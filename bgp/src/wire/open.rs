//! OPEN: who a speaker is and what it can do (RFC 4271 §4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;
use std::time::Duration;

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::all_consuming;
use nom::multi::{length_data, many0};
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::capability::Capability;
use super::error::OpenError;
use super::header::{self, MessageKind};
use super::iana::{self, parameter};

/// Zero (no keepalives at all), or at least three seconds (RFC 4271 §4.2). No other value exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldTime(u16);

impl HoldTime {
    /// From seconds.
    ///
    /// # Errors
    /// For 1 and 2.
    pub const fn from_secs(secs: u16) -> Result<Self, OpenError> {
        match secs {
            1 | 2 => Err(OpenError::HoldTime(secs)),
            _ => Ok(Self(secs)),
        }
    }

    /// In seconds.
    #[must_use]
    pub const fn secs(self) -> u16 {
        self.0
    }

    /// As a span of time; `None` when there is no hold timer.
    #[must_use]
    pub const fn duration(self) -> Option<Duration> {
        match self.0 {
            0 => None,
            secs => Some(Duration::from_secs(secs as u64)),
        }
    }
}

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Open {
    /// The AS number: the four-octet one if that capability is there, the header's otherwise.
    pub asn: u32,
    /// The hold time that the speaker proposes.
    pub hold_time: HoldTime,
    /// BGP identifier; not zero (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
    /// In the order of the message, across parameters.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Reads the body of a message. Whether AS number and identifier are the *expected* ones is
    /// for the session to say.
    ///
    /// # Errors
    /// RFC 4271 §6.2.
    pub fn parse(body: &[u8]) -> Result<Self, OpenError> {
        let fixed = (be_u8::<_, ()>, be_u16, be_u16, be_u32, be_u8, take(0usize)).parse(body);
        let Ok((rest, (version, short_asn, hold, router_id, length, _))) = fixed else {
            return Err(OpenError::Malformed("shorter than its fixed fields"));
        };
        if version != iana::BGP_VERSION {
            return Err(OpenError::Version(version));
        }
        let capabilities = parameters(length, rest)?;
        let asn = capabilities.iter().find_map(four_octet_as).unwrap_or_else(|| short_asn.into());
        if asn == 0 || short_asn == 0 {
            return Err(OpenError::ZeroAs);
        }
        if router_id == 0 {
            return Err(OpenError::ZeroIdentifier);
        }
        let hold_time = HoldTime::from_secs(hold)?;
        Ok(Self { asn, hold_time, router_id: Ipv4Addr::from_bits(router_id), capabilities })
    }

    /// Whether the optional parameters fit the form that every speaker reads (RFC 4271 §4.2).
    pub(crate) fn is_short(&self) -> bool {
        let mut capabilities = Vec::new();
        self.capabilities.iter().for_each(|capability| capability.emit(&mut capabilities));
        capabilities.len() <= SHORT_MAX
    }

    /// Appends the whole message: all capabilities in one parameter, the extended form only when
    /// they do not fit the classic one (RFC 9072 §2).
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        self.capabilities.iter().for_each(|capability| capability.emit(&mut capabilities));
        let short_asn = u16::try_from(self.asn).unwrap_or(iana::AS_TRANS);
        header::emit(out, MessageKind::Open, |out| {
            out.push(iana::BGP_VERSION);
            out.extend_from_slice(&short_asn.to_be_bytes());
            out.extend_from_slice(&self.hold_time.secs().to_be_bytes());
            out.extend_from_slice(&self.router_id.octets());
            put_parameters(out, &capabilities);
        });
    }
}

fn four_octet_as(capability: &Capability) -> Option<u32> {
    if let Capability::FourOctetAs(asn) = capability { Some(*asn) } else { None }
}

/// Octets of capabilities that one parameter of the short form holds, when it is the only one: 255 as the
/// length of all parameters stands for the long form.
const SHORT_MAX: usize = 252;

fn put_parameters(out: &mut Vec<u8>, capabilities: &[u8]) {
    if capabilities.is_empty() {
        out.push(0);
    } else if let (Ok(length), ..=SHORT_MAX) =
        (u8::try_from(capabilities.len()), capabilities.len())
    {
        out.extend_from_slice(&[length + 2, parameter::CAPABILITIES, length]);
        out.extend_from_slice(capabilities);
    } else {
        let length = u16::try_from(capabilities.len()).expect("an OPEN has at most 4096 octets");
        out.extend_from_slice(&[255, parameter::EXTENDED_LENGTH]);
        out.extend_from_slice(&(length + 3).to_be_bytes());
        out.push(parameter::CAPABILITIES);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(capabilities);
    }
}

/// Capabilities of all optional parameters, in either form.
fn parameters(length: u8, rest: &[u8]) -> Result<Vec<Capability>, OpenError> {
    // RFC 9072 §2: the first parameter type being 255 says "extended"; the length octet should
    // be 255 too, but may be anything except 0.
    let found = match rest.split_first() {
        Some((&parameter::EXTENDED_LENGTH, rest)) if length != 0 => {
            let lists = many0((be_u8, length_data(be_u16::<_, ()>)));
            let body = all_consuming(length_data(be_u16)).parse(rest).map(|(_, body)| body);
            body.and_then(|body| all_consuming(lists).parse(body))
        }
        Some(_) | None => {
            if usize::from(length) != rest.len() {
                return Err(OpenError::Malformed("parameters do not fill the message"));
            }
            all_consuming(many0((be_u8, length_data(be_u8::<_, ()>)))).parse(rest)
        }
    };
    let Ok((_, parameters)) = found else {
        return Err(OpenError::Malformed("an optional parameter overruns the message"));
    };
    let mut capabilities = Vec::new();
    for (kind, value) in parameters {
        if kind != parameter::CAPABILITIES {
            return Err(OpenError::Parameter(kind));
        }
        capabilities.extend(Capability::parse_all(value).map_err(OpenError::Malformed)?);
    }
    Ok(capabilities)
}
