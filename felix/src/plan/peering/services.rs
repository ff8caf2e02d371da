//! What of the addresses of Services this node tells.
//!
//! As in Calico every node tells the ranges as a whole, and a Service that keeps its traffic local is told beside, address
//! by address, by the nodes on which it has endpoints. Load balancers' addresses may be told one by one altogether.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::datastore::calico::{Aggregation, BgpConfigurationSpec, CidrEntry};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Endpoints, Node, Service, Traffic, World};

/// A node with this label gets no traffic from outside (Kubernetes' well-known labels).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The ranges whose Services are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    cluster: Vec<IpNet>,
    external: Vec<IpNet>,
    load_balancer: Vec<IpNet>,
    aggregation: Option<Aggregation>,
}

impl Ranges {
    /// Reads them from `node.NAME`, and from `default` what that does not have.
    pub(super) fn read(
        (default, of_node): (&BgpConfigurationSpec, &BgpConfigurationSpec),
        name_of_node: &str,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut list = |field: &str, of: fn(&BgpConfigurationSpec) -> &[CidrEntry]| -> Vec<IpNet> {
            let (name, entries) = match of(of_node) {
                [] => ("default", of(default)),
                entries => (name_of_node, entries),
            };
            let mut nets = Vec::new();
            for (number, entry) in entries.iter().enumerate() {
                match entry.cidr.parse::<IpNet>() {
                    Ok(net) => nets.push(net.trunc()),
                    Err(_) => {
                        let key = Key::cluster(Kind::BgpConfiguration, name);
                        let message =
                            format!("{:?} is not a CIDR; nothing in it is told", entry.cidr);
                        let field = format!("spec.{field}[{number}].cidr");
                        problems.push(Problem::new(key, field, message));
                    }
                }
            }
            nets
        };
        Self {
            cluster: list("serviceClusterIPs", |spec| &spec.service_cluster_ips),
            external: list("serviceExternalIPs", |spec| &spec.service_external_ips),
            load_balancer: list("serviceLoadBalancerIPs", |spec| &spec.service_load_balancer_ips),
            aggregation: of_node
                .service_load_balancer_aggregation
                .or(default.service_load_balancer_aggregation),
        }
    }

    /// Whether Services have to be known.
    pub(super) fn are_any(&self) -> bool {
        !(self.cluster.is_empty() && self.external.is_empty() && self.load_balancer.is_empty())
    }

    /// What this node tells.
    pub(super) fn told(&self, world: &World, own: &Node) -> BTreeSet<IpNet> {
        if own.labels.contains_key(EXCLUDED) {
            return BTreeSet::new();
        }
        let (single, whole): (Vec<IpNet>, Vec<IpNet>) =
            self.load_balancer.iter().copied().partition(|net| self.is_told_singly(*net));
        let whole: Vec<IpNet> = [&self.cluster[..], &self.external, &whole].concat();
        let of_services = world.services().flat_map(|(service, endpoints)| {
            self.hosts(service, endpoints, (&whole, &single)).collect::<Vec<_>>()
        });
        whole.iter().copied().chain(of_services).collect()
    }

    /// A range of one address is no range.
    fn is_told_singly(&self, net: IpNet) -> bool {
        self.aggregation == Some(Aggregation::Disabled) || net.prefix_len() == net.max_prefix_len()
    }

    /// The addresses of a Service that this node tells one by one: where it keeps its traffic local, those of a Service
    /// with endpoints here; else those in no range that is told as a whole, of a Service with endpoints anywhere.
    fn hosts(
        &self,
        service: &Service,
        endpoints: Endpoints,
        (whole, single): (&[IpNet], &[IpNet]),
    ) -> impl Iterator<Item = IpNet> {
        let within = |nets: &[IpNet], ip: IpAddr| nets.iter().any(|net| net.contains(&ip));
        let kinds = [
            (&service.cluster, &self.cluster),
            (&service.external, &self.external),
            (&service.load_balancer, &self.load_balancer),
        ];
        let asked_for = kinds.into_iter().flat_map(move |(addresses, ranges)| {
            addresses.iter().copied().filter(move |ip| within(ranges, *ip))
        });
        let told = move |ip: &IpAddr| match service.traffic {
            Traffic::Local => endpoints == Endpoints::Here,
            Traffic::Cluster => {
                endpoints != Endpoints::Nowhere && within(single, *ip) && !within(whole, *ip)
            }
        };
        asked_for.filter(told).map(IpNet::from)
    }
}
