//! The answer to one flow, and which rule gave it.
//!
//! This reads the policies as they are, one after the other; it does not look at the compiled
//! program, which makes it a second opinion on it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::evaluate::policing;
use crate::model::{
    Action, Direction, Peer, Peers, Pod, PodKey, PodNetwork, PodSelector, PolicyKey, PortMatch,
    Ports, Rule, Traffic, World,
};
use crate::program::Verdict;

/// One side of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The address that the packet carries.
    pub address: IpAddr,
    /// The pod at whose interface the packet passes, if it is a pod's.
    pub pod: Option<PodKey>,
}

impl Party {
    /// Whoever has `address` in `world`.
    pub fn at(world: &World, address: IpAddr) -> Self {
        let owner = world.pods.values().find(|pod| pod.addresses.contains(&address));
        Self { address, pod: owner.map(|pod| pod.key.clone()) }
    }
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends it.
    pub source: Party,
    /// Who receives it.
    pub destination: Party,
    /// What it carries.
    pub traffic: Traffic,
}

/// Why a packet is accepted or dropped on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This side is no pod, or one on its node's network: policy has no say here.
    NotAnEndpoint,
    /// Source and destination are the same pod, which nothing can keep from itself.
    Itself,
    /// No policy selects the pod in this direction.
    NotSelected,
    /// The first matching rule that did not pass.
    Rule {
        /// The policy of the rule.
        policy: PolicyKey,
        /// Which of its rules, by direction and by place from zero.
        rule: (Direction, usize),
        /// What the rule does.
        action: Action,
    },
    /// These policies select the pod, none of their rules matched, and so their tier denies.
    Isolated(Vec<PolicyKey>),
    /// No rule of this tier matched, and the tier allows what is left.
    AllowedByTier(Arc<str>),
    /// Every tier that selects the pod passed.
    Passed,
    /// Rules would accept one owner of the other side's address and not this other one.
    SharedAddress(PodKey),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnEndpoint => f.write_str("not subject to policy"),
            Self::Itself => f.write_str("a pod may always talk to itself"),
            Self::NotSelected => f.write_str("not selected by any policy"),
            Self::Rule { policy, rule: (direction, at), action } => {
                let verb = match action {
                    Action::Allow => "allowed",
                    Action::Deny => "denied",
                    Action::Pass => "passed",
                };
                write!(f, "{verb} by {direction}[{at}] of {policy}")
            }
            Self::Isolated(policies) => {
                f.write_str("isolated by ")?;
                for (at, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str(", and no rule matched")
            }
            Self::AllowedByTier(tier) => {
                write!(f, "no rule of tier {tier} matched, which allows what is left")
            }
            Self::Passed => f.write_str("passed by every tier that selects the pod"),
            Self::SharedAddress(other) => {
                write!(f, "the address is also that of {other}, which is not allowed")
            }
        }
    }
}

/// The answer of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the packet there.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Answer {
    fn accept(reason: Reason) -> Self {
        Self { verdict: Verdict::Accept, reason }
    }

    fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, reason }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Accept => "accepted",
            Verdict::Drop => "dropped",
        };
        write!(f, "{verdict}: {}", self.reason)
    }
}

/// The answers of both sides; a packet goes through if both accept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// At the source.
    pub egress: Answer,
    /// At the destination.
    pub ingress: Answer,
}

impl Decision {
    /// The answer of both sides together.
    pub fn verdict(&self) -> Verdict {
        self.egress.verdict.min(self.ingress.verdict)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "egress {}\ningress {}", self.egress, self.ingress)
    }
}

/// Decide what becomes of a flow, on whichever nodes its pods are.
pub fn decide(world: &World, flow: &Flow) -> Decision {
    Decision {
        egress: answer(world, flow, Direction::Egress),
        ingress: answer(world, flow, Direction::Ingress),
    }
}

