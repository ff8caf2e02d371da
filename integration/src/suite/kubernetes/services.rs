//! Services: ranges and addresses are told while they are asked for, as endpoints come and go, and through a restart.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Bench, Cluster, is_calico};
use crate::agent::Stop;
use crate::kubernetes::manifest;
use crate::object::Object;
use crate::progress::format_duration;
use crate::router::{Daemon as _, Presence};
use crate::spec::{Numbering, rack};
use crate::wait::until;

const SOON: Duration = Duration::from_secs(20);
/// How long a restart is looked at: longer than the agent needs until it has told everything.
const LOOK: Duration = Duration::from_secs(4);

const RANGES: [&str; 3] = ["10.96.0.0/16", "fd00:96::/112", "198.51.100.0/24"];
/// The addresses of a Service that keeps its traffic local.
const HOSTS: [&str; 3] = ["10.96.7.7/32", "fd00:96::77/128", "198.51.100.7/32"];

pub(super) fn told(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::bare(bench, rack(1, Numbering::PerRack))?;
    cluster.api.apply_file(&manifest("integration/k8s/endpointslices.yaml"))?;
    cluster.install_calico()?;
    cluster.apply_where(is_calico)?;
    let mut config = cluster.lab.router_config();
    config.neighbors.iter_mut().for_each(|neighbor| neighbor.graceful_restart = Some(60));
    cluster.lab.start_router(&config)?;
    cluster.lab.start_agents()?;
    cluster.lab.router_daemon()?.wait_established(SOON)?;
    cluster.api.apply(&service())?;
    cluster.api.apply(&endpoint(true))?;
    let all = [RANGES, HOSTS].concat();
    expect(&cluster, &all, Presence::Gone)?;

    ask(&cluster, &RANGES[..2], &RANGES[2..])?;
    let took = expect(&cluster, &all, Presence::There)?;
    println!("              ranges are asked for: {} until they are told", format_duration(took));
    cluster.api.apply(&endpoint(false))?;
    let took = expect(&cluster, &HOSTS, Presence::Gone)?;
    println!("              no endpoint is ready: {} until that is told", format_duration(took));
    expect(&cluster, &RANGES, Presence::There)?;
    cluster.api.apply(&endpoint(true))?;
    expect(&cluster, &HOSTS, Presence::There)?;
    cluster.expect_well()?;

    restart(&mut cluster, &all)?;
    ask(&cluster, &[], &[])?;
    expect(&cluster, &all, Presence::Gone)?;
    // What changes while nobody looks is not taken for what is.
    cluster.api.delete(&service())?;
    ask(&cluster, &RANGES[..2], &RANGES[2..])?;
    expect(&cluster, &RANGES, Presence::There)?;
    expect(&cluster, &HOSTS, Presence::Gone)?;
    cluster.expect_well()
}

/// The router keeps what it was told, and nothing is taken back before the new agent knows its Services.
fn restart(cluster: &mut Cluster, all: &[&str]) -> Result<()> {
    cluster.lab.agents[0].stop(Stop::Ask)?;
    cluster.lab.agents[0].launch()?;
    let begun = Instant::now();
    while begun.elapsed() < LOOK {
        let known = cluster.lab.router_daemon()?.learned()?;
        for prefix in all {
            let took = format_duration(begun.elapsed());
            ensure!(known.contains_key(&prefix.parse()?), "{prefix} is lost {took} after a start");
        }
    }
    cluster.lab.agents[0].wait_ready()?;
    cluster.lab.router_daemon()?.wait_established(SOON)?;
    expect(cluster, all, Presence::There).map(drop)
}

fn expect(cluster: &Cluster, prefixes: &[&str], goal: Presence) -> Result<Duration> {
    until(SOON, &format!("{prefixes:?} are {goal:?} in the router"), || {
        let known = cluster.lab.router_daemon()?.learned()?;
        for prefix in prefixes {
            if known.contains_key(&prefix.parse()?) != (goal == Presence::There) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .with_context(|| cluster.lab.agents[0].log_tail())
}

fn ask(cluster: &Cluster, cluster_ips: &[&str], external: &[&str]) -> Result<()> {
    let entries =
        |list: &[&str]| list.iter().map(|cidr| json!({ "cidr": cidr })).collect::<Value>();
    let patch = json!({ "spec": {
        "serviceClusterIPs": entries(cluster_ips), "serviceExternalIPs": entries(external) } });
    let patch = patch.to_string();
    let arguments = ["patch", "bgpconfiguration", "default", "--type=merge", "-p", &patch];
    cluster.api.kubectl(&arguments, "").map(drop)
}

fn service() -> Object {
    let address = |prefix: &str| prefix.split('/').next().unwrap_or_default().to_owned();
    let [ipv4, ipv6, external] = HOSTS.map(address);
    Object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": "default", "name": "web" },
        "spec": { "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ipFamilyPolicy": "RequireDualStack", "clusterIP": ipv4, "clusterIPs": [ipv4, ipv6],
            "externalIPs": [external], "ports": [{ "port": 80 }] },
    }))
}

fn endpoint(ready: bool) -> Object {
    Object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "namespace": "default", "name": "web-1",
            "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": [{ "addresses": ["10.65.1.9"], "nodeName": "node1",
            "conditions": { "ready": ready } }],
        "ports": [{ "port": 80 }],
    }))
}
