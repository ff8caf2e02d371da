//! Peers that are not configured by address: the router at the other end of a link, and whoever comes
//! from a range.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Bench, Test, expect_soon, pod};
use super::{CLIENT, ESTABLISHED, has_route, wait_kernel};
use crate::lab::Lab;
use crate::object::Object;
use crate::probe::{LONG, Outcome, Protocol};
use crate::router::frr::{Files, Frr};
use crate::router::{Config, Daemon as _, Neighbor, Presence, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: FRR, unnumbered: found by router advertisements, with password and BFD",
        on_links,
    )
    .limit(120),
    Test::new(
        "interop: BIRD, from a range: peers come with the password of the range, up to its limit",
        from_range,
    )
    .limit(120),
];

const PASSWORD: &str = "mekmitasdigoat";
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Two racks whose nodes have these BGPPeers instead of the usual ones; both have a password.
fn spec(nodes: u8, peers: &[Value]) -> Spec {
    let mut spec = rack(nodes, Numbering::PerRack);
    spec.objects.retain(|object| object.kind() != "BGPPeer");
    spec.objects.push(Object(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "namespace": "kube-system", "name": "tor" },
        "stringData": { "bgp": PASSWORD },
    })));
    for (number, peer) in peers.iter().enumerate() {
        let mut peer = peer.clone();
        peer["apiVersion"] = json!("projectcalico.org/v3");
        peer["kind"] = json!("BGPPeer");
        peer["metadata"]["name"] = json!(format!("tor{number}"));
        peer["spec"]["password"] = json!({ "secretKeyRef": { "name": "tor", "key": "bgp" } });
        spec.objects.push(Object(peer));
    }
    spec
}

fn frr(lab: &Lab) -> Result<Frr> {
    let as_number = lab.spec.router.as_number;
    let mut bgpd = format!(
        "log stdout
router bgp {as_number}
 bgp router-id {ROUTER_ID}
 no bgp ebgp-requires-policy
 no bgp network import-check
"
    );
    for node in &lab.spec.nodes {
        let name = &node.name;
        write!(
            bgpd,
            " neighbor {name} interface remote-as external
 neighbor {name} password {PASSWORD}
 neighbor {name} bfd
 neighbor {name} bfd profile fast
 neighbor {name} timers 3 9
 neighbor {name} timers connect 1
"
        )?;
    }
    for (family, network) in ["ipv4", "ipv6"].into_iter().zip(CLIENT) {
        writeln!(bgpd, " address-family {family} unicast\n  network {network}")?;
        for node in &lab.spec.nodes {
            writeln!(bgpd, "  neighbor {} activate", node.name)?;
        }
        writeln!(bgpd, " exit-address-family")?;
    }
    let bfdd = "log stdout
bfd
 profile fast
  transmit-interval 100
  receive-interval 100
  detect-multiplier 3
";
    let config = Config::new(as_number, ROUTER_ID, Vec::new());
    let files = Files { bgpd, bfdd: Some(bfdd.to_owned()) };
    Frr::start_with(&lab.router, &lab.directory().join("frr"), &config, &files)
}

fn on_links(bench: &Bench) -> Result<()> {
    let peer = json!({ "metadata": { "annotations": {
        "bgp.ocicat.io/interface": "eth0", "bgp.ocicat.io/bfd": "100ms x 3",
        "bgp.ocicat.io/tcp-mss": "1000",
    } } });
    let mut lab = bench.bare(spec(2, &[peer]))?;
    lab.start_agents()?;
    // The agents stand first: what they advertised then, FRR has not heard.
    let frr = frr(&lab)?;
    for (index, node) in lab.spec.nodes.iter().enumerate() {
        for cidr in &node.pod_cidrs {
            frr.wait_route(cidr, Presence::There, ESTABLISHED)
                .with_context(|| lab.agents[index].log_tail())?;
        }
    }
    for cidr in lab.spec.nodes[1].pod_cidrs.clone() {
        comes_to_node1(&lab, &cidr)?;
        let family = if cidr.contains(':') { "-6" } else { "-4" };
        let route = lab.agents[0].netns().run("ip", &[family, "route", "show", &cidr])?;
        ensure!(route.contains("fe80::") && route.contains("dev eth0"), "{cidr}: {route}");
    }
    let peers: Value = lab.agents[0].json(&["bgp", "peers"])?;
    let peer = &peers[0];
    let address = peer["address"].as_str().unwrap_or_default();
    ensure!(address.starts_with("fe80::") && address.ends_with("%eth0"), "{peer}");
    ensure!(peer["remoteAs"] == lab.spec.router.as_number, "{peer}");
    known_by_name(&lab, &frr, peer["name"].as_str().unwrap_or_default())?;
    small_segments(&lab)?;

    lab.attach(pod("a", "node1"))?;
    lab.attach(pod("b", "node2"))?;
    lab.serve(&[(Protocol::Tcp, 80)])?;
    let reached = Outcome::Reached;
    expect_soon(&mut lab, &[("a", "b", "80/TCP", reached), ("client", "a", "80/TCP", reached)])?;

    // The link keeps its carrier and carries nothing: BFD says so, long before the hold time.
    let network = CLIENT[0];
    comes_to_node1(&lab, network)?;
    let dark = "table inet dark { chain in { type filter hook prerouting priority -400; iifname node1 drop; }; }";
    until(LONG, "BFD is up", || Ok(lab.agents[0].ask(&["bgp", "bfd"])?.contains("Up")))?;
    lab.router.run("nft", &[dark])?;
    let gone = wait_kernel(&lab, 0, network, Presence::Gone)?;
    lab.router.run("nft", &["delete table inet dark"])?;
    ensure!(gone < Duration::from_secs(3), "the dead link was noticed after {gone:?}");
    comes_to_node1(&lab, network)?;

    lab.router.ip("link set node1 down\nlink set node1 up\n")?;
    let back = || Ok(lab.agents[0].ask(&["bgp", "peers"])?.contains("Established"));
    until(ESTABLISHED, "the session is up again", back)
        .with_context(|| lab.agents[0].log_tail())?;
    comes_to_node1(&lab, network)
}

