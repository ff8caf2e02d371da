//! Routes as values: ours in the main table, all marked with one protocol number, so that "ours" is never
//! a guess. Pure; `kernel::routes` moves them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::{self, Display, Formatter},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

/// The route protocol that marks our routes (`rtm_protocol`).
pub const PROTOCOL: u8 = 179;

/// The metric that the kernel itself gives to IPv6 routes without one (`IP6_RT_PRIO_USER`).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// One route of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Lower wins. For IPv6 never 0: the kernel reads 0 as 1024.
    pub metric: u32,
    /// What happens to the packet.
    pub kind: RouteKind,
    /// The source address that this machine prefers for what it sends itself (`src`).
    pub source: Option<IpAddr>,
}

impl Route {
    /// A route with the kernel's default metric: 0 for IPv4, 1024 for IPv6.
    pub fn new(destination: IpNet, kind: RouteKind) -> Self {
        let metric = match destination {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => IPV6_DEFAULT_METRIC,
        };
        Self { destination: destination.trunc(), metric, kind, source: None }
    }

    /// The route to a pod: its address on its interface.
    pub fn to_pod(address: IpAddr, interface: impl Into<Arc<str>>) -> Self {
        let hop = NextHop { gateway: None, interface: interface.into(), onlink: Onlink::No };
        Self::new(address.into(), RouteKind::Unicast(vec![hop]))
    }

    /// Discards what is sent to the block.
    pub fn blackhole(destination: IpNet) -> Self {
        Self::new(destination, RouteKind::Blackhole)
    }

    /// What the kernel distinguishes routes by.
    pub fn key(&self) -> RouteKey {
        RouteKey { destination: self.destination, metric: self.metric }
    }
}

/// What the kernel distinguishes routes of one table by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Where to.
    pub destination: IpNet,
    /// See [`Route::metric`].
    pub metric: u32,
}

/// What happens to a packet that takes a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteKind {
    /// It goes to one of these, by the hash of its flow. At least one; order does not matter.
    Unicast(Vec<NextHop>),
    /// It is discarded in silence.
    Blackhole,
}

/// One way to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The router; `None` when the destination itself is on the link. An IPv6 router may carry IPv4.
    pub gateway: Option<IpAddr>,
    /// The interface by name: indices change when an interface is made again.
    pub interface: Arc<str>,
    /// Whether the gateway is on the link whatever the routing table says.
    pub onlink: Onlink,
}

/// See [`NextHop::onlink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Onlink {
    /// The kernel looks up whether the gateway is reachable.
    No,
    /// It is.
    Yes,
}

/// Where a packet to some address would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The routers, or the address itself where it is on the link.
    pub hops: Vec<NextHop>,
    /// The destination of the route that was found. Whoever installs a route over these hops makes sure
    /// that it is not this one.
    pub matched: IpNet,
    /// Whose route that is (`rtm_protocol`).
    pub protocol: u8,
}

/// Addresses to which ways are wanted. With each, the destinations of those of our routes that are made of the way to it:
/// they hold the address, and lead to it only as long as the way beneath them does.
pub type WantedWays = BTreeMap<IpAddr, BTreeSet<IpNet>>;

/// Our routes, by key.
pub type Routes = BTreeMap<RouteKey, Route>;

/// What to do to routes. Each line succeeds or fails by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// Routes of ours that go.
    pub delete: Vec<Route>,
    /// Routes of ours that become these.
    pub replace: Vec<Route>,
    /// New routes; a stranger's route in the same place stays, and is reported.
    pub add: Vec<Route>,
}

impl RouteChanges {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.replace.is_empty() && self.add.is_empty()
    }

    /// The number of single changes.
    pub fn len(&self) -> usize {
        self.delete.len() + self.replace.len() + self.add.len()
    }

    /// The deletions: those that come first, and those of routes to whose destination a new one leads. They come last, so
    /// that no packet finds neither.
    pub fn deletions(&self) -> (Vec<&Route>, Vec<&Route>) {
        let new: HashSet<IpNet> = self.add.iter().map(|route| route.destination).collect();
        self.delete.iter().partition(|route| !new.contains(&route.destination))
    }

    /// Does all of it to `routes`.
    pub fn apply_to(&self, routes: &mut Routes) {
        for route in &self.delete {
            routes.remove(&route.key());
        }
        for route in self.replace.iter().chain(&self.add) {
            routes.insert(route.key(), route.clone());
        }
    }
}

/// The changes that make `mirror` equal to `desired`.
pub fn diff(desired: &Routes, mirror: &Routes) -> RouteChanges {
    let mut changes = RouteChanges::default();
    for (key, route) in mirror {
        if !desired.contains_key(key) {
            changes.delete.push(route.clone());
        }
    }
    for (key, route) in desired {
        match mirror.get(key) {
            None => changes.add.push(route.clone()),
            Some(now) if !now.same(route) => changes.replace.push(route.clone()),
            Some(_) => {}
        }
    }
    changes
}

