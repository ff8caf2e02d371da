//! From Kubernetes' objects to the model: the only module that knows Kubernetes' types.
//!
//! The server validates what it stores; a directory of YAML, or a server newer than this program, may
//! hold anything. What cannot be used is reported and matches nothing, so that it opens nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::{
    Action, Block, NamedPort, Namespace, NamespaceSelector, Order, Peer, Peers, Pod, PodKey,
    PodNetwork, PodSelector, Policy, PolicyKey, PortMatch, Ports, Rule, Tier, Transport,
};
use crate::problem::{BadTerm, Fault, ObjectKey, Problem};
use crate::selector::{Labels, Requirement, Selector};

/// Where Calico writes the addresses of a pod before the kubelet reports them, and an empty value
/// once a terminating pod has given them back.
const CALICO_ADDRESSES: [&str; 2] = ["cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"];

/// A namespace as policy sees it.
///
/// # Errors
/// The object has no name.
pub fn namespace(object: &core::Namespace) -> Result<Namespace, Problem> {
    let meta = &object.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    named(name, || ObjectKey::Namespace(name.into()))?;
    let labels = meta.labels.iter().flatten();
    Ok(Namespace::new(name, labels.map(|(key, value)| (key.as_str(), value.as_str()))))
}

/// A pod as policy sees it. Every pod converts, also one on its node's network or one that has ended;
/// these own no addresses.
///
/// # Errors
/// The object has no name.
pub fn pod(object: &core::Pod) -> Result<Pod, Problem> {
    let meta = &object.metadata;
    let key = PodKey::new(namespace_of(meta), meta.name.as_deref().unwrap_or_default());
    named(&key.name, || ObjectKey::Pod(key.clone()))?;
    let spec = object.spec.as_ref();
    let network = match spec.and_then(|spec| spec.host_network) {
        Some(true) => PodNetwork::Host,
        Some(false) | None => PodNetwork::Own,
    };
    let mut pod = Pod { network, ..Pod::new(key.clone()) };
    pod.labels = labels(meta);
    let mut report = Report::about(ObjectKey::Pod(key));
    if network == PodNetwork::Own && !has_ended(object) {
        pod.addresses = addresses(object, &mut report).into_iter().collect();
    }
    let named_ports = spec.map(|spec| named_ports(spec, &mut report));
    pod.named_ports = named_ports.into_iter().flatten().collect();
    pod.problems = report.problems;
    Ok(pod)
}

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

/// Collects the problems of one object.
struct Report {
    object: ObjectKey,
    problems: Vec<Problem>,
}

impl Report {
    fn about(object: ObjectKey) -> Self {
        Self { object, problems: Vec::new() }
    }

    fn add(&mut self, field: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { object: self.object.clone(), field: field.into(), fault });
    }

    fn bad_terms(&mut self, bad: Vec<(String, BadTerm)>, fault: impl Fn(BadTerm) -> Fault) {
        for (field, term) in bad {
            self.add(field, fault(term));
        }
    }
}

fn named(name: &str, object: impl Fn() -> ObjectKey) -> Result<(), Problem> {
    if name.is_empty() {
        let field = "metadata.name".to_owned();
        return Err(Problem { object: object(), field, fault: Fault::Nameless });
    }
    Ok(())
}

/// The server puts an object without a namespace into `default`.
fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("default")
}

fn labels(meta: &ObjectMeta) -> Labels {
    meta.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// A pod that has ended gave back its addresses, which may be another pod's already.
fn has_ended(pod: &core::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let annotations = pod.metadata.annotations.as_ref();
    let given_back = CALICO_ADDRESSES
        .iter()
        .any(|name| annotations.and_then(|all| all.get(*name)).is_some_and(String::is_empty));
    matches!(phase, Some("Succeeded" | "Failed")) || terminating && given_back
}

/// The addresses of a pod: what the kubelet reports or else, until it does, what Calico wrote down.
fn addresses(pod: &core::Pod, report: &mut Report) -> BTreeSet<IpAddr> {
    let status = pod.status.as_ref();
    let many = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let many = many.map(|ip| ("status.podIPs".to_owned(), ip.ip.clone()));
    let one = status.and_then(|status| status.pod_ip.clone());
    let one = one.map(|ip| ("status.podIP".to_owned(), ip));
    let mut written: Vec<(String, String)> = many.collect();
    if written.is_empty() {
        written.extend(one);
    }
    for name in CALICO_ADDRESSES {
        let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(name));
        if let Some(list) = annotation.filter(|_| written.is_empty()) {
            let field = format!("metadata.annotations[{name}]");
            written.extend(list.split(',').map(|ip| (field.clone(), ip.to_owned())));
        }
    }
    let mut addresses = BTreeSet::new();
    for (field, text) in written.into_iter().filter(|(_, text)| !text.is_empty()) {
        match address(&text) {
            Some(address) => {
                addresses.insert(address);
            }
            None => report.add(field, Fault::BadAddress(text)),
        }
    }
    addresses
}

