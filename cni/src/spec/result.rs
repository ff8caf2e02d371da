//! The result of ADD: section 5, "Success", in the form of each version.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Dns, Version};
use crate::plan::{default_prefix, gateway_for};

/// A complete attachment, as the runtime is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Success {
    /// Name of the interface on the node.
    pub host_interface: String,
    /// Its hardware address.
    pub host_mac: String,
    /// Name of the interface in the container.
    pub ifname: String,
    /// Its hardware address.
    pub mac: String,
    /// Of both ends, in bytes.
    pub mtu: u32,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// From the configuration.
    pub dns: Option<Dns>,
}

/// Where the container's interface stands in the list of interfaces.
const CONTAINER_INTERFACE: usize = 1;

impl Success {
    /// What goes to standard output.
    pub fn to_json(&self, version: Version) -> Value {
        let mut host = json!({ "name": self.host_interface, "mac": self.host_mac });
        let mut container = json!({ "name": self.ifname, "mac": self.mac, "sandbox": self.netns });
        if version >= Version::V1_1_0 {
            host["mtu"] = self.mtu.into();
            container["mtu"] = self.mtu.into();
        }
        let ips: Vec<Value> =
            self.addresses.iter().map(|address| ip_json(*address, version)).collect();
        let routes: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| json!({ "dst": default_prefix(*address), "gw": gateway_for(*address) }))
            .collect();
        let mut result = json!({
            "cniVersion": version,
            "interfaces": [host, container],
            "ips": ips,
            "routes": routes,
        });
        if let Some(dns) = &self.dns {
            result["dns"] = Value::Object(dns.clone());
        }
        result
    }
}

fn ip_json(address: IpAddr, version: Version) -> Value {
    let mut ip = json!({
        "address": IpNet::from(address),
        "gateway": gateway_for(address),
        "interface": CONTAINER_INTERFACE,
    });
    if version < Version::V1_0_0 {
        ip["version"] = if address.is_ipv4() { "4" } else { "6" }.into();
    }
    ip
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, expected: &str) {
        let success = Success {
            host_interface: "oci82b3ade9d00".into(),
            host_mac: "ee:ee:ee:ee:ee:ee".into(),
            ifname: "eth0".into(),
            mac: "0a:00:00:00:00:01".into(),
            mtu: 1500,
            netns: "/run/netns/web".into(),
            addresses: vec!["10.65.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            dns: None,
        };
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(success.to_json(version), expected);
    }

    #[test]
    fn before_1_0_0_an_address_tells_its_family() {
        for (version, name) in [(Version::V0_3_1, "0.3.1"), (Version::V0_4_0, "0.4.0")] {
            let expected = r#"{
                "cniVersion": "VERSION",
                "interfaces": [
                    { "name": "oci82b3ade9d00", "mac": "ee:ee:ee:ee:ee:ee" },
                    { "name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/web" }
                ],
                "ips": [
                    { "version": "4", "address": "10.65.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "version": "6", "address": "fd00::2/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1 }
                ],
                "routes": [
                    { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
                    { "dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee" }
                ]
            }"#;
            check(version, &expected.replace("VERSION", name));
        }
    }

    #[test]
    fn from_1_0_0_on_it_does_not() {
        check(
            Version::V1_0_0,
            r#"{
                "cniVersion": "1.0.0",
                "interfaces": [
                    { "name": "oci82b3ade9d00", "mac": "ee:ee:ee:ee:ee:ee" },
                    { "name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/web" }
                ],
                "ips": [
                    { "address": "10.65.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "address": "fd00::2/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1 }
                ],
                "routes": [
                    { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
                    { "dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee" }
                ]
            }"#,
        );
    }

    #[test]
    fn from_1_1_0_on_the_interfaces_have_an_mtu() {
        check(
            Version::V1_1_0,
            r#"{
                "cniVersion": "1.1.0",
                "interfaces": [
                    { "name": "oci82b3ade9d00", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1500 },
                    { "name": "eth0", "mac": "0a:00:00:00:00:01", "mtu": 1500, "sandbox": "/run/netns/web" }
                ],
                "ips": [
                    { "address": "10.65.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "address": "fd00::2/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1 }
                ],
                "routes": [
                    { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
                    { "dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee" }
                ]
            }"#,
        );
    }
}