/// Either end tells the operator of the other what it is called.
fn known_by_name(lab: &Lab, frr: &Frr, peer: &str) -> Result<()> {
    let neighbors: Value = serde_json::from_str(&frr.ask(&["show bgp neighbors json"])?)?;
    for node in &lab.spec.nodes {
        let said = &neighbors[&node.name]["neighborCapabilities"]["hostName"];
        ensure!(said["rcvHostName"] == *node.name, "FRR heard {said} from {}", node.name);
    }
    let said = &neighbors["node1"]["neighborCapabilities"]["hostName"]["advHostName"];
    let view: Value = lab.agents[0].json(&["bgp", "peer", peer])?;
    ensure!(view["hostname"] == *said, "FRR says {said}, the node shows {}", view["hostname"]);
    let text = lab.agents[0].ask(&["bgp", "peer", peer])?;
    ensure!(text.contains("calls itself"), "{text}");
    Ok(())
}

fn small_segments(lab: &Lab) -> Result<()> {
    let sockets = lab.agents[0].netns().run("ss", &["-Htni", "state", "established"])?;
    let sizes = sockets.split_whitespace().filter_map(|word| word.strip_prefix("mss:"));
    let sizes: Vec<u32> = sizes.map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!sizes.is_empty() && sizes.iter().all(|size| *size <= 1000), "{sockets}");
    Ok(())
}

/// Sessions may have to come up first.
fn comes_to_node1(lab: &Lab, network: &str) -> Result<()> {
    until(ESTABLISHED, &format!("{network} is in the kernel of node 1"), || {
        has_route(lab, 0, network)
    })
    .with_context(|| lab.agents[0].log_tail())
    .map(drop)
}

fn from_range(bench: &Bench) -> Result<()> {
    let range = |range: &str, limit: &str| {
        json!({
            "metadata": { "annotations": {
                "bgp.ocicat.io/listen-range": range, "bgp.ocicat.io/listen-limit": limit,
            } },
            "spec": { "asNumber": 64_500 },
        })
    };
    let mut lab = bench.bare(spec(1, &[range("10.0.0.0/16", "1"), range("fd00:10::/32", "1")]))?;
    lab.start_agents()?;
    let node = &lab.spec.nodes[0];
    // A second address in the range is one too many.
    lab.router.ip(&format!("addr add 10.0.1.77/24 dev {}\n", node.name))?;
    let mut config = lab.router_config();
    for neighbor in &mut config.neighbors {
        *neighbor = Neighbor { password: Some(PASSWORD.to_owned()), ..neighbor.clone() };
    }
    let bird = Program::Bird.start(&lab.router, &lab.directory().join("bird"), &config)?;
    bird.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    for cidr in &node.pod_cidrs {
        bird.wait_route(cidr, Presence::There, LONG)?;
    }
    let names = |lab: &Lab| -> Result<Vec<String>> {
        let peers: Value = lab.agents[0].json(&["bgp", "peers"])?;
        let peers = peers.as_array().context("no list")?;
        Ok(peers.iter().filter_map(|peer| peer["name"].as_str().map(str::to_owned)).collect())
    };
    let expected =
        [format!("tor0-{}", node.gateway_ipv4()), format!("tor1-{}", node.gateway_ipv6())];
    ensure!(names(&lab)? == expected, "{:?}", names(&lab)?);
    let shown = lab.agents[0].ask(&["bgp", "peer", &expected[0]])?;
    ensure!(shown.contains("BGPPeer tor0"), "{shown}");

    let second = Neighbor {
        password: Some(PASSWORD.to_owned()),
        ..Neighbor::new("10.0.1.77".parse()?, node.ipv4.into(), node.as_number)
    };
    let config = Config { neighbors: vec![second], ..config };
    let extra = Program::ExaBgp.start(&lab.router, &lab.directory().join("extra"), &config)?;
    let refused = || Ok(lab.agents[0].log_tail().contains("one peer too many for tor0"));
    until(ESTABLISHED, "the second peer of the range is refused", refused)
        .with_context(|| lab.agents[0].log_tail())?;
    ensure!(!extra.sessions()?.iter().any(|session| session.established), "it is in");
    drop(extra);
    ensure!(names(&lab)? == expected, "{:?}", names(&lab)?);
    Ok(())
}