/// An address, perhaps written as the block of this one address.
fn address(text: &str) -> Option<IpAddr> {
    let address = match cidr(text) {
        Some(net) if net.prefix_len() == net.max_prefix_len() => net.addr(),
        Some(_) => return None,
        None => text.parse().ok()?,
    };
    (address.to_canonical() == address).then_some(address)
}

/// Ports with names of the containers that run as long as the pod does: ordinary ones, and init
/// containers that are restarted always.
fn named_ports(spec: &core::PodSpec, report: &mut Report) -> BTreeSet<NamedPort> {
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(at, container)| (format!("spec.initContainers[{at}]"), container));
    let containers = spec.containers.iter().enumerate();
    let containers = containers.map(|(at, one)| (format!("spec.containers[{at}]"), one));
    let mut named = BTreeSet::new();
    for (field, container) in containers.chain(sidecars) {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let field = format!("{field}.ports[{at}]");
            let number = number(port.container_port);
            if number.is_none() {
                let fault = Fault::BadPort(port.container_port);
                report.add(format!("{field}.containerPort"), fault);
            }
            let transport = transport(port.protocol.as_deref(), &field, report);
            if let (Some(port), Some(transport)) = (number, transport) {
                named.insert(NamedPort { transport, name: name.into(), port });
            }
        }
    }
    named
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

/// A CIDR without its host bits; the server accepts them, too. An IPv4 block written as IPv6 can match
/// no packet and is refused.
fn cidr(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    let mapped = net.addr() != net.addr().to_canonical();
    (!mapped).then(|| net.trunc())
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

/// An absent protocol means TCP.
fn transport(name: Option<&str>, field: &str, report: &mut Report) -> Option<Transport> {
    match name {
        None | Some("TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some("SCTP") => Some(Transport::Sctp),
        Some(other) => {
            report.add(format!("{field}.protocol"), Fault::BadProtocol(other.to_owned()));
            None
        }
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
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

/// What can be read of a label selector, and what cannot, with the path of each term.
struct Terms {
    selector: Selector,
    bad: Vec<(String, BadTerm)>,
}

/// An absent selector reads as an empty one; where that matters, the caller looks first.
fn terms(selector: Option<&LabelSelector>, field: &str) -> Terms {
    let mut requirements = Vec::new();
    let mut bad = Vec::new();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    for (key, value) in labels.into_iter().flatten() {
        match checked(key, std::slice::from_ref(value)) {
            Ok((key, values)) => requirements.push(Requirement::In(key, values)),
            Err(term) => bad.push((format!("{field}.matchLabels[{key}]"), term)),
        }
    }
    let expressions = selector.and_then(|selector| selector.match_expressions.as_ref());
    for (at, expression) in expressions.into_iter().flatten().enumerate() {
        match requirement(expression) {
            Ok(requirement) => requirements.push(requirement),
            Err(term) => bad.push((format!("{field}.matchExpressions[{at}]"), term)),
        }
    }
    Terms { selector: requirements.into_iter().collect(), bad }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, BadTerm> {
    let given = expression.values.as_deref().unwrap_or_default();
    let (key, values) = checked(&expression.key, given)?;
    let operator = expression.operator.as_str();
    match (operator, given) {
        ("In" | "NotIn", []) => Err(BadTerm::NoValues(operator.to_owned())),
        ("In", _) => Ok(Requirement::In(key, values)),
        ("NotIn", _) => Ok(Requirement::NotIn(key, values)),
        ("Exists", []) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", []) => Ok(Requirement::DoesNotExist(key)),
        ("Exists" | "DoesNotExist", _) => Err(BadTerm::Values(operator.to_owned())),
        _ => Err(BadTerm::Operator(operator.to_owned())),
    }
}

fn checked(key: &str, values: &[String]) -> Result<(Arc<str>, BTreeSet<Arc<str>>), BadTerm> {
    if !is_label_key(key) {
        return Err(BadTerm::Key(key.to_owned()));
    }
    match values.iter().find(|value| !value.is_empty() && !is_label_name(value)) {
        Some(value) => Err(BadTerm::Value(value.clone())),
        None => Ok((key.into(), values.iter().map(|value| value.as_str().into()).collect())),
    }
}

/// A name, after a DNS subdomain and a slash if there is one.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_name(key),
        Some((domain, name)) => is_subdomain(domain) && is_label_name(name),
    }
}

/// At most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_label_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// At most 253 characters: labels of small letters, digits and `-` between dots.
fn is_subdomain(domain: &str) -> bool {
    domain.len() <= 253
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
