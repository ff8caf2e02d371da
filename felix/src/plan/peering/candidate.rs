//! Which of several objects that lead to the same peer it is from. Two sessions between the same two ends would knock each
//! other down for ever.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ocicat_bgp::speaker::{PeerConfig, PeerName};

use super::{About, Draft};
use crate::datastore::Key;
use crate::problem::Problem;

/// How an object leads a node to a peer. What comes first here goes before what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// The object gives the node this peer.
    Explicit,
    /// The object gives the peer this node, which gets the other half.
    Reverse,
    /// Every node has every other.
    Mesh,
}

/// A peer that an object leads to.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: PeerName,
    pub(super) peer: PeerConfig,
    pub(super) about: About,
    /// The gateway by which the kernel is to reach it whatever BGP says.
    pub(super) gateway: Option<IpAddr>,
    pub(super) claim: Claim,
    /// The object and the field that say whom it leads to.
    pub(super) said_by: (Key, String),
}

/// Peers that one object leads to in vain, as another goes before it with other settings.
struct Lost {
    first: String,
    others: usize,
}

impl Draft {
    /// Takes one of the candidates for each address, port and link. As in Calico, what an object gives the node goes
    /// before the other half of what one gives the peer, and among either kind what is for all nodes before what is for
    /// some; then, other than there, the order is that of the names, so that both ends choose the same object.
    pub(super) fn choose(&mut self) {
        let mut candidates = std::mem::take(&mut self.candidates);
        // Objects are read in the order of their names.
        candidates.sort_by_key(|candidate| (candidate.claim, candidate.about.nodes));
        let mut chosen: Vec<Candidate> = Vec::new();
        let mut places = BTreeMap::new();
        let mut lost: BTreeMap<((Key, String), String), Lost> = BTreeMap::new();
        for candidate in candidates {
            let PeerConfig { address, port, ref interface, .. } = candidate.peer;
            let place = *places.entry((address, port, interface.clone())).or_insert(chosen.len());
            let Some(winner) = chosen.get(place) else {
                chosen.push(candidate);
                continue;
            };
            // Each end has an object of its own: that is how they are told different things of each other. And an
            // object beside the mesh is how one pair of it gets settings of its own.
            let are_halves = (winner.claim, candidate.claim) == (Claim::Explicit, Claim::Reverse);
            let is_of_mesh = candidate.claim == Claim::Mesh;
            let are_alike = (&winner.peer, winner.gateway) == (&candidate.peer, candidate.gateway);
            if !(are_halves || is_of_mesh || are_alike) {
                let first = place_of(&candidate.peer);
                let pair = (candidate.said_by, winner.about.origin.clone());
                lost.entry(pair)
                    .and_modify(|lost| lost.others += 1)
                    .or_insert(Lost { first, others: 0 });
            }
        }
        for (((key, field), winner), Lost { first, others }) in lost {
            let others = if others == 0 { String::new() } else { format!(" and to {others} more") };
            let message = format!(
                "leads to {first}{others}, as {winner} does with other settings, which goes before it; no peer by this one"
            );
            self.problems.push(Problem::new(key, field, message));
        }
        chosen.into_iter().for_each(|candidate| self.admit(candidate));
    }

    /// The names of some peers are made of two, and may be those of others.
    fn admit(&mut self, candidate: Candidate) {
        let Candidate { name, peer, about, gateway, said_by, .. } = candidate;
        if let Some(other) = self.about.get(&name) {
            let message = format!(
                "its peer would be {name}, as one of {} is; no peer by this one until one of them has another name",
                other.origin
            );
            return self.problems.push(Problem::new(said_by.0, "metadata.name", message));
        }
        self.gateways.extend(gateway.map(|gateway| (peer.address, gateway)));
        self.about.insert(name.clone(), about);
        self.peers.insert(name, peer);
    }
}

/// Where a peer is, as people write it.
fn place_of(peer: &PeerConfig) -> String {
    match &peer.interface {
        None => SocketAddr::new(peer.address, peer.port).to_string(),
        Some(link) if peer.is_unnumbered() => format!("the router on {link}"),
        Some(link) => format!("{}%{link}", peer.address),
    }
}
