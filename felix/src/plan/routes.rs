//! The routes of this node: its pods, the ranges it owns, and what the speaker has learned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ocicat_bgp::speaker::Route as Learned;
use ocicat_bgp::wire::Family;

use crate::dataplane::{NextHop, PROTOCOL, Resolved, Route, RouteKind, Routes};
use crate::world::World;

/// Metric of learned IPv4 routes: behind what is connected or configured by hand (0), before DHCP (100 and more). For
/// IPv6 the kernel's own default serves: what is connected has 256.
const LEARNED_IPV4_METRIC: u32 = 20;

/// Which way each next hop of BGP really goes: itself when it is on a link, else the gateways towards it.
pub type Ways = BTreeMap<IpAddr, Resolved>;

/// Whether the way leads through the very route that would be made of it.
fn is_circular(way: &Resolved, prefix: IpNet) -> bool {
    way.protocol == PROTOCOL && way.matched == prefix
}

/// What the speaker has said, and what the kernel still has from an earlier life.
#[derive(Debug, Default)]
pub struct LearnedRoutes {
    best: BTreeMap<IpNet, Learned>,
    /// Kept until the speaker has heard its peers again (RFC 4724 §4.1).
    held: Routes,
}

impl LearnedRoutes {
    /// Begins with the learned routes that an earlier life left in the kernel.
    pub fn holding(kernel: &Routes) -> Self {
        let has_gateway = |route: &&Route| match &route.kind {
            RouteKind::Unicast(hops) => hops.iter().any(|hop| hop.gateway.is_some()),
            RouteKind::Blackhole => false,
        };
        let held = kernel.values().filter(has_gateway);
        Self {
            best: BTreeMap::new(),
            held: held.map(|route| (route.key(), route.clone())).collect(),
        }
    }

    /// Whether an earlier life left learned routes that are still held.
    pub fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// The speaker chose paths for a prefix.
    pub fn put(&mut self, route: Learned) {
        self.best.insert(route.prefix.into(), route);
    }

    /// The speaker has no path for a prefix any more.
    pub fn remove(&mut self, prefix: IpNet) {
        self.best.remove(&prefix);
    }

    /// The speaker has heard all there is to hear of a family.
    pub fn release(&mut self, family: Family) {
        let is_ipv4 = family == Family::Ipv4;
        self.held.retain(|key, _| matches!(key.destination, IpNet::V4(_)) != is_ipv4);
    }

    /// The next hops that have to be resolved.
    pub fn next_hops(&self) -> BTreeSet<IpAddr> {
        self.best.values().flat_map(|route| &route.next_hops).map(|hop| hop.address).collect()
    }

    /// The number of learned prefixes.
    pub fn len(&self) -> usize {
        self.best.len()
    }

    /// Whether nothing was learned.
    pub fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    fn route(&self, learned: &Learned, own: &[IpAddr], ways: &Ways) -> Option<Route> {
        let prefix = IpNet::from(learned.prefix);
        let foreign = learned.next_hops.iter().filter(|hop| !own.contains(&hop.address));
        let found = foreign.filter_map(|hop| ways.get(&hop.address));
        let mut hops: Vec<NextHop> = found
            .filter(|way| !is_circular(way, prefix))
            .flat_map(|way| way.hops.clone())
            .collect();
        hops.sort();
        hops.dedup();
        if hops.is_empty() {
            return None;
        }
        let mut route = Route::new(prefix, RouteKind::Unicast(hops));
        if matches!(route.destination, IpNet::V4(_)) {
            route.metric = LEARNED_IPV4_METRIC;
        }
        Some(route)
    }
}

/// All routes that should be in the kernel. Where two want the same place a pod wins over the node's own range, and that
/// over what was learned.
pub fn plan(world: &World, learned: &LearnedRoutes, ways: &Ways) -> Routes {
    let mut routes = learned.held.clone();
    let mut put = |route: Route| {
        routes.insert(route.key(), route);
    };
    let own_node = world.own_node();
    let own: Vec<IpAddr> = own_node.map(|node| node.addresses().collect()).unwrap_or_default();
    for route in learned.best.values().filter_map(|best| learned.route(best, &own, ways)) {
        put(route);
    }
    for cidr in own_node.into_iter().flat_map(|node| &node.pod_cidrs) {
        // A range of one address is the pod's own route.
        if cidr.prefix_len() < cidr.max_prefix_len() {
            put(Route::blackhole(*cidr));
        }
    }
    for (interface, endpoint) in world.interfaces() {
        for address in &endpoint.addresses {
            put(Route::to_pod(*address, interface));
        }
    }
    routes
}
