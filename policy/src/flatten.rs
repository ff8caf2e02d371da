//! From ordered rules with overlapping ports to disjoint port classes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{
    Action, Direction, NamedPort, Peer, Peers, PodSelector, PortMatch, Ports, Rule, Transport,
};
use crate::table::{Clause, PeerMatch, PodMatch, Stage, TableSpec};

/// The rules of one tier that concern an endpoint, in the order in which they are asked.
pub(crate) struct TierRules<'a> {
    pub(crate) default: Action,
    pub(crate) rules: Vec<&'a Rule>,
}

/// A named port, and on which pods to look it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PortName {
    /// `None`: on the pod whose endpoint this is.
    pub(crate) on: Option<Arc<PodSelector>>,
    pub(crate) transport: Transport,
    pub(crate) name: Arc<str>,
}

/// What a port name stands for.
pub(crate) trait Numbers {
    fn numbers(&self, name: &PortName) -> BTreeSet<u16>;
}

/// Ports that share their peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) table: TableSpec,
}

/// A group before its tables have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlatGroup {
    pub(crate) direction: Direction,
    pub(crate) tcp: Vec<Class>,
    pub(crate) udp: Vec<Class>,
    pub(crate) sctp: Vec<Class>,
    pub(crate) other: Option<TableSpec>,
}

