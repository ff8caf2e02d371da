//! How much the speaker is to log, as Calico calls it.

use std::str::FromStr;

/// The least severe that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// As the daemon itself.
    Info,
    /// What somebody should look at.
    Warning,
    /// What went wrong. What is fatal is an error too.
    Error,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "trace" => Ok(Self::Trace),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" | "fatal" => Ok(Self::Error),
            _ => Err(format!("{text:?} is not Trace, Debug, Info, Warning, Error or Fatal")),
        }
    }
}

impl LogLevel {
    /// The directive of a tracing filter that says so; none where the daemon's own level holds. Calico's default is Info,
    /// and an API server writes it into every object.
    pub fn directive(self) -> Option<&'static str> {
        match self {
            Self::Trace => Some("ocicat_bgp=trace"),
            Self::Debug => Some("ocicat_bgp=debug"),
            Self::Info => None,
            Self::Warning => Some("ocicat_bgp=warn"),
            Self::Error => Some("ocicat_bgp=error"),
        }
    }
}
