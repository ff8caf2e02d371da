//! The network configuration on standard input: section 1 and section 4.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Code, Command, Error, Version};
use crate::daemon::DEFAULT_SOCKET;
use crate::store::DEFAULT_STATE;

/// What the plugin reads of a network configuration. Its own keys besides the specification's are `mtu`, `stateDir`,
/// `socket` and `policyTimeoutSeconds`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `cniVersion`.
    pub version: Version,
    /// MTU of both ends of a pod's interface, in bytes; without it the daemon's.
    pub mtu: Option<u32>,
    /// The state directory.
    pub state: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// How long ADD waits for the daemon before it fails.
    pub policy_timeout: Duration,
    /// Handed on to the runtime.
    pub dns: Option<Dns>,
    /// The result of an earlier plugin or of the ADD.
    pub previous: Option<Value>,
    /// GC: the attachments that stay.
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// Resolver settings, handed on untouched.
pub type Dns = Map<String, Value>;

/// An attachment as GC names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

/// The configuration as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    cni_version: Option<String>,
    mtu: Option<u32>,
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    policy_timeout_seconds: Option<u64>,
    dns: Option<Dns>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", alias = "cni.dev/attachments")]
    valid_attachments: Option<Vec<Attachment>>,
    ipam: Option<Value>,
    ip_masq: Option<bool>,
    runtime_config: Option<Map<String, Value>>,
}

/// Capabilities that change what a pod can reach, and that only another plugin can give it.
const UNSUPPORTED_CAPABILITIES: [&str; 6] =
    ["portMappings", "bandwidth", "ips", "mac", "ipRanges", "infinibandGUID"];

/// An Ethernet frame's smallest payload for IPv4 (RFC 791 §3.2), and the largest packet there is.
const MTU_BOUNDS: std::ops::RangeInclusive<u32> = 68..=65535;

impl Config {
    /// Parses the configuration of a `command`.
    ///
    /// What cannot be honoured is refused, except where refusing would leave something behind: by DEL and GC.
    pub fn parse(command: Command, stdin: &[u8]) -> Result<Self, Error> {
        let written: Written = serde_json::from_slice(stdin).map_err(|error| {
            // Quotes a bad value of a field that the plugin reads, never one that it does not.
            Error::new(Code::Decode, format!("the network configuration on stdin: {error}"))
        })?;
        let version = Version::parse(written.cni_version.as_deref().unwrap_or_default())?;
        version.admits(command)?;
        if !matches!(command, Command::Del | Command::Gc) {
            written.refuse_unsupported()?;
            written.refuse_out_of_bounds()?;
        }
        Ok(Self {
            version,
            mtu: written.mtu,
            state: written.state_dir.unwrap_or_else(|| DEFAULT_STATE.into()),
            socket: written.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            policy_timeout: Duration::from_secs(written.policy_timeout_seconds.unwrap_or(10)),
            dns: written.dns,
            previous: written.prev_result,
            valid_attachments: written.valid_attachments,
        })
    }

    /// The version of a configuration that may be wrong otherwise, to tell its error in.
    pub fn version_of(stdin: &[u8]) -> Version {
        serde_json::from_slice::<Value>(stdin)
            .ok()
            .and_then(|json| Version::parse(json.get("cniVersion")?.as_str()?).ok())
            .unwrap_or(Version::LATEST)
    }
}

