//! The table against RFC 6811 §2 read aloud.

use proptest::prelude::*;

use super::vrp;
use crate::rpki::{Origins, Validity, Vrp, Vrps};
use crate::wire::{Family, Prefix};

#[test]
fn a_prefix_is_valid_invalid_or_not_found() {
    use Validity::{Invalid, NotFound, Valid};
    let mut table = Vrps::default();
    for text in [
        "10.0.0.0/16-20 AS65001",
        "10.0.0.0/16 AS65002",
        "10.1.0.0/16 AS0",
        "2001:db8::/32-48 AS65001",
        "0.0.0.0/4-32 AS65009",
    ] {
        table.insert(vrp(text));
    }
    for (prefix, origin, expected) in [
        ("10.0.0.0/16", 65001, Valid),
        ("10.0.16.0/20", 65001, Valid),
        ("10.0.16.0/21", 65001, Invalid),
        ("10.0.0.0/16", 65002, Valid),
        ("10.0.0.0/17", 65002, Invalid),
        ("10.0.0.0/16", 65003, Invalid),
        // Any payload that names the origin will do, also a less specific one.
        ("10.1.0.0/16", 65009, Valid),
        // AS 0 names nobody (RFC 6483 §4).
        ("10.1.0.0/16", 0, Invalid),
        ("10.1.0.0/24", 65001, Invalid),
        // A payload does not cover what is larger than itself.
        ("0.0.0.0/0", 65001, NotFound),
        ("192.0.2.0/24", 65001, NotFound),
        ("2001:db8:1::/48", 65001, Valid),
        ("2001:db8:1:1::/64", 65001, Invalid),
        ("2001:db9::/32", 65001, NotFound),
        ("::/0", 65001, NotFound),
    ] {
        assert_eq!(table.validity(prefix.parse().unwrap(), origin), expected, "{prefix} {origin}");
    }
}

#[test]
fn what_two_caches_say_holds_until_neither_does() {
    let [one, other] = ["192.0.2.1:323", "192.0.2.2:323"].map(|cache| cache.parse().unwrap());
    let mut origins = Origins::default();
    let payload = vrp("10.0.0.0/16 AS65001");
    assert!(origins.of(one).insert(payload));
    assert!(!origins.of(one).insert(payload), "it has said so");
    assert!(origins.of(other).insert(payload));
    assert!(origins.of(other).insert(vrp("10.0.0.0/8 AS65009")));
    assert!(origins.of(one).remove(payload));
    assert!(!origins.of(one).remove(payload));
    assert_eq!(origins.validity(payload.prefix, 65001), Validity::Valid);
    assert!(origins.of(other).remove(payload));
    assert_eq!(origins.validity(payload.prefix, 65001), Validity::Invalid);
    assert!(!origins.is_empty());
    assert_eq!(origins.forget(other).len(), 1);
    assert_eq!(origins.validity(payload.prefix, 65001), Validity::NotFound);
    assert!(origins.is_empty());
}

/// RFC 6811 §2, over a list.
fn naive(payloads: &[Vrp], prefix: Prefix, origin: u32) -> Validity {
    let covering: Vec<&Vrp> = payloads.iter().filter(|vrp| vrp.prefix.contains(prefix)).collect();
    let matches = |vrp: &&Vrp| prefix.len() <= vrp.max_length && vrp.asn == origin && vrp.asn != 0;
    if covering.is_empty() {
        Validity::NotFound
    } else if covering.iter().any(matches) {
        Validity::Valid
    } else {
        Validity::Invalid
    }
}

/// Few bits, so that prefixes meet.
fn a_prefix() -> impl Strategy<Value = Prefix> {
    (any::<bool>(), 0u128..16, 0u8..=6).prop_map(|(is_ipv4, bits, len)| {
        let family = if is_ipv4 { Family::Ipv4 } else { Family::Ipv6 };
        Prefix::from_bits(family, bits << 124, len)
    })
}

fn a_vrp() -> impl Strategy<Value = Vrp> {
    (a_prefix(), 0u8..4, 0u32..3).prop_map(|(prefix, more, asn)| {
        let max_length = prefix.len() + more;
        Vrp { prefix, max_length, asn }
    })
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_list(
        changes in prop::collection::vec((any::<bool>(), a_vrp()), 0..40),
        asked in prop::collection::vec((a_prefix(), 0u32..4), 1..40),
    ) {
        let (mut table, mut list) = (Vrps::default(), Vec::new());
        for (add, vrp) in changes {
            let held = list.iter().position(|each| *each == vrp);
            prop_assert_eq!(table.contains(vrp), held.is_some());
            if add {
                prop_assert_eq!(table.insert(vrp), held.is_none());
                list.extend(held.is_none().then_some(vrp));
            } else {
                prop_assert_eq!(table.remove(vrp), held.is_some());
                held.map(|at| list.swap_remove(at));
            }
            for (prefix, origin) in &asked {
                prop_assert_eq!(table.validity(*prefix, *origin), naive(&list, *prefix, *origin));
            }
            prop_assert_eq!((table.len(), table.is_empty()), (list.len(), list.is_empty()));
            let of_ipv4 = list.iter().filter(|vrp| vrp.prefix.family() == Family::Ipv4).count();
            prop_assert_eq!(table.counts()[Family::Ipv4.index()], of_ipv4);
            let (mut all, mut expected): (Vec<Vrp>, _) = (table.iter().collect(), list.clone());
            all.sort();
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn caches_together_say_what_one_with_all_would(
        said in prop::collection::vec((0u8..3, a_vrp()), 0..20),
        asked in prop::collection::vec((a_prefix(), 0u32..4), 1..40),
    ) {
        let mut origins = Origins::default();
        for (cache, vrp) in &said {
            origins.of(([192, 0, 2, *cache], 323).into()).insert(*vrp);
        }
        let all: Vec<Vrp> = said.into_iter().map(|(_, vrp)| vrp).collect();
        for (prefix, origin) in asked {
            prop_assert_eq!(origins.validity(prefix, origin), naive(&all, prefix, origin));
        }
    }
}
