//! NetworkPolicies.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::terms;
use super::{Report, cidr, named, namespace_of, number, transport};
use crate::model::{
    Action, Block, NamespaceSelector, Order, Peer, Peers, PodSelector, Policy, PolicyKey,
    PortMatch, Ports, Rule, Tier,
};
use crate::problem::{Fault, ObjectKey, Problem};

/// A NetworkPolicy as a policy of the tier `default`.
///
/// An unreadable term of `spec.podSelector` leaves open which pods are meant. The terms that can be
/// read select all of them and perhaps others: these pods are isolated, and nothing is allowed, since
/// a rule might open a pod that was not meant.
///
/// # Errors
/// The object has no name.
pub fn policy(object: &networking::NetworkPolicy) -> Result<Policy, Problem> {
    let meta = &object.metadata;
    let namespace: Arc<str> = namespace_of(meta).into();
    let key =
        PolicyKey::network_policy(namespace.clone(), meta.name.as_deref().unwrap_or_default());
    named(&key.name, || ObjectKey::Policy(key.clone()))?;
    let empty = networking::NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let mut report = Report::about(ObjectKey::Policy(key.clone()));

    let subject = terms(spec.pod_selector.as_ref(), "spec.podSelector");
    let readable = subject.bad.is_empty();
    report.bad_terms(subject.bad, Fault::BadSubject);
    let ingress = spec.ingress.iter().flatten().enumerate().map(|(at, rule)| {
        let at = format!("spec.ingress[{at}]");
        let peers = (rule.from.as_deref(), format!("{at}.from"));
        rule_of(&namespace, peers, (rule.ports.as_deref(), at), &mut report)
    });
    let ingress: Vec<Rule> = ingress.collect();
    let egress = spec.egress.iter().flatten().enumerate().map(|(at, rule)| {
        let at = format!("spec.egress[{at}]");
        let peers = (rule.to.as_deref(), format!("{at}.to"));
        rule_of(&namespace, peers, (rule.ports.as_deref(), at), &mut report)
    });
    let egress: Vec<Rule> = egress.collect();
    let policed = directions(spec, &mut report);
    let rules = |policed: bool, rules| match (policed, readable) {
        (true, true) => Some(rules),
        (true, false) => Some(Vec::new()),
        (false, _) => None,
    };
    Ok(Policy {
        key,
        tier: Tier::DEFAULT.into(),
        order: Order::at(Tier::POLICY_ORDER),
        subject: PodSelector {
            namespaces: NamespaceSelector::Named(namespace),
            pods: subject.selector,
        },
        ingress: rules(policed.ingress, ingress),
        egress: rules(policed.egress, egress),
        problems: report.problems,
    })
}

/// The directions that a policy polices.
struct Policed {
    ingress: bool,
    egress: bool,
}

/// Without `policyTypes` a policy polices ingress, and egress if it has egress rules.
fn directions(spec: &networking::NetworkPolicySpec, report: &mut Report) -> Policed {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let has_ingress = spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty());
    if types.is_empty() {
        return Policed { ingress: true, egress: has_egress };
    }
    let mut policed = Policed { ingress: false, egress: false };
    for (at, name) in types.iter().enumerate() {
        match name.as_str() {
            "Ingress" => policed.ingress = true,
            "Egress" => policed.egress = true,
            _ => {
                policed = Policed { ingress: true, egress: true };
                let fault = Fault::BadPolicyType(name.clone());
                report.add(format!("spec.policyTypes[{at}]"), fault);
            }
        }
    }
    if has_ingress && !policed.ingress {
        report.add("spec.ingress", Fault::UnpolicedRules);
    }
    if has_egress && !policed.egress {
        report.add("spec.egress", Fault::UnpolicedRules);
    }
    policed
}

/// One rule from its peers (with the path of the list) and its ports (with the path of the rule). An
/// absent list and an empty one both mean "any".
fn rule_of(
    namespace: &Arc<str>,
    (peers, peers_field): (Option<&[networking::NetworkPolicyPeer]>, String),
    (ports, rule_field): (Option<&[networking::NetworkPolicyPort]>, String),
    report: &mut Report,
) -> Rule {
    let peers = match peers.unwrap_or_default() {
        [] => Peers::Any,
        peers => {
            let peers = peers.iter().enumerate().filter_map(|(at, peer)| {
                peer_of(namespace, peer, &format!("{peers_field}[{at}]"), report)
            });
            Peers::Of(peers.collect())
        }
    };
    let ports = match ports.unwrap_or_default() {
        [] => Ports::Any,
        ports => {
            let ports = ports.iter().enumerate().filter_map(|(at, port)| {
                port_of(port, &format!("{rule_field}.ports[{at}]"), report)
            });
            Ports::Of(ports.collect())
        }
    };
    Rule { action: Action::Allow, peers, ports }
}