/// Flatten the rules of all tiers that concern an endpoint in one direction.
pub(crate) fn flatten(
    direction: Direction,
    tiers: &[TierRules<'_>],
    numbers: &impl Numbers,
) -> FlatGroup {
    let spans = |transport| spans(direction, tiers, transport, numbers);
    let classes = |transport| sweep(tiers, &spans(Some(transport)));
    let other = table_of(tiers, &spans(None));
    FlatGroup {
        direction,
        tcp: classes(Transport::Tcp),
        udp: classes(Transport::Udp),
        sctp: classes(Transport::Sctp),
        other: (!other.drops_everything()).then_some(other),
    }
}

/// The port names that the rules ask for, wherever these must be looked up.
pub(crate) fn port_names(direction: Direction, rules: &[Rule]) -> BTreeSet<PortName> {
    let mut names = BTreeSet::new();
    for rule in rules {
        let Ports::Of(ports) = &rule.ports else { continue };
        for port in ports {
            let PortMatch::Named(transport, name) = port else { continue };
            for (on, _) in lookups(direction, rule) {
                names.insert(PortName { on, transport: *transport, name: name.clone() });
            }
        }
    }
    names
}

/// Where a rule looks its port names up, and for which peers each result holds.
fn lookups(direction: Direction, rule: &Rule) -> Vec<(Option<Arc<PodSelector>>, Vec<PeerMatch>)> {
    if direction == Direction::Ingress {
        return vec![(None, peer_matches(rule))];
    }
    peer_matches(rule)
        .into_iter()
        .map(|peer| match &peer {
            PeerMatch::Pods(pods) => (Some(pods.selector.clone()), vec![peer]),
            PeerMatch::Any | PeerMatch::Block(_) => {
                (Some(Arc::new(PodSelector::everything())), vec![peer])
            }
        })
        .collect()
}

fn peer_matches(rule: &Rule) -> Vec<PeerMatch> {
    match &rule.peers {
        Peers::Any => vec![PeerMatch::Any],
        Peers::Of(peers) => peers
            .iter()
            .map(|peer| match peer {
                Peer::Pods(selector) => PeerMatch::Pods(PodMatch {
                    selector: selector.clone(),
                    within: None,
                    port: None,
                }),
                Peer::Block(block) => PeerMatch::Block(block.clone()),
            })
            .collect(),
    }
}

/// The part of `peer` that calls `port` by its name, as only a pod can.
fn calling(peer: PeerMatch, on: &Arc<PodSelector>, port: NamedPort) -> PeerMatch {
    let within = match peer {
        PeerMatch::Any | PeerMatch::Pods(_) => None,
        PeerMatch::Block(block) => Some(block),
    };
    PeerMatch::Pods(PodMatch { selector: on.clone(), within, port: Some(port) })
}

/// What one rule says about some consecutive ports.
struct Span {
    tier: usize,
    first: u16,
    last: u16,
    clauses: Vec<Clause>,
}

/// What every rule says about the ports of one protocol, or about the protocols without ports (`None`),
/// in the order of the rules.
fn spans(
    direction: Direction,
    tiers: &[TierRules<'_>],
    transport: Option<Transport>,
    numbers: &impl Numbers,
) -> Vec<Span> {
    let mut spans = Vec::new();
    for (tier, rules) in tiers.iter().enumerate() {
        for rule in &rules.rules {
            for (first, last, peers) in reach(direction, rule, transport, numbers) {
                let clause = |peer| Clause { action: rule.action, peer };
                let clauses = peers.into_iter().map(clause).collect();
                spans.push(Span { tier, first, last, clauses });
            }
        }
    }
    spans
}

/// The ports of one protocol that a rule speaks of, and its peers there.
fn reach(
    direction: Direction,
    rule: &Rule,
    transport: Option<Transport>,
    numbers: &impl Numbers,
) -> Vec<(u16, u16, Vec<PeerMatch>)> {
    let Ports::Of(ports) = &rule.ports else {
        return vec![(0, u16::MAX, peer_matches(rule))];
    };
    let mut reach = Vec::new();
    for port in ports {
        match port {
            PortMatch::Range(protocol, first, last) if Some(*protocol) == transport => {
                reach.push((*first, *last, peer_matches(rule)));
            }
            PortMatch::Named(protocol, name) if Some(*protocol) == transport => {
                for (on, peers) in lookups(direction, rule) {
                    let name = PortName { on, transport: *protocol, name: name.clone() };
                    let at = |port| (port, port, at_number(&name, port, &peers));
                    reach.extend(numbers.numbers(&name).into_iter().map(at));
                }
            }
            PortMatch::Range(..) | PortMatch::Named(..) => {}
        }
    }
    reach
}

/// The peers for which `name` stands for `port`.
fn at_number(name: &PortName, port: u16, peers: &[PeerMatch]) -> Vec<PeerMatch> {
    let Some(on) = &name.on else { return peers.to_vec() };
    let named = NamedPort { transport: name.transport, name: name.name.clone(), port };
    peers.iter().map(|peer| calling(peer.clone(), on, named.clone())).collect()
}

/// Cut the ports wherever a span begins or ends, and join neighbours that came out the same.
fn sweep(tiers: &[TierRules<'_>], spans: &[Span]) -> Vec<Class> {
    let mut borders: BTreeSet<u32> = [0].into();
    for span in spans {
        borders.extend([u32::from(span.first), u32::from(span.last) + 1]);
    }
    let mut begin: Vec<usize> = (0..spans.len()).collect();
    begin.sort_by_key(|at| spans[*at].first);
    let mut begin = begin.into_iter().peekable();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut classes: Vec<Class> = Vec::new();
    let mut borders = borders.into_iter().peekable();
    while let Some(border) = borders.next() {
        let Ok(first) = u16::try_from(border) else { break };
        let next = borders.peek().copied().unwrap_or(u32::from(u16::MAX) + 1);
        let last = u16::try_from(next - 1).expect("no border lies beyond the last port");
        active.retain(|at| spans[*at].last >= first);
        while let Some(at) = begin.next_if(|at| spans[*at].first == first) {
            active.insert(at);
        }
        let covering: Vec<&Span> = active.iter().map(|at| &spans[*at]).collect();
        push(&mut classes, Class { first, last, table: table_of(tiers, covering) });
    }
    classes
}

fn push(classes: &mut Vec<Class>, class: Class) {
    if class.table.drops_everything() {
        return;
    }
    match classes.last_mut() {
        Some(before)
            if before.table == class.table
                && u32::from(before.last) + 1 == u32::from(class.first) =>
        {
            before.last = class.last;
        }
        Some(_) | None => classes.push(class),
    }
}

/// What becomes of a port that is covered by these spans alone.
fn table_of<'a>(
    tiers: &[TierRules<'_>],
    covering: impl IntoIterator<Item = &'a Span>,
) -> TableSpec {
    let mut stages: Vec<Stage> =
        tiers.iter().map(|tier| Stage { clauses: Vec::new(), default: tier.default }).collect();
    for span in covering {
        stages[span.tier].clauses.extend(span.clauses.iter().cloned());
    }
    TableSpec::new(stages)
}
