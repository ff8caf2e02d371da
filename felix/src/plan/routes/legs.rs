//! The routes of this node leg by leg, for those who want to see them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;

use ipnet::IpNet;
use ocicat_bgp::speaker::PeerName;
use ocicat_bgp::wire::Family;

use super::{RoutePlan, Ways, learned_key};
use crate::dataplane::{Route, RouteKey, RouteKind, Routes};

/// A route's way through one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Where to.
    pub destination: IpNet,
    /// By which router.
    pub gateway: Option<IpAddr>,
    /// Over which link.
    pub interface: Option<Arc<str>>,
    /// Where the route is from.
    pub origin: LegOrigin,
    /// Where the kernel has it, if it does.
    pub place: RouteKey,
}

/// Where a route is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegOrigin {
    /// A pod of this node has the address.
    Pod,
    /// Configured: the node's own ranges, aggregates, and the ways to peers that are reached by a gateway.
    Configured,
    /// An earlier life of the agent left it, and the peers have not told everything yet.
    EarlierLife,
    /// This peer told it.
    Peer(PeerName),
}

impl RoutePlan {
    /// At most `limit` legs of a family: our own first, then what was learned, each by prefix.
    pub fn legs(&self, family: Family, limit: usize, ways: &Ways) -> Vec<Leg> {
        let own = legs_of(&self.own, family, |route| match route.kind {
            RouteKind::Unicast(_) => LegOrigin::Pod,
            RouteKind::Blackhole => LegOrigin::Configured,
        });
        let aggregates = legs_of(&self.aggregates, family, |_| LegOrigin::Configured);
        let guided = legs_of(&self.guided, family, |_| LegOrigin::Configured);
        let left = legs_of(&self.held, family, |_| LegOrigin::EarlierLife);
        let left = left.filter(|leg| !self.learned.contains_key(&leg.place));
        let learned = of_family(&self.best, family).flat_map(|(prefix, best)| {
            best.next_hops.iter().flat_map(|via| self.legs_by(*prefix, via, ways))
        });
        own.chain(aggregates).chain(guided).chain(learned).chain(left).take(limit).collect()
    }

    /// A path's legs; of one without a way, what the peer said.
    fn legs_by(
        &self,
        destination: IpNet,
        via: &ocicat_bgp::speaker::NextHopVia,
        ways: &Ways,
    ) -> Vec<Leg> {
        let leg = |gateway, interface| Leg {
            destination,
            gateway,
            interface,
            origin: LegOrigin::Peer(via.peer.clone()),
            place: learned_key(destination),
        };
        let hops = self.hops_of(destination, via, ways);
        if hops.is_empty() {
            return vec![leg(Some(via.address), None)];
        }
        hops.into_iter().map(|hop| leg(hop.gateway, Some(hop.interface))).collect()
    }
}

fn legs_of(
    routes: &Routes,
    family: Family,
    origin: impl Fn(&Route) -> LegOrigin,
) -> impl Iterator<Item = Leg> {
    let of_family = move |route: &&Route| match route.destination {
        IpNet::V4(_) => family == Family::Ipv4,
        IpNet::V6(_) => family == Family::Ipv6,
    };
    routes.values().filter(of_family).flat_map(move |route| {
        let leg = |gateway, interface| Leg {
            destination: route.destination,
            gateway,
            interface,
            origin: origin(route),
            place: route.key(),
        };
        match &route.kind {
            RouteKind::Unicast(hops) => hops
                .iter()
                .map(|hop| leg(hop.gateway, Some(hop.interface.clone())))
                .collect::<Vec<_>>(),
            RouteKind::Blackhole => vec![leg(None, None)],
        }
    })
}

/// The entries of a family, without walking over those of the other.
fn of_family<T>(all: &BTreeMap<IpNet, T>, family: Family) -> impl Iterator<Item = (&IpNet, &T)> {
    let (low, high): (IpAddr, IpAddr) = match family {
        Family::Ipv4 => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
        Family::Ipv6 => (Ipv6Addr::UNSPECIFIED.into(), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
    };
    let first = IpNet::new(low, 0).unwrap_or_else(|_| IpNet::from(low));
    all.range((Bound::Included(first), Bound::Included(IpNet::from(high))))
}
