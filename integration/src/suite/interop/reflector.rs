//! An agent as route reflector (RFC 4456) between two FRRs.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Bench, Test};
use super::{ESTABLISHED, wait_kernel};
use crate::lab::Lab;
use crate::object::Object;
use crate::probe::LONG;
use crate::router::{Announcement, Config, Daemon, Family, Neighbor, Presence, Program, Route};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: FRR, two clients of a node that reflects: routes cross with their next hop",
    reflects,
)
.limit(90)];

const CLUSTER: Ipv4Addr = Ipv4Addr::new(244, 0, 0, 1);
const AS_NUMBER: u32 = 64_512;

/// node1 reflects; its clients are on the router and in the place of node2, which is no node.
fn spec() -> Spec {
    let mut spec = rack(2, Numbering::Shared);
    spec.objects.retain(|object| object.name() != "node2" && object.kind() != "BGPPeer");
    for object in &mut spec.objects {
        if object.name() == "node1" {
            object.0["metadata"]["annotations"] =
                json!({ "projectcalico.org/RouteReflectorClusterID": CLUSTER });
        }
    }
    for (name, cidr) in [("pods", "10.65.0.0/16"), ("pods-v6", "fd00:65::/32")] {
        spec.objects.push(Object(json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": "IPPool",
            "metadata": { "name": name },
            "spec": { "cidr": cidr },
        })));
    }
    let clients = [("client-a", spec.nodes[0].gateway_ipv4()), ("client-b", spec.nodes[1].ipv4)];
    for (name, address) in clients {
        spec.objects.push(Object(json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPPeer",
            "metadata": { "name": name },
            "spec": { "peerIP": address, "asNumber": AS_NUMBER },
        })));
    }
    spec
}

fn client(lab: &Lab, place: Place) -> Result<Box<dyn Daemon>> {
    let [reflector, far] = [0, 1].map(|index| lab.spec.nodes[index].clone());
    let (netns, local) = match place {
        Place::Router => (&lab.router, reflector.gateway_ipv4()),
        Place::Node2 => (lab.agents[1].netns(), far.ipv4),
    };
    let neighbor = Neighbor {
        families: Family::BOTH.to_vec(),
        ..Neighbor::new(local.into(), reflector.ipv4.into(), AS_NUMBER)
    };
    let config = Config::new(AS_NUMBER, local, vec![neighbor]);
    Program::Frr.start(netns, &lab.directory().join(format!("frr-{local}")), &config)
}

#[derive(Clone, Copy)]
enum Place {
    Router,
    Node2,
}

fn reflects(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(spec())?;
    // The way between those that are not on one link.
    for (from, to) in [(0, 1), (1, 0)] {
        let (near, far) = (&lab.spec.nodes[from], &lab.spec.nodes[to]);
        let ways = far
            .networks()
            .into_iter()
            .zip([IpAddr::from(near.gateway_ipv4()), near.gateway_ipv6().into()]);
        let lines = ways.map(|(network, gateway)| format!("route add {network} via {gateway}\n"));
        lab.agents[from].netns().ip(&lines.collect::<String>())?;
    }
    let mut a = client(&lab, Place::Router)?;
    let b = client(&lab, Place::Node2)?;
    lab.agents[0].start()?;
    for client in [&a, &b] {
        client.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    }
    let node = lab.spec.nodes[0].clone();
    for cidr in &node.pod_cidrs {
        a.wait_route(cidr, Presence::There, LONG)?;
        b.wait_route(cidr, Presence::There, LONG)?;
    }
    let prefixes = ["10.65.9.0/24".parse()?, "fd00:65:9::/64".parse()?];
    let elsewhere = "198.51.100.0/24";
    a.announce(&[Announcement::plain(elsewhere.parse()?)])?;
    a.announce(&prefixes.map(Announcement::plain))?;
    let next_hops = [IpAddr::from(node.gateway_ipv4()), node.gateway_ipv6().into()];
    for (prefix, next_hop) in prefixes.iter().zip(next_hops) {
        b.wait_route(&prefix.to_string(), Presence::There, LONG).with_context(|| {
            format!("{:?}", lab.agents[0].ask(&["bgp", "routes"]))
                + &format!("{:?}", lab.agents[0].ask(&["bgp", "peers"]))
        })?;
        let route = b.learned()?[prefix][0].clone();
        // RFC 4456 §8 and §10: who brought it, whom it passed, and nothing else is changed.
        let wanted = Route {
            next_hop,
            as_path: Vec::new(),
            local_pref: Some(100),
            originator: Some(node.gateway_ipv4()),
            cluster_list: vec![CLUSTER],
            ..route.clone()
        };
        ensure!(route == wanted, "{prefix}: {route:?}");
        wait_kernel(&lab, 0, &prefix.to_string(), Presence::There)?;
        ensure!(!a.learned()?.contains_key(prefix), "{prefix} came back to where it is from");
    }
    wait_kernel(&lab, 0, elsewhere, Presence::There)?;
    let told = b.learned()?.contains_key(&elsewhere.parse()?);
    ensure!(!told, "as in Calico, what is in no pool is not passed on");
    a.withdraw(&prefixes)?;
    until(LONG, "what was withdrawn is gone at the other client", || {
        let table = b.learned()?;
        Ok(prefixes.iter().all(|prefix| !table.contains_key(prefix)))
    })?;
    Ok(())
}
