//! ROUTE-REFRESH: send me that family again (RFC 2918), and the brackets around the answer
//! (RFC 7313).

use super::AfiSafi;
use super::error::RouteRefreshError;
use super::header::{self, MessageKind};

/// The message subtype (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refresh {
    /// A request.
    Request,
    /// The answer begins.
    BeginOfRoutes,
    /// The answer is complete: what it did not name is gone.
    EndOfRoutes,
    /// Not known here; to be ignored.
    Unknown(u8),
}

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// The family asked for.
    pub family: AfiSafi,
    /// Subtype.
    pub refresh: Refresh,
}

impl RouteRefresh {
    /// Reads the body of a message.
    ///
    /// # Errors
    /// RFC 7313 §5: the length is not four octets. An unknown subtype may have any longer form
    /// and is left for the receiver to ignore.
    pub fn parse(body: &[u8]) -> Result<Self, RouteRefreshError> {
        let malformed = || RouteRefreshError { body: body.to_vec() };
        let (&[high, low, subtype, safi], rest) = body.split_first_chunk().ok_or_else(malformed)?;
        let refresh = match subtype {
            0 => Refresh::Request,
            1 => Refresh::BeginOfRoutes,
            2 => Refresh::EndOfRoutes,
            other => Refresh::Unknown(other),
        };
        if !rest.is_empty() && !matches!(refresh, Refresh::Unknown(_)) {
            return Err(malformed());
        }
        Ok(Self { family: AfiSafi { afi: u16::from_be_bytes([high, low]), safi }, refresh })
    }

    /// Appends the whole message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let subtype = match self.refresh {
            Refresh::Request => 0,
            Refresh::BeginOfRoutes => 1,
            Refresh::EndOfRoutes => 2,
            Refresh::Unknown(other) => other,
        };
        header::emit(out, MessageKind::RouteRefresh, |out| {
            out.extend_from_slice(&self.family.afi.to_be_bytes());
            out.extend_from_slice(&[subtype, self.family.safi]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_of_a_wrong_length_is_shown_back_whole() {
        let error = RouteRefresh::parse(&[0, 1, 0, 1, 9]).unwrap_err();
        let notification = error.notification();
        assert_eq!((notification.code, notification.subcode), (7, 1));
        assert_eq!(notification.data[16..], [0, 24, 5, 0, 1, 0, 1, 9]);
        assert!(RouteRefresh::parse(&[0, 1, 0]).is_err());
    }

    #[test]
    fn each_subtype_keeps_its_number() {
        for subtype in 0..=255 {
            let parsed = RouteRefresh::parse(&[0, 2, subtype, 1]).unwrap();
            let mut out = Vec::new();
            parsed.emit(&mut out);
            assert_eq!(out[16..], [0, 23, 5, 0, 2, subtype, 1]);
        }
    }
}
