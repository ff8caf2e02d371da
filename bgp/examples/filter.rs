//! What a long import filter costs: one speaker tells another its prefixes, in memory, and the other judges each by a
//! filter of so many prefixes, of which the last lets it pass.
//!
//! ```text
//! cargo run --release -p ocicat-bgp --example filter
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ocicat_bgp::rib::filter::{Action, Filter, MatchOperator, PrefixMatch, Rule};
use ocicat_bgp::sim::Simulation;
use ocicat_bgp::speaker::{Config, Originated, PeerConfig, PeerName};
use ocicat_bgp::wire::{Family, Prefix};

const PREFIXES: u32 = 50_000;

fn main() {
    println!("{PREFIXES} prefixes through an import filter of N prefixes");
    for rules in [0, 10, 100, 1_000, 10_000] {
        let best = (0..3).map(|_| measure(rules)).min().unwrap_or_default();
        let each = best.as_nanos() / u128::from(PREFIXES);
        println!("{rules:>6} rules  {:>7.1} ms in all  {each:>6} ns a prefix", ms(best));
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The time from the first message until the other has judged everything.
#[expect(clippy::disallowed_methods, reason = "an example may look at the clock")]
fn measure(rules: u32) -> Duration {
    let mut sim = Simulation::new(1);
    let mut sender = config(1);
    sender.peers.insert(PeerName::from("receiver"), PeerConfig::new(address(2), asn(2)));
    for number in 0..PREFIXES {
        sender.originated.insert(prefix(0x2000_0000 + (number << 8), 24), Originated::default());
    }
    let mut receiver = config(2);
    let import = if rules == 0 { Filter::accept_all() } else { filter(rules) };
    let peer = PeerConfig { import, ..PeerConfig::new(address(1), asn(1)) };
    receiver.peers.insert(PeerName::from("sender"), peer);
    sim.add(address(1), sender);
    sim.add(address(2), receiver);
    let began = Instant::now();
    sim.run_until_quiet();
    let took = began.elapsed();
    let (routes, _) = sim.node(1).speaker.table_size(Family::Ipv4);
    assert_eq!(routes, PREFIXES as usize, "everything was heard");
    took
}

/// Rejects some prefixes that nobody tells, and accepts the rest by the last rule.
fn filter(rules: u32) -> Filter {
    let rule = |cidr, operator, action| Rule {
        prefix: Some(PrefixMatch { cidr, operator, lengths: None }),
        ..Rule::any(action)
    };
    let strangers = (1..rules).map(|number| {
        rule(prefix(0x6000_0000 + (number << 8), 24), MatchOperator::Equal, Action::Reject)
    });
    let rest = rule(prefix(0, 0), MatchOperator::In, Action::Accept(Vec::new()));
    Filter { rules: strangers.chain([rest]).collect(), ..Filter::reject_all() }
}

fn config(number: u8) -> Config {
    Config::new(asn(number.into()), Ipv4Addr::new(10, 0, 0, number))
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn asn(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("numbers of this example are not zero")
}

fn prefix(bits: u32, len: u8) -> Prefix {
    Prefix::new(Ipv4Addr::from(bits).into(), len).expect("lengths of this example are valid")
}
