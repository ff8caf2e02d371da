//! A pod that speaks BGP with its node, by an address that all nodes have, and stands for others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Bench, Test, pod};
use super::{ESTABLISHED, wait_kernel};
use crate::lab::{End, Lab};
use crate::netns::Netns;
use crate::object::{self, Object};
use crate::probe::{Attempt, Flow, LONG, Outcome, Protocol, SHORT, Server, send};
use crate::router::{Announcement, Config, Daemon, Neighbor, Presence, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: a pod with BIRD finds its node by link-local addresses, and packets of those behind it pass",
        link_local,
    )
    .limit(90),
    Test::new(
        "interop: a pod with BIRD finds a node that listens on its own addresses alone",
        node_ip,
    )
    .limit(90),
];

const POD_AS: u32 = 65_010;
/// Prefixes behind the pod, with an address in each.
const BEHIND: [(&str, &str); 2] =
    [("198.51.100.0/24", "198.51.100.1"), ("2001:db8:51::/48", "2001:db8:51::1")];
/// Addresses that the pod has and tells nobody of.
const UNTOLD: [&str; 2] = ["203.0.113.1", "2001:db8:77::1"];
const PORT: u16 = 80;

fn link_local(bench: &Bench) -> Result<()> {
    let ours = ["169.254.0.179", "fe80::179"];
    let (mut lab, mut bird) = started(bench, ours, "None")?;
    packets_pass(&mut lab)?;
    only_for_who_speaks(&mut lab, ours)?;

    bird.kill()?;
    for (prefix, _) in BEHIND {
        wait_kernel(&lab, 0, prefix, Presence::Gone)?;
    }
    for family in [0, 1] {
        let told = BEHIND[family].1;
        until(LONG, "who is no longer told of sends nothing", || {
            Ok(heard_from(&lab, family, told)?.is_none())
        })?;
    }
    Ok(())
}

fn node_ip(bench: &Bench) -> Result<()> {
    let (mut lab, _bird) = started(bench, ["169.254.0.179", "fd00:179::1"], "NodeIP")?;
    packets_pass(&mut lab)
}

/// A node with a router and two pods, of which the first speaks BGP with the node's addresses for pods.
fn started(bench: &Bench, ours: [&str; 2], bind: &str) -> Result<(Lab, Box<dyn Daemon>)> {
    let mut lab = bench.started(described(ours, bind))?;
    let speaker = object::pod("default", "router", "node1", &json!({ "speaks": "bgp" }));
    lab.attach(speaker)?;
    lab.attach(pod("web", "node1"))?;
    let router = &lab.pods[0].sandbox.netns;
    for address in BEHIND.map(|(_, address)| address).iter().chain(&UNTOLD) {
        router.ip(&format!("addr add {address} dev lo\n"))?;
    }
    let mut bird = start_bird(&lab, ours)?;
    bird.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    let behind = BEHIND.map(|(prefix, _)| Announcement::plain(prefix.parse().expect("a prefix")));
    bird.announce(&behind)?;
    for (prefix, _) in BEHIND {
        wait_kernel(&lab, 0, prefix, Presence::There)?;
    }
    Ok((lab, bird))
}

fn described(ours: [&str; 2], bind: &str) -> Spec {
    let mut spec = rack(1, Numbering::PerRack);
    for object in &mut spec.objects {
        match object.kind() {
            "BGPConfiguration" => {
                let fields = &mut object.0["spec"];
                fields["localWorkloadPeeringIPV4"] = ours[0].into();
                fields["localWorkloadPeeringIPV6"] = ours[1].into();
                fields["bindMode"] = bind.into();
            }
            // The router is to know the way to those behind the pod.
            "BGPPeer" => object.0["spec"]["filters"] = json!(["behind-pods"]),
            _ => {}
        }
    }
    let export = |prefix: &str| json!([{ "action": "Accept", "matchOperator": "In", "cidr": prefix, "source": "RemotePeers" }]);
    let of = |kind: &str, name: &str, spec: Value| {
        Object(json!({ "apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": { "name": name }, "spec": spec }))
    };
    let [ipv4, ipv6] = BEHIND.map(|(prefix, _)| export(prefix));
    spec.objects.push(of(
        "BGPFilter",
        "behind-pods",
        json!({ "exportV4": ipv4, "exportV6": ipv6 }),
    ));
    spec.objects.push(of(
        "BGPPeer",
        "pods",
        json!({ "localWorkloadSelector": "speaks == 'bgp'", "asNumber": POD_AS }),
    ));
    spec
}

