//! What a router is told only while the node hears something else: conditions of export filters.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, Transit};
use crate::object::Object;
use crate::probe::LONG;
use crate::router::{Announcement, Daemon, Presence, Program};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD, is told a network only while there is a default route, or only while there is none",
    follows_a_default_route,
)];

const DEFAULT: &str = "0.0.0.0/0";
const WHILE: &str = "export-while";
const UNLESS: &str = "export-unless";

/// The router at the other side is told the IPv4 network of the pods under a condition, the IPv6 one always.
fn follows_a_default_route(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        let [ipv4, ipv6] = [0, 1].map(|index| spec.nodes[0].pod_cidrs[index].clone());
        let mut conditional = filter("uplink", &json!({ "exportV4": [network(&ipv4)] }));
        conditional.0["metadata"]["annotations"] = annotation(WHILE);
        let reject = json!({ "action": "Reject" });
        let rest = json!({ "exportV4": [reject], "exportV6": [network(&ipv6), reject] });
        spec.objects.extend([conditional, filter("rest", &rest)]);
        for object in spec.objects.iter_mut().filter(|object| FAR.contains(&object.name())) {
            object.0["spec"]["filters"] = json!(["uplink", "rest"]);
        }
    })?;
    let mut near = transit.near(Program::Bird, |_| {})?;
    let far = transit.far(Program::Bird, FAR_AS, |_| {})?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    let [ipv4, ipv6] = [0, 1].map(|index| transit.lab.spec.nodes[0].pod_cidrs[index].clone());
    let told = |goal| far.wait_route(&ipv4, goal, LONG);
    far.wait_route(&ipv6, Presence::There, LONG)?;
    told(Presence::Gone)?;
    transit.wait_peer(FAR[0], "its condition does not hold", |peer| says(peer, "does not hold"))?;
    for _ in 0..2 {
        near.announce(&[Announcement::plain(DEFAULT.parse()?)])?;
        told(Presence::There)?;
        transit.wait_peer(FAR[0], "its condition holds", |peer| says(peer, "0: holds"))?;
        near.withdraw(&[DEFAULT.parse()?])?;
        told(Presence::Gone)?;
    }
    // The other way round.
    transit.edit("uplink", |object| object["metadata"]["annotations"] = annotation(UNLESS))?;
    told(Presence::There)?;
    near.announce(&[Announcement::plain(DEFAULT.parse()?)])?;
    told(Presence::Gone)?;
    near.withdraw(&[DEFAULT.parse()?])?;
    told(Presence::There)?;
    unreadable(&mut transit, &*far, &ipv4)?;
    far.wait_route(&ipv6, Presence::There, LONG)?;
    for peer in [NEAR, FAR].concat() {
        let peer = transit.peer(peer)?;
        ensure!(peer["flaps"] == 0, "a condition cost a session: {peer}");
    }
    Ok(())
}

/// A condition that cannot be read opens nothing, and is named.
fn unreadable(transit: &mut Transit, far: &dyn Daemon, network: &str) -> Result<()> {
    transit.lab.annotate("BGPFilter/uplink", UNLESS, Some("default"))?;
    far.wait_route(network, Presence::Gone, LONG)?;
    let named = "metadata.annotations[bgp.ocicat.io/export-unless]: \"default\"";
    let agent = &transit.lab.agents[0];
    // With problems it ends with an error.
    let said = || agent.ask(&["check"]).unwrap_or_else(|error| format!("{error:#}"));
    until(LONG, "the problem is named", || Ok(said().contains(named))).map(drop)
}

/// Whether `ocicat bgp peer` says this of the condition.
fn says(peer: &Value, wanted: &str) -> bool {
    let settings = peer["settings"].as_array();
    settings.is_some_and(|settings| {
        settings.iter().any(|row| {
            row[0] == "export condition"
                && row[1].as_str().is_some_and(|text| text.contains(wanted))
        })
    })
}

fn annotation(name: &str) -> Value {
    let mut annotations = json!({});
    annotations[format!("bgp.ocicat.io/{name}")] = json!(DEFAULT);
    annotations
}

fn network(cidr: &str) -> Value {
    json!({ "action": "Accept", "cidr": cidr, "matchOperator": "Equal" })
}

fn filter(name: &str, spec: &Value) -> Object {
    Object(json!({ "apiVersion": "projectcalico.org/v3", "kind": "BGPFilter",
        "metadata": { "name": name }, "spec": spec }))
}
