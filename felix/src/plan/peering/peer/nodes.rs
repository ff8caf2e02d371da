//! Peers that are nodes of the cluster, and the other half that an object gives these.

use std::net::IpAddr;

use ocicat_bgp::speaker::RemoteAs;

use super::{Candidate, Claim, Reader};
use crate::datastore::calico::SourceAddress;
use crate::plan::peering::Pair;
use crate::world::Node;

impl Reader<'_> {
    /// Every selected node, and in the other direction if we are selected ourselves.
    pub(super) fn by_selector(
        &mut self,
        name: &str,
        selector: &str,
        selects: &dyn Fn(&Node) -> bool,
    ) {
        let Some(far) = self.expression("spec.peerSelector", selector) else { return };
        let ours = selects(self.own);
        let reverse = self.is_reversed() && far.matches(&self.own.labels);
        for node in self.world.nodes.values().filter(|node| node.name != self.own.name) {
            let explicit = (ours && far.matches(&node.labels)).then_some(Claim::Explicit);
            let reverse = (reverse && selects(node)).then_some(Claim::Reverse);
            if let Some(claim) = explicit.or(reverse) {
                for pair in Pair::all(self.own, node) {
                    self.by_pair(name, &pair, node, claim);
                }
            }
        }
    }

    /// Whether whom the object leads to gets the other half of itself.
    fn is_reversed(&self) -> bool {
        self.spec.reverse_peering.as_deref() != Some("Manual")
    }

    /// Whether a node that others have as their peer, by an address of its own, has such a one as its peer: if
    /// the object leads to its speaker and not to another on the same machine.
    pub(super) fn has_other_half(
        &self,
        node: &Node,
        (port, remote_as): (Option<u16>, RemoteAs),
        other: &Node,
    ) -> bool {
        let [number, others] = [node, other].map(|node| self.settings.as_number_of(node).get());
        self.is_reversed()
            && port.is_none_or(|port| port == self.settings.listen_port_of(node))
            && remote_as.admits(number, others)
    }

    fn by_pair(&mut self, name: &str, pair: &Pair, node: &Node, claim: Claim) {
        let mut peer = pair.between(self.settings.peer_node(pair.other, node));
        if self.spec.source_address == Some(SourceAddress::None) {
            peer.source = None;
        }
        let candidate = self.candidate(pair.name(name, node), peer, Some(node), claim);
        if let Some(peer) = pair.alone(candidate.peer) {
            self.draft.candidates.push(Candidate { peer, ..candidate });
        }
    }

    /// The nodes that have us as their peer, by this address of ours: there the other half is made of the same object.
    pub(super) fn by_own_address(
        &mut self,
        name: &str,
        (address, port): (IpAddr, Option<u16>),
        selects: &dyn Fn(&Node) -> bool,
    ) {
        let Some(wanted) = self.remote_as(Some(RemoteAs::Any)) else { return };
        for node in self.world.nodes.values().filter(|node| node.name != self.own.name) {
            if selects(node) && self.has_other_half(self.own, (port, wanted), node) {
                for pair in Pair::all(self.own, node).iter().filter(|pair| pair.own == address) {
                    self.by_pair(name, pair, node, Claim::Reverse);
                }
            }
        }
    }
}