fn answer(world: &World, flow: &Flow, direction: Direction) -> Answer {
    let (subject, peer) = match direction {
        Direction::Ingress => (&flow.destination, &flow.source),
        Direction::Egress => (&flow.source, &flow.destination),
    };
    let pod = subject.pod.as_ref().and_then(|key| world.pods.get(key));
    let Some(pod) = pod.filter(|pod| pod.network == PodNetwork::Own) else {
        return Answer::accept(Reason::NotAnEndpoint);
    };
    if subject.pod == peer.pod {
        return Answer::accept(Reason::Itself);
    }
    let judge = |owner| {
        let side = Side { world, direction, subject: pod, peer: peer.address, owner };
        side.judge(flow.traffic)
    };
    let mut owners = world.pods.values().filter(|pod| pod.addresses.contains(&peer.address));
    let Some(first) = owners.next() else { return judge(None) };
    let answer = judge(Some(first));
    if answer.verdict == Verdict::Drop {
        return answer;
    }
    match owners.find(|owner| judge(Some(owner)).verdict == Verdict::Drop) {
        Some(other) => Answer::drop(Reason::SharedAddress(other.key.clone())),
        None => answer,
    }
}

/// One side of a flow, with one owner of the other side's address.
struct Side<'a> {
    world: &'a World,
    direction: Direction,
    subject: &'a Pod,
    peer: IpAddr,
    owner: Option<&'a Pod>,
}

impl Side<'_> {
    fn judge(&self, traffic: Traffic) -> Answer {
        let tiers = policing(self.world, self.subject, self.direction);
        if tiers.is_empty() {
            return Answer::accept(Reason::NotSelected);
        }
        for (tier, policies) in tiers {
            let rules = policies.iter().flat_map(|policy| {
                let rules = policy.rules(self.direction).unwrap_or_default();
                rules.iter().enumerate().map(move |(at, rule)| (policy, at, rule))
            });
            let first = rules.into_iter().find(|(_, _, rule)| self.matches(rule, traffic));
            let action = first.map_or(tier.default, |(_, _, rule)| rule.action);
            let reason = match first {
                Some((policy, at, _)) => {
                    Reason::Rule { policy: policy.key.clone(), rule: (self.direction, at), action }
                }
                None if action == Action::Allow => Reason::AllowedByTier(tier.name.clone()),
                None => Reason::Isolated(policies.iter().map(|p| p.key.clone()).collect()),
            };
            match action {
                Action::Allow => return Answer::accept(reason),
                Action::Deny => return Answer::drop(reason),
                Action::Pass => {}
            }
        }
        Answer::accept(Reason::Passed)
    }

    fn matches(&self, rule: &Rule, traffic: Traffic) -> bool {
        match &rule.ports {
            Ports::Any => self.is_among(&rule.peers),
            Ports::Of(ports) => {
                ports.iter().any(|port| self.covers(port, traffic)) && self.is_among(&rule.peers)
            }
        }
    }

    fn is_among(&self, peers: &Peers) -> bool {
        match peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| match peer {
                Peer::Block(block) => block.contains(self.peer),
                Peer::Pods(selector) => self.owner_is_selected(selector),
            }),
        }
    }

    fn owner_is_selected(&self, selector: &PodSelector) -> bool {
        self.owner.is_some_and(|owner| self.world.selects(selector, owner))
    }

    fn covers(&self, port: &PortMatch, traffic: Traffic) -> bool {
        let Traffic::Port(transport, number) = traffic else { return false };
        match port {
            PortMatch::Range(protocol, first, last) => {
                *protocol == transport && (*first..=*last).contains(&number)
            }
            PortMatch::Named(protocol, name) => {
                let receiver = match self.direction {
                    Direction::Ingress => Some(self.subject),
                    Direction::Egress => self.owner,
                };
                *protocol == transport
                    && receiver.is_some_and(|pod| {
                        pod.named_ports.iter().any(|named| {
                            (named.transport, &named.name, named.port) == (transport, name, number)
                        })
                    })
            }
        }
    }
}