/// The same for some places alone.
pub fn diff_at<'a>(
    places: impl IntoIterator<Item = &'a RouteKey>,
    desired: impl Fn(&RouteKey) -> Option<&'a Route>,
    mirror: &Routes,
) -> RouteChanges {
    let mut changes = RouteChanges::default();
    for key in places {
        match (desired(key), mirror.get(key)) {
            (None, Some(now)) => changes.delete.push(now.clone()),
            (Some(route), None) => changes.add.push(route.clone()),
            (Some(route), Some(now)) if !now.same(route) => changes.replace.push(route.clone()),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
    changes
}

impl Route {
    /// Whether both do the same; the order of next hops is no difference.
    pub fn same(&self, other: &Self) -> bool {
        let sorted = |hops: &[NextHop]| {
            let mut hops = hops.to_vec();
            hops.sort();
            hops
        };
        let same_kind = match (&self.kind, &other.kind) {
            (RouteKind::Unicast(a), RouteKind::Unicast(b)) => a == b || sorted(a) == sorted(b),
            (RouteKind::Blackhole, RouteKind::Blackhole) => true,
            (RouteKind::Unicast(_), RouteKind::Blackhole)
            | (RouteKind::Blackhole, RouteKind::Unicast(_)) => false,
        };
        same_kind && self.key() == other.key() && self.source == other.source
    }
}

impl Display for RouteChanges {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = self.deletions();
        let (replace, add) = (self.replace.iter().collect(), self.add.iter().collect());
        for (verb, routes) in [("del", first), ("replace", replace), ("add", add), ("del", last)] {
            for route in routes {
                let family = if route.destination.addr().is_ipv6() { "-6 " } else { "" };
                writeln!(f, "ip {family}route {verb} {route}")?;
            }
        }
        Ok(())
    }
}

impl Display for Route {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hops = match &self.kind {
            RouteKind::Unicast(hops) => hops.as_slice(),
            RouteKind::Blackhole => {
                f.write_str("blackhole ")?;
                &[]
            }
        };
        write!(f, "{}", self.destination)?;
        let v4 = self.destination.addr().is_ipv4();
        if let [hop] = hops {
            hop.write(v4, f)?;
        }
        write!(f, " proto {PROTOCOL}")?;
        if v4 && matches!(hops, [hop] if hop.gateway.is_none()) {
            f.write_str(" scope link")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if hops.len() > 1 {
            for hop in hops {
                f.write_str(" nexthop")?;
                hop.write(v4, f)?;
            }
        }
        Ok(())
    }
}

impl NextHop {
    fn write(&self, v4: bool, f: &mut Formatter<'_>) -> fmt::Result {
        match self.gateway {
            Some(gateway) if gateway.is_ipv6() && v4 => write!(f, " via inet6 {gateway}")?,
            Some(gateway) => write!(f, " via {gateway}")?,
            None => {}
        }
        write!(f, " dev {}", self.interface)?;
        match self.onlink {
            Onlink::Yes => f.write_str(" onlink"),
            Onlink::No => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(gateway: &str, interface: &str) -> NextHop {
        NextHop {
            gateway: Some(gateway.parse().unwrap()),
            interface: interface.into(),
            onlink: Onlink::No,
        }
    }

    fn table(routes: &[Route]) -> Routes {
        routes.iter().map(|route| (route.key(), route.clone())).collect()
    }

    #[test]
    fn changes_print_as_an_operator_would_type_them() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ecmp = RouteKind::Unicast(vec![hop("192.0.2.1", "eth0"), hop("fe80::1", "eth1")]);
        let desired = table(&[
            Route::to_pod("10.1.0.7".parse().unwrap(), "oci0"),
            Route::to_pod("fd00::7".parse().unwrap(), "oci0"),
            Route::new(net("10.2.0.0/24"), ecmp),
        ]);
        let mirror = table(&[
            Route::blackhole(net("10.1.0.0/24")),
            Route::new(net("10.2.0.0/24"), RouteKind::Blackhole),
        ]);
        assert_eq!(
            diff(&desired, &mirror).to_string(),
            "\
ip route del blackhole 10.1.0.0/24 proto 179
ip route replace 10.2.0.0/24 proto 179 nexthop via 192.0.2.1 dev eth0 nexthop via inet6 fe80::1 dev eth1
ip route add 10.1.0.7/32 dev oci0 proto 179 scope link
ip -6 route add fd00::7/128 dev oci0 proto 179 metric 1024
"
        );
    }

    #[test]
    fn applying_the_difference_reaches_the_goal() {
        let to = |last: u8, via: &str| {
            let kind = RouteKind::Unicast(vec![hop(via, "eth0"), hop("192.0.2.9", "eth1")]);
            Route::new(IpNet::from(IpAddr::from([10, 0, 0, last])), kind)
        };
        let desired = table(&[to(1, "192.0.2.1"), to(2, "192.0.2.1"), to(3, "192.0.2.1")]);
        let mut mirror = table(&[to(2, "192.0.2.2"), to(3, "192.0.2.1"), to(4, "192.0.2.1")]);
        diff(&desired, &mirror).apply_to(&mut mirror);
        assert_eq!(mirror, desired);
        assert!(diff(&desired, &mirror).is_empty());
    }

    #[test]
    fn the_order_of_next_hops_is_no_difference() {
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        let (a, b) = (hop("192.0.2.1", "eth0"), hop("192.0.2.2", "eth0"));
        let one = Route::new(net, RouteKind::Unicast(vec![a.clone(), b.clone()]));
        let two = Route::new(net, RouteKind::Unicast(vec![b, a]));
        assert!(diff(&table(&[one]), &table(&[two])).is_empty());
    }
}