fn peer_of(
    namespace: &Arc<str>,
    peer: &networking::NetworkPolicyPeer,
    field: &str,
    report: &mut Report,
) -> Option<Peer> {
    let selectors = (&peer.namespace_selector, &peer.pod_selector);
    match (&peer.ip_block, selectors) {
        (Some(block), (None, None)) => block_of(block, &format!("{field}.ipBlock"), report),
        (Some(_), _) => {
            report.add(field, Fault::BlockWithSelector);
            None
        }
        (None, (None, None)) => {
            report.add(field, Fault::EmptyPeer);
            None
        }
        (None, (namespaces, pods)) => {
            let pods = terms(pods.as_ref(), &format!("{field}.podSelector"));
            let labelled = terms(namespaces.as_ref(), &format!("{field}.namespaceSelector"));
            let readable = pods.bad.is_empty() && labelled.bad.is_empty();
            report.bad_terms(pods.bad, Fault::BadPeer);
            report.bad_terms(labelled.bad, Fault::BadPeer);
            // An absent namespaceSelector means the policy's own namespace, an empty one all.
            let namespaces = match namespaces {
                Some(_) => NamespaceSelector::Labelled(labelled.selector),
                None => NamespaceSelector::Named(namespace.clone()),
            };
            let selector = PodSelector { namespaces, pods: pods.selector };
            readable.then(|| Peer::Pods(Arc::new(selector)))
        }
    }
}

fn block_of(block: &networking::IPBlock, field: &str, report: &mut Report) -> Option<Peer> {
    let Some(outer) = cidr(&block.cidr) else {
        report.add(format!("{field}.cidr"), Fault::BadCidr(block.cidr.clone()));
        return None;
    };
    let mut except = BTreeSet::new();
    let mut usable = true;
    for (at, text) in block.except.iter().flatten().enumerate() {
        match cidr(text).filter(|hole| outer.contains(hole) && *hole != outer) {
            Some(hole) => {
                except.insert(hole);
            }
            None => {
                usable = false;
                let fault = Fault::BadExcept(text.clone(), outer.to_string());
                report.add(format!("{field}.except[{at}]"), fault);
            }
        }
    }
    usable.then(|| Peer::Block(Arc::new(Block { cidr: outer, except })))
}

fn port_of(
    port: &networking::NetworkPolicyPort,
    field: &str,
    report: &mut Report,
) -> Option<PortMatch> {
    let transport = transport(port.protocol.as_deref(), field, report)?;
    let end_field = || format!("{field}.endPort");
    match (&port.port, port.end_port) {
        (None, None) => Some(PortMatch::every(transport)),
        (Some(IntOrString::String(name)), None) if is_port_name(name) => {
            Some(PortMatch::Named(transport, name.as_str().into()))
        }
        (Some(IntOrString::String(name)), None) => {
            report.add(format!("{field}.port"), Fault::BadPortName(name.clone()));
            None
        }
        (None | Some(IntOrString::String(_)), Some(end)) => {
            report.add(end_field(), Fault::EndWithoutPort(end));
            None
        }
        (Some(IntOrString::Int(begin)), end) => {
            let Some(first) = number(*begin) else {
                report.add(format!("{field}.port"), Fault::BadPort(*begin));
                return None;
            };
            let Some(end) = end else { return Some(PortMatch::Range(transport, first, first)) };
            match number(end).filter(|last| *last >= first) {
                Some(last) => Some(PortMatch::Range(transport, first, last)),
                None => {
                    report.add(end_field(), Fault::BadEndPort(end, *begin));
                    None
                }
            }
        }
    }
}

/// RFC 6335 §5.1, without capital letters as Kubernetes has it.
fn is_port_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase();
    (1..=15).contains(&name.len())
        && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-')
        && name.chars().any(letter)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}
