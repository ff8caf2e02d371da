//! CalicoNodeStatus: an agent writes what was asked of its node, when there is news, and nothing else.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Bench, Cluster, is_calico, pod};
use crate::kubernetes::manifest;
use crate::object::Object;
use crate::progress::format_duration;
use crate::router::{Daemon as _, Restart};
use crate::spec::{Numbering, rack};
use crate::wait::until;

/// How soon after its cause a status must be there: a period of a second, and a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Three periods.
const QUIET: Duration = Duration::from_secs(3);

fn wish(name: &str, node: &str, period: u32) -> Object {
    Object(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "CalicoNodeStatus",
        "metadata": { "name": name },
        "spec": { "node": node, "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": period },
    }))
}

/// The object as the API server has it.
fn stored(cluster: &Cluster, name: &str) -> Result<Value> {
    let said = cluster.api.kubectl(&["get", "caliconodestatus", name, "-o", "json"], "")?;
    Ok(serde_json::from_str(&said)?)
}

/// Waits until the status of the object is as wanted.
fn expect_status(
    cluster: &Cluster,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Duration> {
    let mut last = Value::Null;
    until(SOON, what, || {
        last = stored(cluster, name)?;
        Ok(wanted(&last["status"]))
    })
    .with_context(|| format!("{last:#}\n{}", cluster.lab.agents[0].log_tail()))
}

fn established(status: &Value) -> Option<u64> {
    status["bgp"]["numberEstablishedV4"].as_u64()
}

/// Nothing of the object changes for a few periods.
fn expect_quiet(cluster: &Cluster, name: &str) -> Result<()> {
    let before = stored(cluster, name)?;
    thread::sleep(QUIET);
    let after = stored(cluster, name)?;
    ensure!(before == after, "written without news: {before:#}\nthen {after:#}");
    Ok(())
}

pub(super) fn written(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::bare(bench, rack(2, Numbering::PerRack))?;
    cluster.install_calico()?;
    cluster.apply_where(is_calico)?;
    let config = cluster.lab.router_config();
    cluster.lab.start_router(&config)?;
    cluster.lab.start_agents()?;
    cluster.attach(pod("web", "node1"))?;
    cluster.lab.router_daemon()?.wait_established(SOON)?;

    cluster.api.apply(&wish("look", "node1", 1))?;
    cluster.api.apply(&wish("elsewhere", "nobody", 1))?;
    let took =
        expect_status(&cluster, "look", "the sessions and the default route are told", |it| {
            established(it).is_some_and(|number| number > 0)
                && it["bgp"]["numberNotEstablishedV4"] == 0
                && it["agent"]["birdV4"]["state"] == "Ready"
        })?;
    println!(
        "              a CalicoNodeStatus is made: {} until it is written",
        format_duration(took)
    );
    expect_routes(&cluster)?;
    expect_quiet(&cluster, "look").context("a quiet node")?;
    ensure!(stored(&cluster, "elsewhere")?["status"].is_null(), "written for another node");
    cluster.expect_well()?;

    cluster.lab.router_daemon_mut()?.kill()?;
    let took = expect_status(&cluster, "look", "the fall of the sessions is told", |it| {
        it["bgp"]["numberNotEstablishedV4"].as_u64().is_some_and(|number| number > 0)
    })?;
    println!("              the router dies: {} until that is written", format_duration(took));
    cluster.api.apply(&wish("look", "node1", 0))?;
    // What was under way when that came may still be written.
    thread::sleep(Duration::from_secs(1));
    cluster.lab.router_daemon_mut()?.restart(Restart::Cold)?;
    cluster.lab.router_daemon()?.wait_established(Duration::from_secs(60))?;
    expect_quiet(&cluster, "look").context("a period of 0")?;
    refused(&cluster)
}

/// The pod's own route, and one that the router told.
fn expect_routes(cluster: &Cluster) -> Result<()> {
    let pod = format!("{}/32", cluster.lab.pods[0].addresses[0]);
    let gateway = cluster.lab.spec.nodes[0].gateway_ipv4().to_string();
    expect_status(cluster, "look", "routes are told with where they are from", |it| {
        let routes = it["routes"]["routesV4"].as_array();
        let has = |is: &dyn Fn(&Value) -> bool| routes.is_some_and(|all| all.iter().any(is));
        let own = has(&|route| {
            route["destination"] == *pod
                && route["type"] == "FIB"
                && route["learnedFrom"]["sourceType"] == "Direct"
        });
        own && has(&|route| {
            route["learnedFrom"]["sourceType"] == "BGPPeer"
                && route["learnedFrom"]["peerIP"] == *gateway
                && route["gateway"] == *gateway
                && route["interface"] == "eth0"
                && route["type"] == "FIB"
        })
    })
    .map(drop)
}

/// Without the right to write, the agent says so and goes on; with it, it catches up.
fn refused(cluster: &Cluster) -> Result<()> {
    cluster.api.kubectl(&["delete", "clusterrolebinding", "ocicat-node-status"], "")?;
    cluster.api.apply(&wish("look", "node1", 1))?;
    let agent = &cluster.lab.agents[0];
    let mut check = String::new();
    until(SOON, "check says what is refused", || {
        check = agent.ask(&["check"])?;
        Ok(check.contains("CalicoNodeStatus look: status: the API server says 403"))
    })
    .with_context(|| check.clone())?;
    let log = std::fs::read_to_string(agent.log())?;
    ensure!(log.contains("the status cannot be written"), "no word in the log");
    ensure!(established(&stored(cluster, "look")?["status"]) == Some(0), "written without a right");
    cluster.api.apply_file(&manifest("manifests/rbac.yaml"))?;
    expect_status(cluster, "look", "the status is written after all", |it| {
        established(it).is_some_and(|number| number > 0)
    })?;
    cluster.expect_well()
}
