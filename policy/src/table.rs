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

/// Whom one clause speaks of. Where the order does not matter, clauses about pods come first: those who
/// ask are pods that one of them selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PeerMatch {
    /// Everybody.
    Any,
    /// The addresses of pods.
    Pods(PodMatch),
    /// Addresses, whoever has them.
    Block(Arc<Block>),
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
        let everything = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let clauses: Vec<BlockClause<'_>> = self.block_clauses().collect();
        let borders: Vec<IpNet> = clauses
            .iter()
            .flat_map(|clause| clause.block.except.iter().chain([&clause.block.cidr]))
            .copied()
            .collect();
        let mut accepted = BTreeSet::new();
        for family in everything {
            self.accept_inside(family, &clauses, &borders, &mut accepted);
        }
        accepted
    }

    fn block_clauses(&self) -> impl Iterator<Item = BlockClause<'_>> {
        self.0.iter().enumerate().flat_map(|(stage, one)| {
            one.clauses.iter().filter_map(move |clause| match &clause.peer {
                PeerMatch::Block(block) => {
                    Some(BlockClause { stage, action: clause.action, block })
                }
                PeerMatch::Any | PeerMatch::Pods(_) => None,
            })
        })
    }

    /// Collect what is accepted inside `net`, of which some `clauses` may speak and where some `borders`
    /// may lie; returns whether that is all of it.
    fn accept_inside(
        &self,
        net: IpNet,
        clauses: &[BlockClause<'_>],
        borders: &[IpNet],
        accepted: &mut BTreeSet<IpNet>,
    ) -> bool {
        let inside = |border: &&IpNet| net.contains(*border) && **border != net;
        let borders: Vec<IpNet> = borders.iter().filter(inside).copied().collect();
        let clauses: Vec<BlockClause<'_>> =
            clauses.iter().filter(|clause| clause.touches(net)).copied().collect();
        if borders.is_empty() {
            let whole = self.verdict_outside(net.network(), &clauses) == Verdict::Accept;
            if whole {
                accepted.insert(net);
            }
            return whole;
        }
        let halves = net.subnets(net.prefix_len() + 1).expect("a border is smaller than its net");
        let halves: Vec<IpNet> = halves.collect();
        let mut whole = true;
        for half in &halves {
            whole &= self.accept_inside(*half, &clauses, &borders, accepted);
        }
        if whole {
            halves.iter().for_each(|half| {
                accepted.remove(half);
            });
            accepted.insert(net);
        }
        whole
    }

    /// The answer for an address that belongs to no pod, if only these of the clauses about blocks may
    /// speak of it.
    fn verdict_outside(&self, address: IpAddr, clauses: &[BlockClause<'_>]) -> Verdict {
        for (at, stage) in self.0.iter().enumerate() {
            let mut here = clauses.iter().filter(|clause| clause.stage == at);
            let first = here.find(|clause| clause.block.contains(address));
            match first.map_or(stage.default, |clause| clause.action) {
                Action::Allow => return Verdict::Accept,
                Action::Deny => return Verdict::Drop,
                Action::Pass => {}
            }
        }
        Verdict::Accept
    }
}

/// A clause about a block, and where it stands.
#[derive(Clone, Copy)]
struct BlockClause<'a> {
    stage: usize,
    action: Action,
    block: &'a Block,
}

impl BlockClause<'_> {
    fn touches(&self, net: IpNet) -> bool {
        net.contains(&self.block.cidr) || self.block.cidr.contains(&net)
    }
}

