//! Versions of the specification.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Code, Command, Error};

/// A version of the specification that the plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Version {
    /// 0.3.1: results with interfaces.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0: CHECK.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0: no `version` in the addresses.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0: GC, STATUS, MTU in the interfaces.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version.
    pub const LATEST: Self = Self::V1_1_0;

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration names.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let supported = Self::ALL.map(Self::as_str).join(", ");
            Error::new(
                Code::IncompatibleVersion,
                format!("cniVersion {text:?} is not one of {supported}"),
            )
        })
    }

    /// Fails if this version does not know `command`.
    pub fn admits(self, command: Command) -> Result<(), Error> {
        let since = match command {
            Command::Add | Command::Del | Command::Version => Self::V0_3_1,
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
        };
        if self >= since {
            return Ok(());
        }
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("cniVersion {self} does not have {command}, which came with {since}"),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to VERSION.
pub fn versions() -> Value {
    json!({ "cniVersion": Version::LATEST, "supportedVersions": Version::ALL })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_version_lists_what_is_supported() {
        assert_eq!(
            versions().to_string(),
            r#"{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"#
        );
    }

    #[test]
    fn an_unknown_version_is_named() {
        let error = Version::parse("0.2.0").unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion);
        assert_eq!(error.msg, r#"cniVersion "0.2.0" is not one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"#);
    }

    #[test]
    fn a_command_newer_than_the_version_is_refused() {
        let error = Version::V1_0_0.admits(Command::Gc).unwrap_err();
        assert_eq!(error.msg, "cniVersion 1.0.0 does not have GC, which came with 1.1.0");
        assert!(Version::V0_4_0.admits(Command::Check).is_ok());
        assert!(Version::V0_3_1.admits(Command::Check).is_err());
    }
}
