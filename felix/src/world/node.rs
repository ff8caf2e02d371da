//! What we read of a Node object.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as NodeObject;

use crate::datastore::calico::AsNumber;
use crate::datastore::{Key, Kind};
use crate::problem::Problem;

/// AS number of the node, as Calico writes it.
const AS_NUMBER: &str = "projectcalico.org/ASNumber";
/// The node is a route reflector of this cluster (RFC 4456), as Calico writes it.
const CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
/// Address for BGP, with its subnet, where it is not the node's InternalIP; as Calico writes it.
const IPV4_ADDRESS: &str = "projectcalico.org/IPv4Address";
/// The same for IPv6.
const IPV6_ADDRESS: &str = "projectcalico.org/IPv6Address";

/// The node is to take leave of its BGP peers.
pub const DRAIN: &str = "bgp.ocicat.io/drain";

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its IPv4 address: Calico's annotation, else the first InternalIP of the family.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The ranges that its pods have addresses from.
    pub pod_cidrs: Vec<IpNet>,
    /// Its own AS number, if it has one.
    pub as_number: Option<u32>,
    /// The cluster that it reflects routes in.
    pub cluster_id: Option<Ipv4Addr>,
    /// Whether it is to take leave of its BGP peers.
    pub drain: bool,
}

impl Node {
    /// The node's addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(IpAddr::V4);
        ipv4.into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// Reads a Node object, as far as it can be read.
    pub fn read(object: &NodeObject) -> (Self, Vec<Problem>) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut reader = Reader {
            key: Key::cluster(Kind::Node, name.clone()),
            annotations: object.metadata.annotations.as_ref(),
            problems: Vec::new(),
        };
        let internal = reader.internal_addresses(object);
        let node = Self {
            labels: object.metadata.labels.clone().unwrap_or_default(),
            ipv4: reader.address(IPV4_ADDRESS, "an IPv4 address").or_else(|| {
                internal
                    .iter()
                    .find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
            }),
            ipv6: reader.address(IPV6_ADDRESS, "an IPv6 address").or_else(|| {
                internal
                    .iter()
                    .find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None })
            }),
            pod_cidrs: reader.pod_cidrs(object),
            as_number: reader.annotation(AS_NUMBER, |text| text.parse::<AsNumber>().map(|n| n.0)),
            cluster_id: reader.annotation(CLUSTER_ID, |text| {
                text.parse().map_err(|_| format!("{text:?} is not a cluster id (an IPv4 address)"))
            }),
            drain: reader
                .annotation(DRAIN, |text| {
                    text.parse().map_err(|_| format!("{text:?} is neither \"true\" nor \"false\""))
                })
                .unwrap_or(false),
            name,
        };
        (node, reader.problems)
    }
}

struct Reader<'a> {
    key: Key,
    annotations: Option<&'a BTreeMap<String, String>>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, field: impl Into<String>, message: impl std::fmt::Display) {
        self.problems.push(Problem::new(&self.key, field, message));
    }

    /// An annotation, read by `parse`; absent and empty are the same.
    fn annotation<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.annotations?.get(name).filter(|text| !text.is_empty())?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.report(format!("metadata.annotations[{name}]"), message + "; ignored");
                None
            }
        }
    }

    fn address<T: std::str::FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        self.annotation(name, |text| {
            let address = text.split_once('/').map_or(text, |(address, _)| address);
            address.parse().map_err(|_| format!("{text:?} is not {what}"))
        })
    }

    fn internal_addresses(&mut self, object: &NodeObject) -> Vec<IpAddr> {
        let status = object.status.as_ref();
        let entries = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let mut addresses = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            if entry.type_ != "InternalIP" {
                continue;
            }
            match entry.address.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => self.report(
                    format!("status.addresses[{number}].address"),
                    format!("{:?} is not an address; ignored", entry.address),
                ),
            }
        }
        addresses
    }

    fn pod_cidrs(&mut self, object: &NodeObject) -> Vec<IpNet> {
        let Some(spec) = &object.spec else { return Vec::new() };
        let many = spec.pod_cidrs.clone().unwrap_or_default();
        let texts = if many.is_empty() { spec.pod_cidr.iter().cloned().collect() } else { many };
        let mut cidrs = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            match text.parse::<IpNet>() {
                Ok(cidr) => cidrs.push(cidr.trunc()),
                Err(_) => self.report(
                    format!("spec.podCIDRs[{number}]"),
                    format!("{text:?} is not a CIDR; it is not advertised and gives no addresses"),
                ),
            }
        }
        cidrs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(object: serde_json::Value) -> (Node, Vec<String>) {
        let (node, problems) = Node::read(&serde_json::from_value(object).unwrap());
        (node, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_ranges_and_as_number_are_found_where_kubernetes_and_calico_put_them() {
        let (node, problems) = read(json!({
            "metadata": {"name": "n1", "annotations": {"projectcalico.org/ASNumber": "64513"}},
            "spec": {"podCIDR": "10.65.1.0/24", "podCIDRs": ["10.65.1.0/24", "fd00:65:1::/64"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "172.16.1.10"},
                {"type": "InternalIP", "address": "2001:db8:1::10"},
            ]},
        }));
        assert_eq!(problems, [""; 0]);
        let addresses: Vec<_> = node.addresses().map(|ip| ip.to_string()).collect();
        assert_eq!(addresses, ["172.16.1.10", "2001:db8:1::10"]);
        assert_eq!(node.pod_cidrs.len(), 2);
        assert_eq!(node.as_number, Some(64513));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_is_used() {
        let (node, problems) = read(json!({
            "metadata": {"name": "n1", "annotations": {
                "projectcalico.org/ASNumber": "lots", "projectcalico.org/IPv4Address": "172.16.9.9/24"}},
            "spec": {"podCIDRs": ["10.65.1.0/99", "10.65.2.0/24"]},
        }));
        assert_eq!(
            problems,
            [
                "Node n1: spec.podCIDRs[0]: \"10.65.1.0/99\" is not a CIDR; it is not advertised and gives no addresses",
                "Node n1: metadata.annotations[projectcalico.org/ASNumber]: \"lots\" is not an AS number (1 to 4294967295, or asdot like 1.10); ignored",
            ]
        );
        assert_eq!(node.pod_cidrs, ["10.65.2.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(node.ipv4, Some(Ipv4Addr::new(172, 16, 9, 9)));
    }
}
