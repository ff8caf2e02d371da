//! Where pods of this node that are peers find it: addresses of the node's ends of their interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_bgp::wire::Family;

use crate::world::Node;

/// Addresses of this node by the pod's interface that they are on.
pub type Workloads = BTreeMap<String, BTreeSet<IpAddr>>;

/// Reads one of the fields.
///
/// # Errors
/// A sentence that quotes the text.
pub(super) fn address(text: &str, family: Family, own: Option<&Node>) -> Result<IpAddr, String> {
    let wrong =
        |what: &str| Err(format!("{text:?} {what}; pods reach the node at its own address"));
    let Ok(address) = text.parse::<IpAddr>() else { return wrong("is not an address") };
    if address.is_ipv4() != (family == Family::Ipv4) {
        return wrong("is of the other address family");
    }
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return wrong("is not the address of a host");
    }
    if own.is_some_and(|node| node.addresses().any(|own| own == address)) {
        return wrong("is the node's own already");
    }
    Ok(address)
}

/// Whether an address is known together with its link alone: there is one such for each pod.
pub(super) fn is_on_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
