//! The routes of this node: its pods, the ranges it owns, and what the speaker has learned.

mod legs;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use ocicat_bgp::speaker::{NextHopVia, Route as Learned};
use ocicat_bgp::wire::Family;

use crate::dataplane::{
    NextHop, Onlink, PROTOCOL, Resolved, Route, RouteKey, RouteKind, Routes, WantedWays,
};
use crate::plan::peering::Routing;
use crate::world::World;

pub use legs::{Leg, LegOrigin};

/// Metric of learned routes: behind all that others have to the same destination, whether connected (0 to 1024, as who
/// made it likes), set by hand or advertised (up to 2048). A router that tells us the subnet that we are in must not take
/// it over: neighbours would be reached by it, and of IPv6 the kernel would refuse all other routes by that router.
const LEARNED_METRIC: u32 = 4096;

/// Metric of a learned default route, by which BGP goes before what every network has beside it: behind what was set by
/// hand (0), before DHCP (100 and more).
const DEFAULT_IPV4_METRIC: u32 = 20;

/// The same for IPv6: before what routers advertise (512 to 2048, by their preference) and what was set by hand without a
/// metric (1024), whose place it would take otherwise.
const DEFAULT_IPV6_METRIC: u32 = 300;

/// Which way each next hop of BGP really goes: itself when it is on a link, else the gateways towards it.
pub type Ways = BTreeMap<IpAddr, Resolved>;

/// Whether the way leads through the very route that would be made of it.
fn is_circular(way: &Resolved, prefix: IpNet) -> bool {
    way.protocol == PROTOCOL && way.matched == prefix
}

/// Who goes by a next hop.
#[derive(Debug, Default)]
struct Users {
    paths: usize,
    /// The prefixes of these paths that hold the next hop itself: no way to it leads through their routes.
    around: BTreeSet<IpNet>,
}

/// The routes that should be in the kernel, kept in step with the world and the speaker.
///
/// Where two want the same place a pod wins over the node's own range, that over an aggregate, that over the way to a peer
/// that was configured, and that over what was learned.
#[derive(Debug, Default)]
pub struct RoutePlan {
    /// Our pods and our ranges.
    own: Routes,
    /// Aggregates that are told: what goes into them and fits no part ends here.
    aggregates: Routes,
    /// What the speaker has chosen, where there is a way to it.
    learned: Routes,
    best: BTreeMap<IpNet, Learned>,
    /// The next hops of these paths that have to be resolved.
    distant: BTreeMap<IpAddr, Users>,
    /// Learned routes of an earlier life, kept until the speaker has heard its peers again (RFC 4724 §4.1).
    held: Routes,
    /// Interfaces that carry nothing: the kernel keeps routes over them as long as they are not switched off, and would
    /// send into the void.
    dark: BTreeSet<Arc<str>>,
    /// Addresses of ours, which are no next hops.
    addresses: Vec<IpAddr>,
    /// What the configuration of peers says.
    routing: Routing,
    /// Peers that are reached by a gateway, where there is a way to it.
    guided: Routes,
}

impl RoutePlan {
    /// Holds on to the learned routes that an earlier life left in the kernel. Those of a version that gave them another
    /// metric move.
    pub fn hold(&mut self, kernel: &Routes) {
        let has_gateway = |route: &&Route| match &route.kind {
            RouteKind::Unicast(hops) => hops.iter().any(|hop| hop.gateway.is_some()),
            RouteKind::Blackhole => false,
        };
        self.held.clear();
        for route in kernel.values().filter(has_gateway) {
            let key = learned_key(route.destination);
            if route.metric == key.metric {
                self.held.insert(key, route.clone());
            } else {
                let moved = || Route { metric: key.metric, ..route.clone() };
                self.held.entry(key).or_insert_with(moved);
            }
        }
    }

    /// The gateways of the routes that are held on to.
    pub fn held_gateways(&self) -> BTreeSet<IpAddr> {
        let hops = self.held.values().flat_map(|route| match &route.kind {
            RouteKind::Unicast(hops) => hops.as_slice(),
            RouteKind::Blackhole => &[],
        });
        hops.filter_map(|hop| hop.gateway).collect()
    }

