//! Address translation for what leaves the cluster: off, unless an IPPool asks for it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test, pod};
use crate::lab::Lab;
use crate::object::Object;
use crate::spec::{Numbering, rack};

pub(super) const TESTS: &[Test] = &[Test::new(
    "nat: what leaves the cluster has the pod's address, and the node's where an IPPool asks",
    outgoing,
)];

const PORT: u16 = 5555;
const LIMIT: Duration = Duration::from_secs(5);

fn outgoing(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(2, Numbering::PerRack))?;
    lab.attach(pod("a", "node1"))?;
    lab.attach(pod("b", "node2"))?;
    let node = lab.spec.nodes[0].clone();
    let pools = [("pods4", "10.65.0.0/16"), ("pods6", "fd00:65::/32")];
    let pools = pools.map(|(name, cidr)| {
        Object(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"cidr": cidr, "natOutgoing": true},
        }))
    });
    let own = lab.pods[0].addresses.clone();
    let of_node = [IpAddr::from(node.ipv4), node.ipv6.into()];
    for (family, own) in own.iter().enumerate() {
        wait_seen_as(&lab, family, *own).context("without a pool")?;
    }
    pools.iter().try_for_each(|pool| lab.store.put(pool))?;
    for (family, address) in of_node.into_iter().enumerate() {
        wait_seen_as(&lab, family, address).context("with natOutgoing")?;
        // Inside the cluster nothing is translated.
        let inside = seen_by(&lab.pods[1].sandbox.netns, &lab, lab.pods[1].addresses[family])?;
        ensure!(inside == Some(own[family]), "another pod sees {inside:?}");
    }
    pools.iter().try_for_each(|pool| lab.store.remove(pool))?;
    for (family, own) in own.iter().enumerate() {
        wait_seen_as(&lab, family, *own).context("after the pools are gone")?;
    }
    Ok(())
}

/// Sends from the first pod to the client until the client sees it come from `wanted`.
fn wait_seen_as(lab: &Lab, family: usize, wanted: IpAddr) -> Result<()> {
    let client = lab.addresses(crate::lab::End::Client)[family];
    let begun = Instant::now();
    loop {
        let seen = seen_by(&lab.client, lab, client)?;
        if seen == Some(wanted) {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "the client sees {seen:?}, not {wanted}");
    }
}

/// Sends one datagram from the first pod to `to`, and says from which address the receiver got it.
fn seen_by(receiver: &crate::netns::Netns, lab: &Lab, to: IpAddr) -> Result<Option<IpAddr>> {
    let to = SocketAddr::new(to, PORT);
    let socket = receiver.enter(|| UdpSocket::bind(to))??;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    let sender = lab.pods[0].sandbox.netns.enter(|| UdpSocket::bind(any))??;
    sender.send_to(b"?", to)?;
    Ok(socket.recv_from(&mut [0; 1]).ok().map(|(_, from)| from.ip()))
}
