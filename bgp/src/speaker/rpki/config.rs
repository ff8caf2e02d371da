//! What the operator wants of origin validation.

/// What becomes of paths of a peer whose AS must not originate the prefix (RFC 6811 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OriginValidation {
    /// The same as of others.
    Off,
    /// They get LOCAL_PREF 0: they are chosen where there is no other path to the same prefix.
    Mark,
    /// They may not be chosen.
    RejectInvalid,
}