    /// The speaker has heard all there is to hear of a family. Gives the places that may have changed.
    pub fn release(&mut self, family: Family) -> BTreeSet<RouteKey> {
        let of_family = |key: &RouteKey| match key.destination {
            IpNet::V4(_) => family == Family::Ipv4,
            IpNet::V6(_) => family == Family::Ipv6,
        };
        let released = self.held.keys().copied().filter(of_family).collect();
        self.held.retain(|key, _| !of_family(key));
        released
    }

    /// Follows our pods and our ranges. Gives the places that may have changed.
    pub fn follow_world(&mut self, world: &World) -> BTreeSet<RouteKey> {
        let own_node = world.own_node();
        self.addresses = own_node.map(|node| node.addresses().collect()).unwrap_or_default();
        let mut own = Routes::new();
        for cidr in own_node.into_iter().flat_map(|node| &node.pod_cidrs) {
            // A range of one address is the pod's own route.
            if cidr.prefix_len() < cidr.max_prefix_len() {
                let route = Route::blackhole(*cidr);
                own.insert(route.key(), route);
            }
        }
        for (interface, endpoint) in world.interfaces() {
            for address in &endpoint.addresses {
                let route = Route::to_pod(*address, interface);
                own.insert(route.key(), route);
            }
        }
        let before = std::mem::replace(&mut self.own, own);
        let changed = before.values().filter(|route| self.own.get(&route.key()) != Some(*route));
        let new = self.own.values().filter(|route| before.get(&route.key()) != Some(*route));
        changed.chain(new).flat_map(|route| places(route.destination)).collect()
    }

    /// Follows what the configuration of peers says. Gives the places that may have changed.
    pub fn follow_peering(&mut self, routing: Routing, ways: &Ways) -> BTreeSet<RouteKey> {
        if self.routing == routing {
            return BTreeSet::new();
        }
        let before = std::mem::replace(&mut self.routing, routing);
        let mut places: BTreeSet<RouteKey> = self.guided.keys().copied().collect();
        places.extend(self.guide(ways));
        if before.unprogrammed != self.routing.unprogrammed {
            places.extend(self.follow_learned(ways));
        }
        places
    }

    /// Works out the routes to peers with a gateway; gives their places.
    fn guide(&mut self, ways: &Ways) -> BTreeSet<RouteKey> {
        let before = std::mem::take(&mut self.guided);
        for (peer, gateway) in &self.routing.gateways {
            let prefix = IpNet::from(*peer);
            let way = ways.get(gateway).filter(|way| !is_circular(way, prefix));
            let hops: Vec<NextHop> =
                way.into_iter().flat_map(|way| lit(&self.dark, way)).cloned().collect();
            if !hops.is_empty() {
                let mut route = Route::new(prefix, RouteKind::Unicast(hops));
                route.metric = learned_key(prefix).metric;
                self.guided.insert(route.key(), route);
            }
        }
        before.keys().chain(self.guided.keys()).copied().collect()
    }

    /// Follows which interfaces carry nothing. Gives the places that may have changed.
    pub fn follow_links(&mut self, dark: BTreeSet<Arc<str>>, ways: &Ways) -> BTreeSet<RouteKey> {
        if self.dark == dark {
            return BTreeSet::new();
        }
        self.dark = dark;
        let mut places = self.guide(ways);
        places.extend(self.follow_learned(ways));
        places
    }

    /// Interfaces that carry nothing, as last told.
    pub fn dark_links(&self) -> &BTreeSet<Arc<str>> {
        &self.dark
    }

    fn follow_learned(&mut self, ways: &Ways) -> BTreeSet<RouteKey> {
        let prefixes: Vec<IpNet> = self.best.keys().copied().collect();
        prefixes.into_iter().map(|prefix| self.find_way(prefix, ways)).collect()
    }

    /// The speaker chose paths for a prefix. Gives the place that may have changed.
    pub fn learn(&mut self, route: Learned, ways: &Ways) -> RouteKey {
        let prefix = IpNet::from(route.prefix);
        if let Some(before) = self.best.remove(&prefix) {
            self.leave(&before);
        }
        for address in distant(&route) {
            let users = self.distant.entry(address).or_default();
            users.paths += 1;
            if prefix.contains(&address) {
                users.around.insert(prefix);
            }
        }
        self.best.insert(prefix, route);
        self.find_way(prefix, ways)
    }

