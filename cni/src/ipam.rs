//! Which address a pod gets: a pure function of the node's CIDRs, of what is in use and of what was released when.
//!
//! The address that has been idle longest goes first: never used ones in order, then the one released longest ago. So
//! the cool-down of an address is as long as the range permits, and a full range still serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::endpoint::UnixMillis;

/// What an allocation is made of.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// The node's pod CIDRs of both families.
    pub cidrs: &'a [IpNet],
    /// Addresses that some record holds.
    pub used: &'a BTreeSet<IpAddr>,
    /// When each address that was used before was last released.
    pub released: &'a BTreeMap<IpAddr, UnixMillis>,
    /// The moment of the allocation.
    pub now: UnixMillis,
}

/// An allocated address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// How long nobody had it; `None` if nobody ever had.
    pub idle: Option<Duration>,
}

/// A family has no free address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free {family} address in {}", list(cidrs))]
pub struct Exhausted {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// The CIDRs that are full.
    pub cidrs: Vec<IpNet>,
}

fn list(cidrs: &[IpNet]) -> String {
    cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Pool<'_> {
    /// One address per family that the CIDRs have, IPv4 first; both or none.
    pub fn allocate(&self) -> Result<Vec<Allocation>, Exhausted> {
        let (v4, v6): (Vec<IpNet>, Vec<IpNet>) =
            self.cidrs.iter().partition(|cidr| cidr.addr().is_ipv4());
        [("IPv4", v4), ("IPv6", v6)]
            .into_iter()
            .filter(|(_, cidrs)| !cidrs.is_empty())
            .map(|(family, cidrs)| self.longest_idle(&cidrs).ok_or(Exhausted { family, cidrs }))
            .collect()
    }

    fn longest_idle(&self, cidrs: &[IpNet]) -> Option<Allocation> {
        self.never_used(cidrs).or_else(|| self.released_first(cidrs))
    }

    fn never_used(&self, cidrs: &[IpNet]) -> Option<Allocation> {
        let known =
            |address: &IpAddr| self.used.contains(address) || self.released.contains_key(address);
        let address = cidrs.iter().flat_map(usable).find(|address| !known(address))?;
        Some(Allocation { address, idle: None })
    }

    fn released_first(&self, cidrs: &[IpNet]) -> Option<Allocation> {
        let (address, released) = self
            .released
            .iter()
            .filter(|(address, _)| !self.used.contains(address))
            .filter(|(address, _)| cidrs.iter().any(|cidr| is_usable(cidr, **address)))
            .min_by_key(|(address, released)| (**released, **address))?;
        Some(Allocation { address: *address, idle: Some(self.now.since(*released)) })
    }
}

/// First and last address that a pod may have, as numbers. The network address and the one after it, which much
/// software takes for a gateway, are left out, and so is IPv4's broadcast address; `::0` is the subnet-router anycast
/// address of RFC 4291 §2.6.1.
fn bounds(cidr: &IpNet) -> (u128, u128) {
    match cidr {
        IpNet::V4(cidr) => {
            let (network, broadcast) = (cidr.network().to_bits(), cidr.broadcast().to_bits());
            (u128::from(network) + 2, u128::from(broadcast).saturating_sub(1))
        }
        IpNet::V6(cidr) => (cidr.network().to_bits().saturating_add(2), cidr.broadcast().to_bits()),
    }
}

fn usable(cidr: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let (first, last) = bounds(cidr);
    let cidr = *cidr;
    (first..=last).map(move |bits| match cidr {
        IpNet::V4(_) => {
            Ipv4Addr::from_bits(u32::try_from(bits).expect("the bounds are of 32 bits")).into()
        }
        IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
    })
}

