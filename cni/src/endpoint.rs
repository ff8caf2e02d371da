//! An endpoint: one attachment of one container to the pod network, as it is written in the state directory.
//!
//! The record is the only memory of an attachment that survives a crash. It exists before anything is changed in the
//! kernel and goes when nothing is left there, so whoever reads the directory knows every interface that may exist.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the name of every pod interface on the node begins with.
pub const INTERFACE_PREFIX: &str = "oci";

/// The interface that Kubernetes' runtimes ask for; a container's other interfaces are secondary.
pub const PRIMARY_IFNAME: &str = "eth0";

/// One attachment. The file is `endpoints/<id>.json` in the state directory, see [`EndpointId`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The pod's namespace; empty for a container that no Kubernetes pod owns.
    pub namespace: String,
    /// The pod's name; the container id for a container that no Kubernetes pod owns.
    pub pod: String,
    /// The pod's UID, where the runtime passes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The sandbox that this attachment belongs to. A pod keeps its name when its sandbox is replaced, not this.
    pub container_id: String,
    /// Path of the sandbox's network namespace.
    pub netns: String,
    /// Name of the interface inside the sandbox.
    pub ifname: String,
    /// Name of the interface on the node, see [`host_interface`].
    pub host_interface: String,
    /// The pod's addresses, at most one per family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// When the addresses were reserved.
    pub created: UnixMillis,
    /// How far the attachment has come.
    pub stage: Stage,
}

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The addresses are taken; interfaces and routes may or may not exist.
    Reserved,
    /// Interfaces, routes and policy are in place: ADD has succeeded, or died just before it could say so.
    Attached,
    /// A newer sandbox of the same pod has taken over the host interface. The record keeps the addresses until its own
    /// sandbox is deleted.
    Superseded,
}

impl Endpoint {
    /// The key of this record.
    pub fn id(&self) -> EndpointId {
        EndpointId::new(&self.container_id, &self.ifname)
    }
}

/// The key of an attachment, unique on the node: `<container id>@<ifname>`.
///
/// A container id cannot hold an `@` (CNI specification, "Parameters"), so the first one separates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(String);

impl EndpointId {
    /// The key of the attachment of `container_id` by `ifname`.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        Self(format!("{container_id}@{ifname}"))
    }

    /// The key of the record in the file `name`.
    pub fn of_file(name: &str) -> Option<Self> {
        name.strip_suffix(".json").filter(|id| id.contains('@')).map(|id| Self(id.to_owned()))
    }

    /// The name of the record's file inside `endpoints/`.
    pub fn file_name(&self) -> String {
        format!("{}.json", self.0)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a pod's interface on the node: [`INTERFACE_PREFIX`] and 11 hexadecimal digits of the SHA-256 of
/// `namespace/pod`, which fills the kernel's 15 bytes.
///
/// A function of the pod and not of the sandbox, so that the daemon knows it before the plugin has run. An interface
/// other than [`PRIMARY_IFNAME`] hashes `namespace/pod/ifname`.
pub fn host_interface(namespace: &str, pod: &str, ifname: &str) -> String {
    let key = if ifname == PRIMARY_IFNAME {
        format!("{namespace}/{pod}")
    } else {
        format!("{namespace}/{pod}/{ifname}")
    };
    let digest = Sha256::digest(key.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{INTERFACE_PREFIX}{}", &hex[..11])
}

/// A moment on the wall clock: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The moment now.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago `earlier` was; zero if the clock was set back since.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A record for tests: the pod `default/web` with these addresses, reserved.
#[cfg(test)]
pub(crate) fn example(addresses: &[&str]) -> Endpoint {
    Endpoint {
        namespace: "default".into(),
        pod: "web".into(),
        uid: None,
        container_id: "3f2a".into(),
        netns: "/run/netns/web".into(),
        ifname: "eth0".into(),
        host_interface: "oci0".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        created: UnixMillis(7),
        stage: Stage::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_name_is_a_function_of_the_pod_and_fills_the_kernels_limit() {
        // printf default/web | sha256sum
        assert_eq!(host_interface("default", "web", "eth0"), "oci82b3ade9d00");
    }

    #[test]
    fn a_second_interface_of_a_pod_has_its_own_name() {
        assert_ne!(host_interface("a", "b", "eth0"), host_interface("a", "b", "net1"));
    }

    #[test]
    fn a_record_is_json_with_the_field_names_of_kubernetes() {
        let endpoint = example(&["10.65.1.2", "fd00::2"]);
        let json = r#"{"namespace":"default","pod":"web","containerId":"3f2a","netns":"/run/netns/web","ifname":"eth0","hostInterface":"oci0","addresses":["10.65.1.2","fd00::2"],"created":7,"stage":"reserved"}"#;
        assert_eq!(serde_json::to_string(&endpoint).unwrap(), json);
        assert_eq!(serde_json::from_str::<Endpoint>(json).unwrap(), endpoint);
        assert_eq!(endpoint.id().file_name(), "3f2a@eth0.json");
        assert_eq!(EndpointId::of_file("3f2a@eth0.json"), Some(endpoint.id()));
    }
}
