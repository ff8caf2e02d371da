//! A lab's description: one `Lab` document and the objects of its cluster.
//!
//! The addresses of the machines are the Node objects' own; the `Lab` document adds only what
//! Kubernetes has no words for: the router, the client, the pods' ports and what may reach what.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::matrix::{Expected, Service};
use crate::object::Object;

/// A lab, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) router: Router,
    pub(crate) client: Client,
    pub(crate) nodes: Vec<NodeSpec>,
    /// Ports that every pod listens on, as `80/TCP`.
    pub(crate) services: Vec<Service>,
    /// What gets through once the example policies are there.
    pub(crate) expected: Expected,
    /// Everything but the `Lab` document.
    pub(crate) objects: Vec<Object>,
}

/// The top-of-rack router.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Router {
    pub(crate) as_number: u32,
}

/// A host behind the router that is no node.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) ipv4: Ipv4Net,
    pub(crate) ipv6: Ipv6Net,
}

/// One node, from its Node object.
#[derive(Debug, Clone)]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
    pub(crate) as_number: u32,
    pub(crate) pod_cidrs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabDocument {
    router: Router,
    client: Client,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    allowed: Vec<String>,
    #[serde(default)]
    denied: Vec<String>,
}

/// The nodes' AS unless an annotation or the default BGPConfiguration says another.
const DEFAULT_AS: u32 = 64_512;

impl Spec {
    /// Reads one of the descriptions in `integration/labs`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(yaml: &str) -> Result<Self> {
        let (labs, objects): (Vec<_>, Vec<_>) =
            Object::parse_all(yaml)?.into_iter().partition(|object| object.kind() == "Lab");
        let [lab] = labs.as_slice() else { bail!("{} Lab documents, not one", labs.len()) };
        let lab: LabDocument =
            serde_json::from_value(lab.0.get("spec").cloned().unwrap_or_default())
                .context("Lab")?;
        let default_as = objects
            .iter()
            .filter(|object| object.kind() == "BGPConfiguration" && object.name() == "default")
            .find_map(|object| object.0.pointer("/spec/asNumber")?.as_u64()?.try_into().ok())
            .unwrap_or(DEFAULT_AS);
        let nodes = objects
            .iter()
            .filter(|object| object.kind() == "Node")
            .map(|node| NodeSpec::read(node, default_as))
            .collect::<Result<_>>()?;
        let services = lab.ports.iter().map(|port| port.parse()).collect::<Result<_>>()?;
        let expected = Expected::parse(&lab.allowed, &lab.denied)?;
        let LabDocument { router, client, .. } = lab;
        Ok(Self { router, client, nodes, services, expected, objects })
    }
}

impl NodeSpec {
    fn read(node: &Object, default_as: u32) -> Result<Self> {
        let name = node.name();
        let addresses = node.0.pointer("/status/addresses").and_then(|list| list.as_array());
        let internal: Vec<&str> = addresses
            .into_iter()
            .flatten()
            .filter(|address| address["type"] == "InternalIP")
            .filter_map(|address| address["address"].as_str())
            .collect();
        let as_number = match node.text("/metadata/annotations/projectcalico.org~1ASNumber") {
            "" => default_as,
            number => number.parse().with_context(|| format!("AS number of {name}"))?,
        };
        Ok(Self {
            name: name.to_owned(),
            ipv4: first(&internal).with_context(|| format!("{name} has no IPv4 InternalIP"))?,
            ipv6: first(&internal).with_context(|| format!("{name} has no IPv6 InternalIP"))?,
            as_number,
            pod_cidrs: node.texts("/spec/podCIDRs").into_iter().map(str::to_owned).collect(),
        })
    }

    /// The router's end of the node's IPv4 link: the first address of its /24.
    pub(crate) fn gateway_ipv4(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.ipv4.octets();
        Ipv4Addr::new(a, b, c, 1)
    }