fn is_usable(cidr: &IpNet, address: IpAddr) -> bool {
    let (first, last) = bounds(cidr);
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    cidr.contains(&address) && (first..=last).contains(&bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(cidrs: &[&str], used: &[&str], released: &[(&str, u64)], expected: &str) {
        let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let used = used.iter().map(|address| address.parse().unwrap()).collect();
        let released = released
            .iter()
            .map(|(address, at)| (address.parse().unwrap(), UnixMillis(*at)))
            .collect();
        let pool =
            Pool { cidrs: &cidrs, used: &used, released: &released, now: UnixMillis(100_000) };
        let shown = match pool.allocate() {
            Ok(all) => all
                .iter()
                .map(|a| match a.idle {
                    None => a.address.to_string(),
                    Some(idle) => format!("{} after {} s", a.address, idle.as_secs()),
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(exhausted) => exhausted.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_first_address_is_neither_the_network_nor_a_gateway() {
        check(&["10.65.1.0/24", "fd00:65:1::/64"], &[], &[], "10.65.1.2 fd00:65:1::2");
    }

    #[test]
    fn an_address_in_use_is_passed_over() {
        check(&["10.65.1.0/24"], &["10.65.1.2", "10.65.1.3"], &[], "10.65.1.4");
    }

    #[test]
    fn a_released_address_waits_while_there_are_fresh_ones() {
        check(&["10.65.1.0/29"], &[], &[("10.65.1.2", 5)], "10.65.1.3");
    }

    #[test]
    fn the_longest_released_address_goes_first() {
        let released = [("10.65.1.2", 50_000), ("10.65.1.3", 30_000), ("10.65.1.4", 40_000)];
        check(&["10.65.1.0/29"], &["10.65.1.5", "10.65.1.6"], &released, "10.65.1.3 after 70 s");
    }

    #[test]
    fn an_address_is_reused_early_rather_than_the_pod_refused() {
        check(&["10.65.1.0/30"], &[], &[("10.65.1.2", 99_000)], "10.65.1.2 after 1 s");
    }

    #[test]
    fn the_broadcast_address_is_never_given_out() {
        check(&["10.65.1.0/30"], &["10.65.1.2"], &[], "no free IPv4 address in 10.65.1.0/30");
    }

    #[test]
    fn a_full_range_goes_on_in_the_next() {
        check(&["10.65.1.0/30", "10.66.0.0/30"], &["10.65.1.2"], &[], "10.66.0.2");
    }

    #[test]
    fn both_families_or_none() {
        check(&["10.65.1.0/24", "fd00::/127"], &[], &[], "no free IPv6 address in fd00::/127");
    }

    #[test]
    fn a_released_address_of_a_former_range_is_not_taken() {
        check(
            &["10.65.1.0/30"],
            &["10.65.1.2"],
            &[("10.9.9.9", 1)],
            "no free IPv4 address in 10.65.1.0/30",
        );
    }

    #[test]
    fn the_last_addresses_of_all_do_not_overflow() {
        check(
            &["255.255.255.252/30", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"],
            &[],
            &[],
            "255.255.255.254 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
        );
    }

    proptest! {
        /// A life of allocations and releases in a small dual-stack range, against what must always hold.
        #[test]
        fn no_address_is_given_twice_or_from_outside_and_the_longest_idle_goes_first(
            moves in proptest::collection::vec(proptest::option::of(0usize..16), 1..200),
            length in 24u8..=30,
        ) {
            let cidrs: Vec<IpNet> = vec![
                format!("10.65.1.0/{length}").parse().unwrap(),
                format!("fd00::/{}", 96 + length).parse().unwrap(),
            ];
            let (mut used, mut released) = (BTreeSet::new(), BTreeMap::new());
            let mut pods: Vec<Vec<IpAddr>> = Vec::new();
            for (time, step) in (1u64..).zip(moves) {
                let now = UnixMillis(time);
                if let Some(pod) = step {
                    if pod < pods.len() {
                        for address in pods.remove(pod) {
                            used.remove(&address);
                            released.insert(address, now);
                        }
                    }
                    continue;
                }
                let pool = Pool { cidrs: &cidrs, used: &used, released: &released, now };
                let capacity = (1usize << (32 - length)) - 3;
                let Ok(allocations) = pool.allocate() else {
                    prop_assert_eq!(pods.len(), capacity, "refused while addresses were free");
                    continue;
                };
                prop_assert_eq!(allocations.len(), 2);
                for (allocation, cidr) in allocations.iter().zip(&cidrs) {
                    let address = allocation.address;
                    prop_assert!(cidr.contains(&address));
                    prop_assert!(address != cidr.network() && address != cidr.broadcast()
                        || address.is_ipv6() && address == cidr.broadcast());
                    let free_longer = usable(cidr).filter(|other| !used.contains(other)).any(
                        |other| released.get(&other) < released.get(&address),
                    );
                    prop_assert!(!free_longer, "{address} is not the longest idle");
                    prop_assert!(used.insert(address), "{address} given twice");
                }
                pods.push(allocations.iter().map(|allocation| allocation.address).collect());
            }
        }
    }
}
