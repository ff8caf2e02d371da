//! Pods: which addresses and port names are theirs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::{Report, cidr, named, namespace_of, number, transport};
use crate::model::{NamedPort, Pod, PodKey, PodNetwork};
use crate::problem::{Fault, ObjectKey, Problem};

/// Where Calico writes the addresses of a pod before the kubelet reports them, and an empty value
/// once a terminating pod has given them back.
const CALICO_ADDRESSES: [&str; 2] = ["cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"];

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
    let labels = meta.labels.iter().flatten();
    pod.labels = labels.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut report = Report::about(ObjectKey::Pod(key));
    if network == PodNetwork::Own && !has_ended(object) {
        pod.addresses = addresses(object, &mut report).into_iter().collect();
    }
    let named_ports = spec.map(|spec| named_ports(spec, &mut report));
    pod.named_ports = named_ports.into_iter().flatten().collect();
    pod.problems = report.problems;
    Ok(pod)
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