    /// The router's end of the node's IPv6 link: the first address of its /64.
    pub(crate) fn gateway_ipv6(&self) -> Ipv6Addr {
        let [a, b, c, d, ..] = self.ipv6.segments();
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, 1)
    }

    /// The node's link networks.
    pub(crate) fn networks(&self) -> [String; 2] {
        let ipv4 = Ipv4Net::new(self.ipv4, 24).expect("24 bits").trunc();
        let ipv6 = Ipv6Net::new(self.ipv6, 64).expect("64 bits").trunc();
        [ipv4.to_string(), ipv6.to_string()]
    }
}

fn first<T: std::str::FromStr>(addresses: &[&str]) -> Option<T> {
    addresses.iter().find_map(|address| address.parse().ok())
}

/// A cluster of `count` nodes for tests: `node1` is 10.0.1.10 with pods in 10.65.1.0/24, and so on.
pub(crate) fn rack(count: u8, numbering: Numbering) -> Spec {
    let mut yaml = format!("{RACK}{}", bgp_configuration(numbering));
    for index in 1..=count {
        let annotation = match numbering {
            Numbering::PerRack => {
                format!(
                    "annotations: {{ projectcalico.org/ASNumber: '{}' }}",
                    64_512 + u32::from(index)
                )
            }
            Numbering::Shared | Numbering::Mesh => String::new(),
        };
        yaml.push_str(&format!(
            "
---
apiVersion: v1
kind: Node
metadata:
  name: node{index}
  labels: {{ rack: r{index} }}
  {annotation}
spec: {{ podCIDRs: [10.65.{index}.0/24, 'fd00:65:{index}::/64'] }}
status:
  addresses:
    - {{ type: InternalIP, address: 10.0.{index}.10 }}
    - {{ type: InternalIP, address: 'fd00:10:{index}::10' }}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{ name: tor-r{index} }}
spec: {{ peerIP: 10.0.{index}.1, asNumber: 64500, nodeSelector: rack == 'r{index}' }}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{ name: tor-r{index}-v6 }}
spec: {{ peerIP: 'fd00:10:{index}::1', asNumber: 64500, nodeSelector: rack == 'r{index}' }}
"
        ));
    }
    Spec::parse(&yaml).expect("the text above is a lab")
}

/// How the nodes of a [`rack`] get their AS number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Each node its own (RFC 7938 style): routes of other nodes come from the router.
    PerRack,
    /// All nodes the same: each node drops the others' routes as loops; only the router knows all.
    Shared,
    /// All nodes the same, with sessions between them.
    Mesh,
}

const RACK: &str = "
apiVersion: lab.ocicat.dev/v1
kind: Lab
metadata: { name: rack }
spec:
  router: { asNumber: 64500 }
  client: { ipv4: 192.0.2.10/24, ipv6: '2001:db8:2::10/64' }
---
apiVersion: v1
kind: Namespace
metadata: { name: default, labels: { kubernetes.io/metadata.name: default } }
---
";

fn bgp_configuration(numbering: Numbering) -> String {
    let mesh = numbering == Numbering::Mesh;
    format!(
        "apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {{ name: default }}
spec: {{ nodeToNodeMeshEnabled: {mesh}, asNumber: {DEFAULT_AS} }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rack_numbers_its_nodes_and_their_gateways() {
        let spec = rack(2, Numbering::PerRack);
        let node = &spec.nodes[1];
        assert_eq!((node.name.as_str(), node.as_number), ("node2", 64_514));
        assert_eq!(node.gateway_ipv4().to_string(), "10.0.2.1");
        assert_eq!(node.gateway_ipv6().to_string(), "fd00:10:2::1");
        assert_eq!(node.networks(), ["10.0.2.0/24", "fd00:10:2::/64"]);
        assert_eq!(rack(1, Numbering::Mesh).nodes[0].as_number, 64_512);
    }

    #[test]
    fn every_description_in_the_labs_folder_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
        for entry in fs::read_dir(folder).unwrap() {
            Spec::named(entry.unwrap().path().file_stem().unwrap().to_str().unwrap()).unwrap();
        }
    }
}
