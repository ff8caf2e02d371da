//! The error that a runtime gets: section 5, "Error".

use serde_json::{Value, json};

use super::Version;

/// A failure, as the runtime is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct Error {
    /// What the runtime can do about it.
    pub code: Code,
    /// One sentence.
    pub msg: String,
    /// More, if there is more to say.
    pub details: Option<String>,
}

/// What the runtime can do about an error: the well-known codes, and from 100 on our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's `cniVersion` is not supported.
    IncompatibleVersion = 1,
    /// A field of the configuration is not supported; the message holds its key and value.
    UnsupportedField = 2,
    /// An environment variable is missing or wrong; the message names it.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The configuration is no JSON of the right shape.
    Decode = 6,
    /// The configuration is invalid.
    InvalidConfig = 7,
    /// It will clear up by itself.
    TryAgainLater = 11,
    /// STATUS: ADD would fail.
    Unavailable = 50,
    /// ADD for an attachment that exists.
    AlreadyAttached = 100,
    /// The kernel refused a change.
    Plumbing = 101,
    /// CHECK found damage.
    Damaged = 102,
    /// Trying again is in vain: the daemon says so, or another pod is in the way.
    Refused = 103,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: None }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..self }
    }

    /// What goes to standard output.
    pub fn to_json(&self, version: Version) -> Value {
        let mut json = json!({ "cniVersion": version, "code": self.code as u32, "msg": self.msg });
        if let Some(details) = &self.details {
            json["details"] = details.as_str().into();
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_with_the_version_of_the_request() {
        let error = Error::new(Code::TryAgainLater, "no daemon").with_details("connect: refused");
        assert_eq!(
            error.to_json(Version::V0_4_0).to_string(),
            r#"{"cniVersion":"0.4.0","code":11,"details":"connect: refused","msg":"no daemon"}"#
        );
    }

    #[test]
    fn details_are_left_out_when_there_are_none() {
        let error = Error::new(Code::Decode, "x");
        assert_eq!(
            error.to_json(Version::LATEST).to_string(),
            r#"{"cniVersion":"1.1.0","code":6,"msg":"x"}"#
        );
    }
}
