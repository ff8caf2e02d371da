//! Who may be the other side: the content that names a peer table.
//!
//! The identity of a table is the list of its clauses, not the pods that they select, so that a pod
//! which comes or goes is an element of the table and not another table.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::{Action, Block, NamedPort, Pod, PodSelector};
use crate::program::Verdict;

/// Whom one clause speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PeerMatch {
    /// Everybody.
    Any,
    /// Addresses, whoever has them.
    Block(Arc<Block>),
    /// The addresses of pods.
    Pods(PodMatch),
}

/// Pods, all of whose conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodMatch {
    pub(crate) selector: Arc<PodSelector>,
    /// Only addresses inside this block.
    pub(crate) within: Option<Arc<Block>>,
    /// Only pods that call this port by this name.
    pub(crate) port: Option<NamedPort>,
}

impl PodMatch {
    /// Whether the conditions other than the selector hold for a pod at one of its addresses.
    pub(crate) fn holds_beside_selector(&self, pod: &Pod, address: IpAddr) -> bool {
        self.within.as_ref().is_none_or(|block| block.contains(address))
            && self.port.as_ref().is_none_or(|port| pod.named_ports.contains(port))
    }
}

/// What to do with some peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Clause {
    pub(crate) action: Action,
    pub(crate) peer: PeerMatch,
}

/// The clauses of one tier, of which the first match counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stage {
    pub(crate) clauses: Vec<Clause>,
    pub(crate) default: Action,
}

impl Stage {
    /// Bring stages that say the same to the same form.
    fn normalise(&mut self) {
        if let Some(at) = self.clauses.iter().position(|clause| clause.peer == PeerMatch::Any) {
            self.default = self.clauses[at].action;
            self.clauses.truncate(at);
        }
        while self.clauses.last().is_some_and(|clause| clause.action == self.default) {
            self.clauses.pop();
        }
        // Among neighbours with the same action the order does not matter.
        for run in self.clauses.chunk_by_mut(|one, other| one.action == other.action) {
            run.sort();
        }
        self.clauses.dedup();
    }

    fn is_final(&self) -> bool {
        let mut actions = self.clauses.iter().map(|clause| clause.action).chain([self.default]);
        actions.all(|action| action != Action::Pass)
    }
}

/// The stages that a packet goes through until one decides. What the last one passes is accepted, as
/// Kubernetes does where no policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableSpec(Vec<Stage>);

impl TableSpec {
    pub(crate) fn new(stages: impl IntoIterator<Item = Stage>) -> Self {
        let mut kept = Vec::new();
        for mut stage in stages {
            stage.normalise();
            let decides = stage.is_final();
            if !stage.clauses.is_empty() || stage.default != Action::Pass {
                kept.push(stage);
            }
            if decides {
                break;
            }
        }
        if let Some(last) = kept.last_mut() {
            for action in last.clauses.iter_mut().map(|clause| &mut clause.action) {
                *action = passed_is_allowed(*action);
            }
            last.default = passed_is_allowed(last.default);
            last.normalise();
        }
        if kept.is_empty() {
            kept.push(Stage { clauses: Vec::new(), default: Action::Allow });
        }
        Self(kept)
    }

    /// Whether nobody is accepted, whoever comes.
    pub(crate) fn drops_everything(&self) -> bool {
        matches!(&*self.0, [Stage { clauses, default: Action::Deny }] if clauses.is_empty())
    }

    /// Every clause about pods.
    pub(crate) fn pod_matches(&self) -> impl Iterator<Item = &PodMatch> {
        self.0.iter().flat_map(|stage| &stage.clauses).filter_map(|clause| match &clause.peer {
            PeerMatch::Pods(pods) => Some(pods),
            PeerMatch::Any | PeerMatch::Block(_) => None,
        })
    }

    /// The answer for an address, if `is_pod` tells which clauses about pods hold for whoever has it.
    pub(crate) fn verdict(&self, address: IpAddr, is_pod: impl Fn(&PodMatch) -> bool) -> Verdict {
        let matches = |peer: &PeerMatch| match peer {
            PeerMatch::Any => true,
            PeerMatch::Block(block) => block.contains(address),
            PeerMatch::Pods(pods) => is_pod(pods),
        };
        for stage in &self.0 {
            let first = stage.clauses.iter().find(|clause| matches(&clause.peer));
            match first.map_or(stage.default, |clause| clause.action) {
                Action::Allow => return Verdict::Accept,
                Action::Deny => return Verdict::Drop,
                Action::Pass => {}
            }
        }
        Verdict::Accept
    }

    /// The fewest disjoint blocks whose addresses are accepted when they belong to no pod.
    pub(crate) fn accepted_blocks(&self) -> BTreeSet<IpNet> {
        let blocks = self.0.iter().flat_map(|stage| &stage.clauses).filter_map(|clause| {
            match &clause.peer {
                PeerMatch::Block(block) => Some(block),
                PeerMatch::Any | PeerMatch::Pods(_) => None,
            }
        });
        let borders: Vec<IpNet> =
            blocks.flat_map(|block| block.except.iter().chain([&block.cidr])).copied().collect();
        let mut accepted = BTreeSet::new();
        let everything = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        for family in everything {
            let inside: Vec<IpNet> =
                borders.iter().filter(|border| family.contains(*border)).copied().collect();
            self.accept_inside(family, &inside, &mut accepted);
        }
        accepted
    }

    /// Collect what is accepted inside `net`; returns whether that is all of it.
    fn accept_inside(&self, net: IpNet, borders: &[IpNet], accepted: &mut BTreeSet<IpNet>) -> bool {
        let halves = || net.subnets(net.prefix_len() + 1).ok();
        let inner: Vec<IpNet> = borders.iter().filter(|border| **border != net).copied().collect();
        let whole = match halves() {
            Some(halves) if !inner.is_empty() => {
                let mut whole = true;
                let mut parts = Vec::new();
                for half in halves {
                    let inside: Vec<IpNet> =
                        inner.iter().filter(|border| half.contains(*border)).copied().collect();
                    whole &= self.accept_inside(half, &inside, accepted);
                    parts.push(half);
                }
                if whole {
                    for half in &parts {
                        accepted.remove(half);
                    }
                }
                whole
            }
            Some(_) | None => self.verdict(net.network(), |_| false) == Verdict::Accept,
        };
        if whole {
            accepted.insert(net);
        }
        whole
    }
}

fn passed_is_allowed(action: Action) -> Action {
    match action {
        Action::Allow | Action::Pass => Action::Allow,
        Action::Deny => Action::Deny,
    }
}