/// BIRD in the pod: it speaks from the pod's own addresses, and knows the node by none of the node's.
fn start_bird(lab: &Lab, ours: [&str; 2]) -> Result<Box<dyn Daemon>> {
    let pod = &lab.pods[0];
    let mut neighbors = Vec::new();
    for (own, address) in pod.addresses.iter().zip(ours) {
        let address: IpAddr = address.parse()?;
        let mut neighbor = Neighbor::new(*own, address, lab.spec.nodes[0].as_number);
        neighbor.own_words = match address {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => vec!["interface \"eth0\""],
            IpAddr::V4(_) | IpAddr::V6(_) => vec!["multihop"],
        };
        neighbors.push(neighbor);
    }
    let config = Config::new(POD_AS, Ipv4Addr::new(10, 9, 9, 9), neighbors);
    Program::Bird.start(&pod.sandbox.netns, &lab.directory().join("pod-bird"), &config)
}

/// From far away to who is behind the pod and back.
fn packets_pass(lab: &mut Lab) -> Result<()> {
    let addresses = BEHIND.map(|(_, address)| address.parse().expect("an address"));
    let netns = &lab.pods[0].sandbox.netns;
    let mut servers = [Server::start(netns, &addresses, &[(Protocol::Tcp, PORT)])?];
    for address in addresses {
        let flow = Flow { to: SocketAddr::new(address, PORT), protocol: Protocol::Tcp };
        until(LONG, &format!("the client reaches {address}"), || {
            let attempt = Attempt { from: &lab.client, flow, patience: SHORT };
            Ok(send(&[attempt], &mut servers.iter_mut().collect::<Vec<_>>())?[0]
                == Outcome::Reached)
        })?;
    }
    for family in [0, 1] {
        let told: IpAddr = BEHIND[family].1.parse()?;
        ensure!(heard_from(lab, family, BEHIND[family].1)? == Some(told), "{told} is not heard");
        let untold = UNTOLD[family];
        ensure!(
            heard_from(lab, family, untold)?.is_none(),
            "{untold} was not told of, and is heard"
        );
    }
    Ok(())
}

/// What the node hears from this address of the first pod.
fn heard_from(lab: &Lab, family: usize, source: &str) -> Result<Option<IpAddr>> {
    let node: &Netns = lab.agents[0].netns();
    let to = SocketAddr::new(lab.addresses(End::Node(0))[family], 5555);
    let receiver = node.enter(|| UdpSocket::bind(to))??;
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    let source = SocketAddr::new(source.parse()?, 0);
    let sender = lab.pods[0].sandbox.netns.enter(|| UdpSocket::bind(source))??;
    sender.send_to(b"?", to)?;
    Ok(receiver.recv_from(&mut [0; 1]).ok().map(|(_, from)| from.ip()))
}

/// The node's addresses for pods are on the interface of the pod that speaks, as long as it does.
fn only_for_who_speaks(lab: &mut Lab, ours: [&str; 2]) -> Result<()> {
    let netns = lab.agents[0].netns();
    let speaks = |pod: usize| -> Result<bool> {
        let address = lab.pods[pod].addresses[0].to_string();
        let route: Vec<Value> =
            serde_json::from_str(&netns.run("ip", &["-j", "route", "show", &address])?)?;
        let interface = route.first().and_then(|route| route["dev"].as_str());
        let interface = interface.with_context(|| format!("{address} has no interface"))?;
        let shown = netns.run("ip", &["addr", "show", "dev", interface])?;
        let found = ours.map(|address| shown.contains(&format!(" {address}/")));
        ensure!(found[0] == found[1], "one of {ours:?} alone: {shown}");
        Ok(found[0])
    };
    ensure!(speaks(0)? && !speaks(1)?, "the addresses are on the wrong interfaces");
    let mut web = lab.pods[1].object.clone();
    web.0["metadata"]["labels"]["speaks"] = "bgp".into();
    lab.store.put(&web)?;
    until(LONG, "a pod that is to speak finds its node", || speaks(1))?;
    lab.store.put(&lab.pods[1].object)?;
    until(LONG, "a pod that is not any more does not", || Ok(!speaks(1)?))?;
    ensure!(speaks(0)?, "the other pod lost its node");
    Ok(())
}