    /// A path is not used any more.
    fn leave(&mut self, route: &Learned) {
        for address in distant(route) {
            if let Entry::Occupied(mut users) = self.distant.entry(address) {
                users.get_mut().paths -= 1;
                users.get_mut().around.remove(&IpNet::from(route.prefix));
                if users.get().paths == 0 {
                    users.remove();
                }
            }
        }
    }

    /// The speaker has no path for a prefix any more. Gives the place that may have changed.
    pub fn forget(&mut self, prefix: IpNet, ways: &Ways) -> RouteKey {
        if let Some(before) = self.best.remove(&prefix) {
            self.leave(&before);
        }
        self.find_way(prefix, ways)
    }

    /// An aggregate is told from now on. Gives the places that may have changed.
    pub fn aggregate(&mut self, prefix: IpNet) -> BTreeSet<RouteKey> {
        let route = Route::blackhole(prefix);
        self.aggregates.insert(route.key(), route);
        places(prefix)
    }

    /// An aggregate is not told any longer. Gives the places that may have changed.
    pub fn end_aggregate(&mut self, prefix: IpNet) -> BTreeSet<RouteKey> {
        self.aggregates.remove(&own_key(prefix));
        places(prefix)
    }

    /// Ways have changed. Gives the places that may have changed.
    pub fn follow_ways(&mut self, ways: &Ways) -> BTreeSet<RouteKey> {
        let mut places = self.follow_learned(ways);
        places.extend(self.guide(ways));
        places
    }

    /// The next hops that have to be resolved.
    pub fn next_hops(&self) -> BTreeSet<IpAddr> {
        self.distant.keys().chain(self.routing.gateways.values()).copied().collect()
    }

    /// The same, each with those of our routes that are made of it.
    pub fn wanted(&self) -> WantedWays {
        // Where something else has the place, the route there is no circle.
        let is_made = |prefix: &&IpNet| {
            let blackhole = Route::blackhole(**prefix).key();
            let ours =
                self.own.contains_key(&blackhole) || self.aggregates.contains_key(&blackhole);
            !ours && !self.guided.contains_key(&learned_key(**prefix))
        };
        let around = |users: &Users| users.around.iter().filter(is_made).copied().collect();
        let mut wanted: WantedWays =
            self.distant.iter().map(|(hop, users)| (*hop, around(users))).collect();
        for (peer, gateway) in &self.routing.gateways {
            let around = wanted.entry(*gateway).or_default();
            if peer == gateway {
                around.insert(IpNet::from(*peer));
            }
        }
        wanted
    }

    /// Those of these next hops that lead nowhere: there is no way, or it leads back to us.
    pub fn unreachable(&self, asked: &BTreeSet<IpAddr>, ways: &Ways) -> BTreeSet<IpAddr> {
        let leads_on =
            |hop: &IpAddr| ways.get(hop).is_some_and(|way| lit(&self.dark, way).next().is_some());
        let lost = asked.iter().filter(|hop| self.addresses.contains(hop) || !leads_on(hop));
        lost.copied().collect()
    }

    /// What should be in a place.
    pub fn desired(&self, key: &RouteKey) -> Option<&Route> {
        let ours = self.own.get(key).or_else(|| self.aggregates.get(key));
        if ours.is_some() || self.yields(key) {
            return ours;
        }
        let of_peers = self.guided.get(key).or_else(|| self.learned.get(key));
        of_peers.or_else(|| self.held.get(key))
    }

    /// Whether a route of our own leads to the prefix.
    fn is_ours(&self, prefix: IpNet) -> bool {
        let key = own_key(prefix);
        self.own.contains_key(&key) || self.aggregates.contains_key(&key)
    }

    /// Whether the kernel would prefer this place to that of a route of our own, which so has to be alone.
    fn yields(&self, key: &RouteKey) -> bool {
        key.metric < own_key(key.destination).metric && self.is_ours(key.destination)
    }

