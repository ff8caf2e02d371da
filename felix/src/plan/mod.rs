//! From the world to what should be: rules, routes, peers, address translation. Pure.

pub mod nat;
pub mod peering;
pub mod routes;
pub mod ruleset;
pub mod status;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::nft::Family;

/// The addresses of a family that are in any of `nets`, as the fewest ranges, ascending: the kernel refuses ranges that
/// overlap, and a hole in a block costs one range more where CIDRs would take dozens.
fn ranges<'a>(nets: impl IntoIterator<Item = &'a IpNet>, family: Family) -> Vec<(IpAddr, IpAddr)> {
    let bounds = |net: &IpNet| match (net, family) {
        (IpNet::V4(net), Family::Ipv4) => {
            Some((u128::from(net.network().to_bits()), u128::from(net.broadcast().to_bits())))
        }
        (IpNet::V6(net), Family::Ipv6) => {
            Some((net.network().to_bits(), net.broadcast().to_bits()))
        }
        (IpNet::V4(_), Family::Ipv6) | (IpNet::V6(_), Family::Ipv4) => None,
    };
    let mut sorted: Vec<(u128, u128)> = nets.into_iter().filter_map(bounds).collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            // The addition cannot overflow: a range that ends with the last address contains all that follow.
            Some((_, end)) if *end == u128::MAX || first <= *end + 1 => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    let address = |bits: u128| match family {
        Family::Ipv4 => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).expect("bits of an IPv4 address")))
        }
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    joined.into_iter().map(|(first, last)| (address(first), address(last))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn text(ranges: &[(IpAddr, IpAddr)]) -> Vec<String> {
        ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect()
    }

    #[test]
    fn neighbours_are_joined_and_the_other_family_is_left_out() {
        let nets =
            nets(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "fd00::/64", "10.0.3.0/24"]);
        assert_eq!(
            text(&ranges(&nets, Family::Ipv4)),
            ["10.0.0.0-10.0.1.255", "10.0.3.0-10.0.3.255"]
        );
        assert_eq!(text(&ranges(&nets, Family::Ipv6)), ["fd00::-fd00::ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn the_last_address_ends_a_range() {
        let v6 = nets(&["::/0", "ffff::/16"]);
        assert_eq!(text(&ranges(&v6, Family::Ipv6)).len(), 1);
        let v4 = nets(&["255.255.255.255/32", "0.0.0.0/0"]);
        assert_eq!(text(&ranges(&v4, Family::Ipv4)), ["0.0.0.0-255.255.255.255"]);
    }

    proptest! {
        #[test]
        fn the_ranges_hold_the_addresses_of_the_blocks_and_no_others(
            blocks in prop::collection::vec((0_u8..16, 28_u8..=32), 0..6),
        ) {
            let nets: Vec<IpNet> = blocks
                .iter()
                .map(|(last, length)| IpNet::new(IpAddr::from([10, 0, 0, *last]), *length).unwrap())
                .collect();
            let ranges = ranges(&nets, Family::Ipv4);
            for last in 0..=u8::MAX {
                let address = IpAddr::from([10, 0, 0, last]);
                let holding = ranges.iter().filter(|(a, b)| (*a..=*b).contains(&address)).count();
                let wanted = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(holding, usize::from(wanted));
            }
        }
    }
}
