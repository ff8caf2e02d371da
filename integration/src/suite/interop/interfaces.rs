//! Filters that ask through which interface a route goes, on a node with two.

use anyhow::{Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, Transit};
use super::wait_kernel;
use crate::object::Object;
use crate::probe::LONG;
use crate::router::{Announcement, Presence, Program};

pub(super) const TESTS: &[Test] =
    &[Test::new("interop: BIRD, filters follow the interfaces of a node with two", two_interfaces)];

/// What the router behind `eth0` tells, in both families.
const TOLD: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];

fn two_interfaces(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        spec.objects.push(filter("from-router", &import("eth0")));
        for object in &mut spec.objects {
            if NEAR.contains(&object.name()) {
                object.0["spec"]["filters"] = json!(["from-router"]);
            }
        }
    })?;
    let mut near = transit.near(Program::Bird, |_| {})?;
    let far = transit.far(Program::Bird, FAR_AS, |_| {})?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    let prefixes = TOLD.map(|text| text.parse::<IpNet>().expect("a prefix"));
    near.announce(&prefixes.map(Announcement::plain))?;
    let kernel = |transit: &Transit, goal| -> Result<()> {
        TOLD.iter().try_for_each(|prefix| wait_kernel(&transit.lab, 0, prefix, goal).map(drop))
    };
    kernel(&transit, Presence::There)?;
    for (pattern, goal) in [
        ("eth0", Presence::There),
        ("eth1", Presence::Gone),
        ("eth*", Presence::There),
        ("*1", Presence::Gone),
    ] {
        transit.edit("everything", |object| object["spec"] = export(pattern))?;
        TOLD.iter().try_for_each(|prefix| far.wait_route(prefix, goal, LONG).map(drop))?;
    }
    for (pattern, goal) in [("eth1", Presence::Gone), ("*0", Presence::There)] {
        transit.edit("from-router", |object| object["spec"] = import(pattern))?;
        kernel(&transit, goal)?;
    }
    for peer in [NEAR, FAR].concat() {
        let peer = transit.peer(peer)?;
        ensure!(peer["flaps"] == 0, "a filter cost a session: {peer}");
    }
    Ok(())
}

fn import(pattern: &str) -> Value {
    let rules = json!([{ "action": "Accept", "interface": pattern }, { "action": "Reject" }]);
    json!({ "importV4": rules, "importV6": rules })
}

fn export(pattern: &str) -> Value {
    let rules = json!([{ "action": "Accept", "interface": pattern }]);
    json!({ "exportV4": rules, "exportV6": rules })
}

fn filter(name: &str, spec: &Value) -> Object {
    Object(json!({ "apiVersion": "projectcalico.org/v3", "kind": "BGPFilter",
        "metadata": { "name": name }, "spec": spec }))
}
