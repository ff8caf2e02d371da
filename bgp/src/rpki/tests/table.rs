//! The table against RFC 6811 §2 read aloud.

use proptest::prelude::*;

use super::vrp;
use crate::rpki::{Affected, Change, Effect, Validity, Vrp, Vrps};
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
        table.announce(vrp(text));
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
    let mut table = Vrps::default();
    let one = vrp("10.0.0.0/16 AS65001");
    assert_eq!(table.announce(one), Effect::Changed);
    assert_eq!(table.announce(one), Effect::None);
    assert_eq!(table.withdraw(one), Effect::None);
    assert_eq!(table.validity(one.prefix, 65001), Validity::Valid);
    assert_eq!(table.withdraw(one), Effect::Changed);
    assert_eq!(table.withdraw(one), Effect::None);
    assert_eq!(table.validity(one.prefix, 65001), Validity::NotFound);
    assert!(table.is_empty());
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

fn a_change() -> impl Strategy<Value = (Change, Vrp)> {
    (prop_oneof![Just(Change::Announced), Just(Change::Withdrawn)], a_vrp())
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_list(
        changes in prop::collection::vec(a_change(), 0..40),
        asked in prop::collection::vec((a_prefix(), 0u32..4), 1..40),
    ) {
        let (mut table, mut list) = (Vrps::default(), Vec::new());
        for (change, vrp) in changes {
            match change {
                Change::Announced => {
                    table.announce(vrp);
                    list.push(vrp);
                }
                Change::Withdrawn => {
                    table.withdraw(vrp);
                    if let Some(at) = list.iter().position(|each| *each == vrp) {
                        list.swap_remove(at);
                    }
                }
            }
            for (prefix, origin) in &asked {
                prop_assert_eq!(table.validity(*prefix, *origin), naive(&list, *prefix, *origin));
            }
            prop_assert_eq!(table.is_empty(), list.is_empty());
        }
    }

    /// What is not affected by a change is worth what it was.
    #[test]
    fn only_affected_prefixes_change_what_they_are_worth(
        before in prop::collection::vec(a_vrp(), 0..10),
        changes in prop::collection::vec(a_change(), 0..6),
        asked in prop::collection::vec((a_prefix(), 0u32..4), 1..40),
    ) {
        let mut table = Vrps::default();
        for vrp in before {
            table.announce(vrp);
        }
        let worth = |table: &Vrps| -> Vec<Validity> {
            asked.iter().map(|(prefix, origin)| table.validity(*prefix, *origin)).collect()
        };
        let was = worth(&table);
        let mut affected = Affected::default();
        for (change, vrp) in changes {
            let effect = match change {
                Change::Announced => table.announce(vrp),
                Change::Withdrawn => table.withdraw(vrp),
            };
            if effect == Effect::Changed {
                affected.insert(vrp.prefix);
            }
        }
        for ((prefix, _), (was, is)) in asked.iter().zip(was.iter().zip(worth(&table))) {
            prop_assert!(*was == is || affected.cover(*prefix), "{prefix} was {was}, is {is}");
        }
    }
}
