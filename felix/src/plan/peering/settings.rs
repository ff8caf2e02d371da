//! BGPConfiguration: `default` for the cluster, `node.NAME` for what one node has otherwise.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;
use ocicat_bgp::rib::filter::AnyCommunity;
use ocicat_bgp::speaker::{Originated, Password, PeerRestart};

use super::{filter, restart_time};
use crate::datastore::calico::{BgpConfigurationSpec, BindMode};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Node, World};

/// Calico's own AS number for nodes that have none.
const DEFAULT_AS: NonZeroU32 = NonZeroU32::new(64512).expect("64512 is not zero");
/// The port that IANA gave to BGP.
const BGP_PORT: u16 = 179;

/// The settings in force on our node.
pub(super) struct Settings {
    as_number: NonZeroU32,
    pub(super) mesh: bool,
    pub(super) mesh_password: Password,
    pub(super) mesh_restart: PeerRestart,
    pub(super) listen_port: u16,
    bind: BindMode,
    advertised: Vec<(IpNet, Vec<AnyCommunity>)>,
}

impl Settings {
    pub(super) fn read(world: &World, problems: &mut Vec<Problem>) -> Self {
        let empty = BgpConfigurationSpec::default();
        let default = world.bgp_configurations.get("default").unwrap_or(&empty);
        let of_node = world.bgp_configurations.get(&format!("node.{}", world.name()));
        report_unknown_names(world, problems);
        for (name, spec) in &world.bgp_configurations {
            if name == "default" || Some(spec) == of_node {
                report_unhonoured(name, spec, problems);
            }
        }
        let of_node = of_node.unwrap_or(&empty);
        let key = Key::cluster(Kind::BgpConfiguration, "default");
        let mesh_restart = match default.node_mesh_max_restart_time.as_deref().map(restart_time) {
            None => PeerRestart::default(),
            Some(Ok(restart)) => restart,
            Some(Err(message)) => {
                let field = "spec.nodeMeshMaxRestartTime";
                problems.push(Problem::new(&key, field, message + "; 120 s is used"));
                PeerRestart::default()
            }
        };
        let as_number = of_node.as_number.or(default.as_number);
        Self {
            as_number: as_number.and_then(|n| NonZeroU32::new(n.0)).unwrap_or(DEFAULT_AS),
            mesh: default.node_to_node_mesh_enabled.unwrap_or(true),
            mesh_password: match default.node_mesh_password {
                Some(_) => Password::Missing,
                None => Password::None,
            },
            mesh_restart,
            listen_port: of_node.listen_port.or(default.listen_port).unwrap_or(BGP_PORT),
            bind: of_node.bind_mode.or(default.bind_mode).unwrap_or(BindMode::None),
            advertised: advertised(default, &key, problems),
        }
    }

    /// The AS number of a node.
    pub(super) fn as_number_of(&self, node: &Node) -> NonZeroU32 {
        node.as_number.and_then(NonZeroU32::new).unwrap_or(self.as_number)
    }

    /// Where we accept connections.
    pub(super) fn listen(&self, own: &Node) -> Vec<SocketAddr> {
        match self.bind {
            BindMode::NodeIP => {
                own.addresses().map(|ip| SocketAddr::new(ip, self.listen_port)).collect()
            }
            BindMode::None => {
                let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
                any.into_iter().map(|ip| SocketAddr::new(ip, self.listen_port)).collect()
            }
        }
    }

    /// What a prefix of ours is told with.
    pub(super) fn communities_of(&self, prefix: IpNet) -> Originated {
        let mut originated = Originated::default();
        for (_, communities) in self.advertised.iter().filter(|(cidr, _)| cidr.contains(&prefix)) {
            for community in communities {
                match community {
                    AnyCommunity::Standard(community) => originated.communities.push(*community),
                    AnyCommunity::Large(community) => originated.large_communities.push(*community),
                }
            }
        }
        originated.communities.sort();
        originated.communities.dedup();
        originated.large_communities.sort();
        originated.large_communities.dedup();
        originated
    }
}

fn advertised(
    spec: &BgpConfigurationSpec,
    key: &Key,
    problems: &mut Vec<Problem>,
) -> Vec<(IpNet, Vec<AnyCommunity>)> {
    let names: BTreeMap<&str, &str> =
        spec.communities.iter().map(|named| (named.name.as_str(), named.value.as_str())).collect();
    let mut advertised = Vec::new();
    for (number, entry) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("spec.prefixAdvertisements[{number}]");
        let Ok(cidr) = entry.cidr.parse::<IpNet>() else {
            let message = format!("{:?} is not a CIDR; its communities are not sent", entry.cidr);
            problems.push(Problem::new(key, field + ".cidr", message));
            continue;
        };
        let mut communities = Vec::new();
        for (number, text) in entry.communities.iter().enumerate() {
            let value = names.get(text.as_str()).copied().unwrap_or(text);
            match filter::community(value) {
                Ok(community) => communities.push(community),
                Err(message) => {
                    let field = format!("{field}.communities[{number}]");
                    problems.push(Problem::new(key, field, message + "; not sent"));
                }
            }
        }
        advertised.push((cidr.trunc(), communities));
    }
    advertised
}

fn report_unknown_names(world: &World, problems: &mut Vec<Problem>) {
    for name in world.bgp_configurations.keys() {
        let of_node = name.strip_prefix("node.").is_some_and(|node| world.nodes.contains_key(node));
        if name != "default" && !of_node {
            let key = Key::cluster(Kind::BgpConfiguration, name.as_str());
            let message =
                "neither \"default\" nor \"node.\" and a node's name; ignored, as in Calico";
            problems.push(Problem::new(key, "metadata.name", message));
        }
    }
}

/// Fields that we accept and do not honour.
fn report_unhonoured(name: &str, spec: &BgpConfigurationSpec, problems: &mut Vec<Problem>) {
    let key = Key::cluster(Kind::BgpConfiguration, name);
    let set = [
        ("spec.serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
        ("spec.serviceExternalIPs", !spec.service_external_ips.is_empty()),
        ("spec.serviceLoadBalancerIPs", !spec.service_load_balancer_ips.is_empty()),
        ("spec.ignoredInterfaces", !spec.ignored_interfaces.is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        problems.push(Problem::new(&key, field, "not honoured by this version"));
    }
    if spec.node_mesh_password.is_some() {
        let message = "Secrets are not read by this version; the sessions of the mesh stay down";
        problems.push(Problem::new(&key, "spec.nodeMeshPassword", message));
    }
}
