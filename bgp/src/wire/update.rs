//! UPDATE: split into its three parts without copying (RFC 4271 §4.3).

use super::error::UpdateError;
use super::{Codec, Family, Nlri};

/// A received UPDATE as views over its bytes.
///
/// Parsing has told the parts apart and checked the prefixes of the two classic fields. The
/// attribute list is still opaque: [`super::check`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: Nlri<'a>,
    /// Path attributes as received.
    pub attributes: &'a [u8],
    /// Announced IPv4 prefixes.
    pub announced: Nlri<'a>,
}

impl<'a> Update<'a> {
    /// Splits the body of a message.
    ///
    /// # Errors
    /// When the inner lengths run past the body, or a classic prefix cannot be read. Both end the
    /// session: RFC 7606 §3 (a) and (j).
    pub fn parse(body: &'a [u8], codec: &Codec) -> Result<Self, UpdateError> {
        let (withdrawn, rest) = sized(body).ok_or(UpdateError::Lengths)?;
        let (attributes, announced) = sized(rest).ok_or(UpdateError::Lengths)?;
        let path_ids = codec.received_path_ids(Family::Ipv4);
        Ok(Self {
            withdrawn: Nlri::parse(withdrawn, Family::Ipv4, path_ids)?,
            attributes,
            announced: Nlri::parse(announced, Family::Ipv4, path_ids)?,
        })
    }
}

/// Splits off a field that is preceded by its length in two octets.
fn sized(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}