fn passed_is_allowed(action: Action) -> Action {
    match action {
        Action::Allow | Action::Pass => Action::Allow,
        Action::Deny => Action::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NamespaceSelector;
    use crate::selector::Selector;
    use Action::{Allow, Deny, Pass};

    fn pods(namespace: &str) -> PeerMatch {
        let namespaces = NamespaceSelector::Named(namespace.into());
        let selector = Arc::new(PodSelector { namespaces, pods: Selector::everything() });
        PeerMatch::Pods(PodMatch { selector, within: None, port: None })
    }

    fn block(cidr: &str, except: &[&str]) -> PeerMatch {
        let except = except.iter().map(|hole| hole.parse().unwrap()).collect();
        PeerMatch::Block(Arc::new(Block { cidr: cidr.parse().unwrap(), except }))
    }

    fn stage<const N: usize>(clauses: [(Action, PeerMatch); N], default: Action) -> Stage {
        let clause = |(action, peer)| Clause { action, peer };
        Stage { clauses: clauses.into_iter().map(clause).collect(), default }
    }

    fn same(one: &[Stage], other: &[Stage]) {
        assert_eq!(TableSpec::new(one.to_vec()), TableSpec::new(other.to_vec()));
    }

    #[test]
    fn what_says_the_same_has_the_same_form() {
        let (a, b) = (pods("a"), pods("b"));
        let (allow_a, allow_b) = ((Allow, a.clone()), (Allow, b.clone()));
        let order = [allow_a.clone(), allow_b.clone(), allow_a.clone()];
        same(&[stage(order, Deny)], &[stage([allow_b.clone(), allow_a.clone()], Deny)]);
        let anybody = (Allow, PeerMatch::Any);
        same(&[stage([allow_a.clone(), anybody], Deny)], &[stage([], Allow)]);
        same(
            &[stage([allow_a.clone(), (Deny, b.clone())], Deny)],
            &[stage([allow_a.clone()], Deny)],
        );
        let unreachable = stage([allow_b.clone()], Allow);
        let only_a = stage([allow_a.clone()], Deny);
        same(&[only_a.clone(), unreachable], std::slice::from_ref(&only_a));
        same(&[stage([], Pass), only_a.clone()], std::slice::from_ref(&only_a));
        same(&[stage([(Deny, a.clone()), (Pass, b)], Pass)], &[stage([(Deny, a)], Allow)]);
        same(&[], &[stage([], Allow)]);
    }

    #[test]
    fn clauses_with_different_actions_keep_their_order() {
        let (allow, deny) = ((Allow, pods("a")), (Deny, pods("b")));
        let one = TableSpec::new([stage([deny.clone(), allow.clone()], Deny)]);
        let other = TableSpec::new([stage([allow, deny], Deny)]);
        assert_ne!(one, other);
    }

    #[test]
    fn nobody_is_accepted_where_only_denials_are_left() {
        assert!(TableSpec::new([stage([(Deny, pods("a"))], Deny)]).drops_everything());
        assert!(!TableSpec::new([stage([(Allow, pods("a"))], Deny)]).drops_everything());
        assert!(!TableSpec::new([]).drops_everything());
    }

    fn check_blocks(stages: &[Stage], expected: &[&str]) {
        let spec = TableSpec::new(stages.to_vec());
        let blocks: Vec<String> = spec.accepted_blocks().iter().map(ToString::to_string).collect();
        assert_eq!(blocks, expected);
    }

    #[test]
    fn blocks_come_out_disjoint_and_as_few_as_can_be() {
        let allow = |cidr, except| (Allow, block(cidr, except));
        check_blocks(&[stage([], Deny)], &[]);
        check_blocks(&[stage([], Allow)], &["0.0.0.0/0", "::/0"]);
        check_blocks(
            &[stage([allow("10.0.0.0/9", &[]), allow("10.128.0.0/9", &[])], Deny)],
            &["10.0.0.0/8"],
        );
        check_blocks(
            &[stage([allow("10.0.0.0/8", &[]), allow("10.1.0.0/16", &[])], Deny)],
            &["10.0.0.0/8"],
        );
        check_blocks(
            &[stage([allow("10.0.0.0/30", &["10.0.0.1/32"])], Deny)],
            &["10.0.0.0/32", "10.0.0.2/31"],
        );
        check_blocks(
            &[stage([allow("10.0.0.0/30", &["10.0.0.1/32"]), allow("10.0.0.1/32", &[])], Deny)],
            &["10.0.0.0/30"],
        );
    }

    #[test]
    fn denied_and_passed_blocks_are_left_to_what_follows() {
        let deny = (Deny, block("10.0.0.0/31", &[]));
        check_blocks(
            &[stage([deny.clone(), (Allow, block("10.0.0.0/30", &[]))], Deny)],
            &["10.0.0.2/31"],
        );
        let first = stage([deny, (Pass, block("10.0.0.0/24", &[]))], Allow);
        let second = stage([(Allow, block("10.0.0.4/30", &[]))], Deny);
        let spec = TableSpec::new([first, second]);
        let verdict = |text: &str| spec.verdict(text.parse().unwrap(), |_| false);
        assert_eq!(verdict("10.0.0.0"), Verdict::Drop);
        assert_eq!(verdict("10.0.0.2"), Verdict::Drop);
        assert_eq!(verdict("10.0.0.4"), Verdict::Accept);
        assert_eq!(verdict("10.0.1.0"), Verdict::Accept);
    }
}
