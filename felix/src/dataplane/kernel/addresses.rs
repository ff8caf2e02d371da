//! Addresses of the node on its ends of pods' interfaces: where a pod that speaks BGP finds it.
//!
//! What is on such an interface is ours: all of it but the link-local address of a whole network that the kernel makes.

use std::{collections::BTreeSet, io, net::IpAddr};

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;

use super::{
    links::{self, Address, Link, put_ip},
    rtnetlink::*,
    socket::{NLM_F_ACK, Socket},
};
use crate::{dataplane::PodEnds, nft::wire::Writer};

/// Makes the addresses of these interfaces what they should be. Gives what could not be done. An interface that is not
/// there is no failure: it is set up when it comes.
pub(super) fn set(ends: &PodEnds) -> Vec<String> {
    try_set(ends).unwrap_or_else(|error| vec![format!("addresses of pods' interfaces: {error}")])
}

fn try_set(ends: &PodEnds) -> io::Result<Vec<String>> {
    let all = links::addresses()?;
    // Most nodes have no such pod: then there is nothing to look up.
    if ends.values().all(BTreeSet::is_empty) && !all.iter().any(is_ours) {
        return Ok(Vec::new());
    }
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0)?;
    let mut failures = Vec::new();
    for Link { index, name, .. } in links::links()? {
        let Some(wanted) = ends.get(&*name) else { continue };
        let found: BTreeSet<IpAddr> = all
            .iter()
            .filter(|address| address.index == index && is_ours(address))
            .map(|address| address.address.addr())
            .collect();
        for &address in found.symmetric_difference(wanted) {
            let (verb, result) = if wanted.contains(&address) {
                ("add", add(&mut socket, index, address))
            } else {
                ("del", remove(&mut socket, index, address))
            };
            if let Err(error) = result {
                failures.push(format!("ip addr {verb} {address} dev {name}: {error}"));
            }
        }
    }
    Ok(failures)
}

fn is_ours(address: &Address) -> bool {
    let IpNet::V6(net) = address.address else { return true };
    !(net.addr().is_unicast_link_local() && net.prefix_len() < 128)
}

/// The address is heard, and the kernel never takes it as the source of what the node itself sends: `scope host` says so
/// for IPv4, and for IPv6 a preferred lifetime of zero (RFC 6724 §5, rule 3).
fn add(socket: &mut Socket, index: u32, address: IpAddr) -> io::Result<()> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    socket.request(RTM_NEWADDR, flags, |w| put_address(w, index, address), |_, _| {})
}

fn remove(socket: &mut Socket, index: u32, address: IpAddr) -> io::Result<()> {
    socket.request(RTM_DELADDR, NLM_F_ACK, |w| put_address(w, index, address), |_, _| {})
}

/// `struct ifaddrmsg` and its attributes.
fn put_address(w: &mut Writer, index: u32, address: IpAddr) {
    let (family, len, scope) = match address {
        IpAddr::V4(_) => (AF_INET, 32, RT_SCOPE_HOST),
        IpAddr::V6(_) => (AF_INET6, 128, RT_SCOPE_UNIVERSE),
    };
    w.raw(&[family, len, 0, scope]);
    w.raw(&index.to_ne_bytes());
    put_ip(w, IFA_LOCAL, address);
    if address.is_ipv6() {
        // There is nobody on the link who could have the same.
        w.attribute(IFA_FLAGS, &(IFA_F_NODAD | IFA_F_NOPREFIXROUTE).to_ne_bytes());
        let (preferred, valid) = (0, u32::MAX);
        let lifetimes: [u32; 4] = [preferred, valid, 0, 0];
        w.attribute(IFA_CACHEINFO, &lifetimes.map(u32::to_ne_bytes).concat());
    }
}