impl Written {
    fn refuse_out_of_bounds(&self) -> Result<(), Error> {
        if let Some(mtu) = self.mtu.filter(|mtu| !MTU_BOUNDS.contains(mtu)) {
            let msg = format!("mtu {mtu} is not between 68 and 65535");
            return Err(Error::new(Code::InvalidConfig, msg));
        }
        if self.policy_timeout_seconds == Some(0) {
            let msg = "policyTimeoutSeconds 0 would let no pod start";
            return Err(Error::new(Code::InvalidConfig, msg));
        }
        Ok(())
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        let unsupported = |key: &str, value: String, instead: &str| {
            let msg = format!("{key} {value} is not supported: {instead}");
            Err(Error::new(Code::UnsupportedField, msg))
        };
        if let Some(ipam) = &self.ipam {
            let instead = "addresses come from the node's pod CIDRs";
            return unsupported("ipam", ipam.to_string(), instead);
        }
        if self.ip_masq == Some(true) {
            let instead = "the daemon masquerades what its IP pools say";
            return unsupported("ipMasq", "true".into(), instead);
        }
        let given = self.runtime_config.iter().flatten();
        for (key, value) in given.filter(|(_, value)| !is_empty(value)) {
            if UNSUPPORTED_CAPABILITIES.contains(&key.as_str()) {
                let instead = "chain the plugin that gives this capability after ocicat-cni";
                return unsupported(&format!("runtimeConfig.{key}"), value.to_string(), instead);
            }
        }
        Ok(())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(json: &str, code: Code, msg: &str) {
        let error = Config::parse(Command::Add, json.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (code, msg));
    }

    #[test]
    fn a_bare_configuration_has_the_documented_defaults() {
        let config = Config::parse(
            Command::Add,
            br#"{"cniVersion":"1.0.0","name":"pods","type":"ocicat-cni"}"#,
        )
        .unwrap();
        assert_eq!(config.state.to_str(), Some("/var/lib/ocicat"));
        assert_eq!(config.socket.to_str(), Some("/run/ocicat/ocicat.sock"));
        assert_eq!(config.policy_timeout, Duration::from_secs(10));
        assert_eq!((config.mtu, config.valid_attachments), (None, None));
    }

    #[test]
    fn both_names_of_the_attachments_are_read() {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let json = format!(
                r#"{{"cniVersion":"1.1.0","{key}":[{{"containerID":"a","ifname":"eth0"}}]}}"#
            );
            let config = Config::parse(Command::Add, json.as_bytes()).unwrap();
            assert_eq!(config.valid_attachments.unwrap()[0].container_id, "a");
        }
    }

    #[test]
    fn what_the_plugin_cannot_do_is_refused_with_key_and_value() {
        check(
            r#"{"cniVersion":"1.0.0","runtimeConfig":{"portMappings":[{"hostPort":80}]}}"#,
            Code::UnsupportedField,
            r#"runtimeConfig.portMappings [{"hostPort":80}] is not supported: chain the plugin that gives this capability after ocicat-cni"#,
        );
        check(
            r#"{"cniVersion":"1.0.0","ipam":{"type":"host-local"}}"#,
            Code::UnsupportedField,
            r#"ipam {"type":"host-local"} is not supported: addresses come from the node's pod CIDRs"#,
        );
        let harmless = r#"{"cniVersion":"1.0.0","ipMasq":false,"runtimeConfig":{"portMappings":[],"dns":{"servers":["1.1.1.1"]}}}"#;
        assert!(Config::parse(Command::Add, harmless.as_bytes()).is_ok());
    }

    #[test]
    fn a_pod_can_be_detached_whatever_its_configuration_has_become() {
        let json = br#"{"cniVersion":"1.0.0","mtu":1,"ipam":{"type":"host-local"}}"#;
        assert!(Config::parse(Command::Del, json).is_ok());
    }

    #[test]
    fn a_bad_value_is_named() {
        check(
            r#"{"cniVersion":"1.0.0","mtu":20}"#,
            Code::InvalidConfig,
            "mtu 20 is not between 68 and 65535",
        );
        check(
            "{}",
            Code::IncompatibleVersion,
            r#"cniVersion "" is not one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"#,
        );
    }

    #[test]
    fn an_error_is_told_in_the_version_of_the_configuration() {
        assert_eq!(Config::version_of(br#"{"cniVersion":"0.4.0","mtu":"x"}"#), Version::V0_4_0);
        assert_eq!(Config::version_of(b"{"), Version::LATEST);
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Config::parse(Command::Add, &bytes);
            let _ = Config::version_of(&bytes);
        }
    }
}
