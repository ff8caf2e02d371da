//! From the world to what should be: rules, routes, peers, address translation. Pure.

pub mod nat;
pub mod peering;
pub mod routes;
pub mod ruleset;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The IPv4 blocks among `nets`, overlaps removed and neighbours joined: the kernel refuses ranges that overlap.
fn disjoint_ipv4<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> Vec<IpNet> {
    let nets = nets.into_iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(net.trunc()),
        IpNet::V6(_) => None,
    });
    Ipv4Net::aggregate(&nets.collect()).into_iter().map(IpNet::V4).collect()
}

/// The same for IPv6.
fn disjoint_ipv6<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> Vec<IpNet> {
    let nets = nets.into_iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(net.trunc()),
        IpNet::V4(_) => None,
    });
    Ipv6Net::aggregate(&nets.collect()).into_iter().map(IpNet::V6).collect()
}
