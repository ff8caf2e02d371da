//! What speakers do together.

mod add_path;
mod aggregate;
mod as_rules;
mod basics;
mod bfd;
mod changes;
mod conditions;
mod confederation;
mod dump;
mod found;
mod groups;
mod isolation;
mod long_attributes;
mod long_lived;
mod monitor;
mod oracle;
mod refresh;
mod restart;
mod roles;
mod rpki;
mod sessions;
mod teller;
mod topology;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use super::Simulation;
use crate::rib::filter::Filter;
use crate::speaker::{Config, Originated, PeerConfig, PeerName, State};
use crate::wire::{Family, FamilySet, Prefix};

/// The address of a node.
fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(number + 1).unwrap()).into()
}

fn name(number: usize) -> PeerName {
    format!("n{number}").into()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// The prefix that a node originates.
fn own(number: usize) -> Prefix {
    prefix(&format!("192.168.{number}.0/24"))
}

fn asn(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A node that originates its own prefix.
fn config(number: usize, local_as: u32) -> Config {
    let IpAddr::V4(router_id) = address(number) else { unreachable!("all nodes have IPv4") };
    let mut config = Config::new(asn(local_as), router_id);
    config.originated.insert(own(number), Originated::default());
    config
}

/// A peer that is told everything.
fn peer(number: usize, remote_as: u32) -> PeerConfig {
    let mut peer = PeerConfig::new(address(number), asn(remote_as));
    peer.export = Filter::accept_all();
    peer
}

/// Nodes with these AS numbers and links between them.
fn configs(ases: &[u32], links: &[(usize, usize)]) -> Vec<Config> {
    let mut configs: Vec<_> = ases.iter().enumerate().map(|(n, asn)| config(n, *asn)).collect();
    for (a, b) in links {
        configs[*a].peers.insert(name(*b), peer(*b, ases[*b]));
        configs[*b].peers.insert(name(*a), peer(*a, ases[*a]));
    }
    configs
}

fn network(seed: u64, configs: Vec<Config>) -> Simulation {
    let mut sim = Simulation::new(seed);
    for (number, config) in configs.into_iter().enumerate() {
        sim.add(address(number), config);
    }
    sim.run_until_quiet();
    sim
}

fn state(sim: &Simulation, node: usize, peer: usize) -> State {
    let peers = sim.node(node).speaker.peers(sim.now());
    peers.into_iter().find(|each| each.name == name(peer)).unwrap().state
}

/// Prefix and next hops of each route, as text.
fn routes(sim: &Simulation, node: usize) -> BTreeMap<String, Vec<String>> {
    let routes = sim.node(node).routes.values();
    routes
        .map(|route| {
            let hops = route.next_hops.iter().map(|via| via.address.to_string());
            (route.prefix.to_string(), hops.collect())
        })
        .collect()
}

/// What a node is told by a peer is what that peer thinks it has told.
fn check_adjacent(sim: &Simulation, nodes: usize) {
    for (a, b) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))) {
        for family in Family::ALL {
            let mut told: Vec<_> = sim.node(a).speaker.advertised(&name(b), family);
            told.sort_by_key(|(prefix, _)| *prefix);
            let (heard, _) = sim.node(b).speaker.routes(family, 0, usize::MAX);
            let mut heard: Vec<_> = heard
                .into_iter()
                .flat_map(|route| route.paths.into_iter().map(move |path| (route.prefix, path)))
                .filter(|(_, path)| path.peer.as_ref() == Some(&name(a)))
                .map(|(prefix, path)| (prefix, path.attributes.as_path))
                .collect();
            heard.sort();
            let told: Vec<_> = told.into_iter().map(|(p, attrs)| (p, attrs.as_path)).collect();
            assert_eq!(told, heard, "{a} told {b} {family}");
        }
    }
}
