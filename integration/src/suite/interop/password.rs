//! TCP MD5 (RFC 2385) with every speaker: one lab, one speaker after the other.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Bench, Test};
use super::ESTABLISHED;
use crate::lab::Lab;
use crate::object::Object;
use crate::probe::LONG;
use crate::router::{Config, Neighbor, Presence, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "interop: GoBGP, BIRD, FRR, OpenBGPD, ExaBGP, with a password and with a wrong one",
        passwords,
    )
    .limit(180),
    Test::new(
        "interop: a peer with TCP-AO has no session with MD5, and says what is missing",
        tcp_ao,
    ),
];

const PROGRAMS: [Program; 5] =
    [Program::GoBgp, Program::Bird, Program::Frr, Program::OpenBgpd, Program::ExaBgp];

const PASSWORD: &str = "mekmitasdigoat";

fn spec() -> Spec {
    let mut spec = rack(1, Numbering::PerRack);
    for object in spec.objects.iter_mut().filter(|object| object.kind() == "BGPPeer") {
        object.0["spec"]["password"] = json!({ "secretKeyRef": { "name": "tor", "key": "bgp" } });
    }
    spec.objects.push(Object(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "namespace": "kube-system", "name": "tor" },
        "stringData": { "bgp": PASSWORD },
    })));
    spec
}

/// The router's side, with this key.
fn config(lab: &Lab, key: &str) -> Config {
    let mut config = lab.router_config();
    for neighbor in &mut config.neighbors {
        *neighbor = Neighbor { password: Some(key.to_owned()), ..neighbor.clone() };
    }
    config
}

fn passwords(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(spec())?;
    lab.start_agents()?;
    let cidrs = lab.spec.nodes[0].pod_cidrs.clone();
    for program in PROGRAMS {
        let place = |word: &str| lab.directory().join(format!("{program}-{word}"));
        let right = program.start(&lab.router, &place("right"), &config(&lab, PASSWORD))?;
        let up = right.wait_established(ESTABLISHED);
        up.with_context(|| format!("{program}; {}", lab.agents[0].log_tail()))?;
        for cidr in &cidrs {
            right.wait_route(cidr, Presence::There, LONG)?;
        }
        drop(right);
        let wrong = program.start(&lab.router, &place("wrong"), &config(&lab, "mekmitasdigoas"))?;
        // Longer than the agent and the speaker wait between two attempts.
        std::thread::sleep(Duration::from_secs(6));
        let up = wrong.sessions()?.iter().any(|session| session.established);
        ensure!(!up, "{program}: a session with a wrong password");
        println!("     - {program}");
    }
    Ok(())
}

/// BIRD has the same password as a key of TCP MD5, which must not be enough.
fn tcp_ao(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(spec())?;
    lab.start_agents()?;
    let directory = lab.directory().join("bird");
    let bird = Program::Bird.start(&lab.router, &directory, &config(&lab, PASSWORD))?;
    bird.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    let peers: Vec<Object> =
        lab.spec.objects.iter().filter(|object| object.kind() == "BGPPeer").cloned().collect();
    let set = |value: &str, passive: &str| -> Result<()> {
        for mut peer in peers.clone() {
            peer.0["metadata"]["annotations"] =
                json!({ "bgp.ocicat.io/tcp-ao": value, "bgp.ocicat.io/passive": passive });
            lab.store.put(&peer)?;
        }
        Ok(())
    };
    let says = |text: &str| {
        until(LONG, &format!("the peers are said to lack: {text}"), || {
            let shown = lab.agents[0].ask(&["bgp", "peers"])?;
            let lines = shown.lines().filter(|line| line.contains(text));
            Ok(lines.count() == peers.len() && !shown.contains("Established"))
        })
        .with_context(|| {
            format!("{:?}\n{}", lab.agents[0].ask(&["bgp", "peers"]), lab.agents[0].log_tail())
        })
    };
    set("send-id=1", "false")?;
    says("its annotation tcp-ao cannot be read")?;
    let key = "send-id=1 receive-id=1 algorithm=hmac-sha1-96";
    set(key, "false")?;
    if says("this kernel has no TCP-AO (Linux 6.7 or later with CONFIG_TCP_AO)").is_err() {
        println!("     the kernel has TCP-AO");
    } else {
        println!("     the kernel has no TCP-AO, and that is said");
        set(key, "true")?;
        says("it cannot connect: this kernel has no TCP-AO")?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let up = bird.sessions()?.iter().any(|session| session.established);
    ensure!(!up, "a session that is signed with MD5");
    for mut peer in peers.clone() {
        peer.0["metadata"]["annotations"] = json!({});
        lab.store.put(&peer)?;
    }
    bird.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    let check = lab.agents[0].ask(&["check"])?;
    ensure!(!check.contains("the key for"), "what is over is still told: {check}");
    Ok(())
}
