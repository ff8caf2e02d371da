//! The table in slices, as an MRT dump.

use super::*;
use crate::speaker::DumpCursor;
use crate::wire::FamilySet;

/// Subtype, sequence number and body of each record.
fn records(mut bytes: &[u8]) -> Vec<(u16, u32)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let subtype = u16::from_be_bytes([bytes[6], bytes[7]]);
        let length = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let sequence = u32::from_be_bytes(bytes[12..16].try_into().unwrap());
        records.push((subtype, sequence));
        bytes = &bytes[12 + length..];
    }
    records
}

fn dump(sim: &Simulation, families: FamilySet) -> (Vec<u8>, usize) {
    let (mut all, mut slices) = (Vec::new(), 0);
    let mut next: Option<DumpCursor> = None;
    loop {
        let (bytes, rest) = sim.node(0).speaker.dump(7, families, next);
        all.extend(bytes);
        slices += 1;
        match rest {
            Some(rest) => next = Some(rest),
            None => return (all, slices),
        }
    }
}

#[test]
fn a_dump_has_every_prefix_once_in_slices_and_what_import_rejects_too() {
    let mut configs = configs(&[65000, 65001], &[(0, 1)]);
    configs[0].peers.get_mut(&name(1)).unwrap().import = Filter::reject_all();
    configs[0].own_ipv6 = Some("2001:db8::1".parse().unwrap());
    configs[1].own_ipv6 = Some("2001:db8::2".parse().unwrap());
    for number in 0..1500_u32 {
        let ipv4 = Ipv4Addr::from_bits(0x1400_0000 + (number << 8)).into();
        let ipv6 = std::net::Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number) << 64);
        for prefix in [Prefix::new(ipv4, 24), Prefix::new(ipv6.into(), 64)] {
            configs[1].originated.insert(prefix.unwrap(), Originated::default());
        }
    }
    let sim = network(1, configs);
    let (bytes, slices) = dump(&sim, FamilySet::ALL);
    let found = records(&bytes);
    assert_eq!(found[0].0, 1, "the peers come first");
    let count = |subtype| found[1..].iter().filter(|(kind, _)| *kind == subtype).count();
    // And what both nodes originate by themselves.
    assert_eq!((count(2), count(4)), (1500 + 2, 1500));
    assert!(found[1..].iter().map(|(_, sequence)| *sequence).eq(0..3002));
    assert_eq!(slices, 1 + 2 + 2);
    let (bytes, _) = dump(&sim, [Family::Ipv6].into_iter().collect());
    let found = records(&bytes);
    assert!(found.len() == 1501 && found[1..].iter().all(|(kind, _)| *kind == 4));
}