    /// The routes that should lead to a prefix.
    pub fn at(&self, prefix: IpNet) -> Vec<&Route> {
        places(prefix).iter().filter_map(|place| self.desired(place)).collect()
    }

    /// Everything that should be.
    pub fn all(&self) -> Routes {
        let mut all = self.held.clone();
        all.extend(self.learned.iter().map(|(key, route)| (*key, route.clone())));
        all.extend(self.guided.iter().map(|(key, route)| (*key, route.clone())));
        all.retain(|key, _| !self.yields(key));
        all.extend(self.aggregates.iter().map(|(key, route)| (*key, route.clone())));
        all.extend(self.own.iter().map(|(key, route)| (*key, route.clone())));
        all
    }

    fn find_way(&mut self, prefix: IpNet, ways: &Ways) -> RouteKey {
        let key = learned_key(prefix);
        match self.best.get(&prefix).and_then(|best| self.route(best, ways)) {
            Some(route) => self.learned.insert(key, route),
            None => self.learned.remove(&key),
        };
        key
    }

    fn route(&self, learned: &Learned, ways: &Ways) -> Option<Route> {
        let prefix = IpNet::from(learned.prefix);
        if self.routing.unprogrammed.iter().any(|range| range.contains(&prefix)) {
            return None;
        }
        let of = |hop| self.hops_of(prefix, hop, ways);
        let mut hops: Vec<NextHop> = learned.next_hops.iter().flat_map(of).collect();
        hops.sort();
        hops.dedup();
        if hops.is_empty() {
            return None;
        }
        let mut route = Route::new(prefix, RouteKind::Unicast(hops));
        route.metric = learned_key(prefix).metric;
        Some(route)
    }

    /// Where a path to a prefix really goes: nowhere, if it leads to us, or in a circle.
    fn hops_of(&self, prefix: IpNet, path: &NextHopVia, ways: &Ways) -> Vec<NextHop> {
        if self.addresses.contains(&path.address) {
            return Vec::new();
        }
        match on_link(path) {
            Some(hop) if self.dark.contains(&hop.interface) => Vec::new(),
            Some(hop) => vec![hop],
            None => {
                let way = ways.get(&path.address).filter(|way| !is_circular(way, prefix));
                way.into_iter().flat_map(|way| lit(&self.dark, way)).cloned().collect()
            }
        }
    }
}

/// The hops of a way over interfaces that carry something.
fn lit<'a>(dark: &BTreeSet<Arc<str>>, way: &'a Resolved) -> impl Iterator<Item = &'a NextHop> {
    way.hops.iter().filter(|hop| !dark.contains(&hop.interface))
}

/// The next hops of a path that have to be resolved.
fn distant(route: &Learned) -> impl Iterator<Item = IpAddr> {
    route.next_hops.iter().filter(|hop| on_link(hop).is_none()).map(|hop| hop.address)
}

/// A next hop that needs no looking for: a router on the link of its own session.
fn on_link(hop: &NextHopVia) -> Option<NextHop> {
    let interface = hop.interface.clone()?;
    let link_local = hop.link_local.or(match hop.address {
        IpAddr::V6(address) => Some(address).filter(Ipv6Addr::is_unicast_link_local),
        IpAddr::V4(_) => None,
    })?;
    Some(NextHop { gateway: Some(link_local.into()), interface, onlink: Onlink::No })
}

fn learned_key(prefix: IpNet) -> RouteKey {
    let metric = match prefix {
        IpNet::V4(_) if prefix.prefix_len() == 0 => DEFAULT_IPV4_METRIC,
        IpNet::V6(_) if prefix.prefix_len() == 0 => DEFAULT_IPV6_METRIC,
        IpNet::V4(_) | IpNet::V6(_) => LEARNED_METRIC,
    };
    RouteKey { destination: prefix, metric }
}

/// The place of a route of our own.
fn own_key(prefix: IpNet) -> RouteKey {
    Route::blackhole(prefix).key()
}

/// All places of routes to a prefix.
fn places(prefix: IpNet) -> BTreeSet<RouteKey> {
    BTreeSet::from([own_key(prefix), learned_key(prefix)])
}
