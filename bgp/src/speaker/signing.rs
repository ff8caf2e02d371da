//! How a password signs the segments of a connection: TCP MD5 (RFC 2385) or TCP-AO (RFC 5925).

use std::fmt;
use std::sync::Arc;

/// What a peer's password is a key of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Signing {
    /// TCP MD5 (RFC 2385), which all routers know.
    #[default]
    Md5,
    /// TCP-AO (RFC 5925). Without a password, or where the kernel has none, the session stays down.
    TcpAo(TcpAo),
    /// Something was asked for that could not be read: the session stays down rather than be signed
    /// otherwise.
    Unreadable,
}

/// A master key tuple of RFC 5925 §3.1, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpAo {
    /// The number of the key in what we send, which the peer calls its receive id.
    pub send_id: u8,
    /// The number of the key in what the peer sends.
    pub receive_id: u8,
    /// What computes the code.
    pub algorithm: AoAlgorithm,
}

/// A message authentication code with its key derivation (RFC 5926 §3), and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96, which every implementation has (RFC 5926 §3.2.1).
    #[default]
    HmacSha1,
    /// AES-128-CMAC-96 (RFC 5926 §3.2.2).
    AesCmac,
    /// HMAC-SHA-256 cut to 128 bits. No RFC names it for TCP-AO.
    HmacSha256,
}

/// A key and what it is used for. It has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The password.
    pub secret: Arc<str>,
    /// What it is a key of.
    pub signing: Signing,
}

impl AoAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::AesCmac, Self::HmacSha256];
}

impl fmt::Display for AoAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "hmac-sha1-96",
            Self::AesCmac => "aes-128-cmac-96",
            Self::HmacSha256 => "hmac-sha256-128",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("signing", &self.signing).finish_non_exhaustive()
    }
}
