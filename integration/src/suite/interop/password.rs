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

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: GoBGP, BIRD, FRR, OpenBGPD, ExaBGP, with a password and with a wrong one",
    passwords,
)
.limit(180)];

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
