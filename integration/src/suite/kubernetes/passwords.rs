//! Passwords of BGP peers, each read from a Secret of its own.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use super::{Bench, Cluster};
use crate::agent::Stop;
use crate::object::Object;
use crate::progress::format_duration;
use crate::router::Daemon as _;
use crate::spec::{Numbering, rack};
use crate::wait::until;

const PASSWORD: &str = "correct-horse-battery";

/// The Secret that `manifests/rbac.yaml` lets the agent read.
fn secret(name: &str) -> Object {
    Object(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "namespace": "kube-system" },
        "stringData": { "tor": PASSWORD },
    }))
}

/// A peer with its password in a Secret. The address answers nobody.
fn guarded_peer(name: &str, secret: &str, address: &str) -> Object {
    let reference = json!({ "secretKeyRef": { "name": secret, "key": "tor" } });
    Object(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": { "name": name },
        "spec": { "peerIP": address, "asNumber": 64999, "password": reference },
    }))
}

pub(super) fn followed(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::bare(bench, rack(1, Numbering::PerRack))?;
    cluster.install_calico()?;
    cluster.api.apply(&guarded_peer("guarded", "bgp-passwords", "192.0.2.99"))?;
    cluster.lab.start_agents()?;
    expect_password(&cluster, "guarded", "missing: the session stays down")?;
    let agent = &cluster.lab.agents[0];
    let peers = agent.ask(&["bgp", "peers"])?;
    ensure!(peers.contains("there is no Secret kube-system/bgp-passwords"), "{peers}");
    cluster.api.apply(&secret("bgp-passwords"))?;
    let took = expect_password(&cluster, "guarded", "TCP MD5")?;
    println!("              the Secret is made: {} until it is used", format_duration(took));
    cluster.expect_well()?;

    // A Secret beyond the agent's rights is there, and stays closed to it.
    cluster.api.apply(&secret("others"))?;
    cluster.api.apply(&guarded_peer("curious", "others", "192.0.2.98"))?;
    let mut check = String::new();
    until(Duration::from_secs(10), "check names what is forbidden", || {
        check = cluster.lab.agents[0].ask(&["check"])?;
        Ok(check.contains("watch of Secret kube-system/others: the API server says 403"))
    })
    .with_context(|| check.clone())?;
    expect_password(&cluster, "curious", "missing: the session stays down")?;
    cluster.api.delete(&guarded_peer("curious", "others", "192.0.2.98"))?;
    cluster.expect_well().context("what is not wanted any more is no problem")?;

    cluster.api.delete(&secret("bgp-passwords"))?;
    expect_password(&cluster, "guarded", "missing: the session stays down")?;
    let agent = &cluster.lab.agents[0];
    let everything = [
        agent.ask(&["check"])?,
        agent.ask(&["bgp", "peer", "guarded"])?,
        std::fs::read_to_string(agent.log())?,
    ];
    ensure!(!everything.concat().contains(PASSWORD), "the password was shown");
    Ok(())
}

/// Waits until the first agent says this of a peer's password.
fn expect_password(cluster: &Cluster, peer: &str, wanted: &str) -> Result<Duration> {
    let agent = &cluster.lab.agents[0];
    let mut said = String::new();
    until(Duration::from_secs(20), "the password is as it should be", || {
        // Until the peer is known that is an error.
        said = agent.ask(&["bgp", "peer", peer]).unwrap_or_else(|error| format!("{error:#}"));
        Ok(said
            .lines()
            .any(|line| line.strip_prefix("password").is_some_and(|value| value.trim() == wanted)))
    })
    .with_context(|| format!("{said}\n{}", agent.log_tail()))
}

/// The agent asks for the Secrets only when it knows its peers, and must not take that for a node without any.
pub(super) fn kept_through_a_restart(bench: &Bench) -> Result<()> {
    let mut spec = rack(1, Numbering::PerRack);
    let reference = json!({ "secretKeyRef": { "name": "bgp-passwords", "key": "tor" } });
    for peer in spec.objects.iter_mut().filter(|object| object.kind() == "BGPPeer") {
        peer.0["spec"]["password"] = reference.clone();
    }
    let mut cluster = Cluster::bare(bench, spec)?;
    cluster.install_calico()?;
    cluster.api.apply(&secret("bgp-passwords"))?;
    cluster.apply_where(super::is_calico)?;
    let mut config = cluster.lab.router_config();
    for neighbor in &mut config.neighbors {
        neighbor.password = Some(PASSWORD.to_owned());
        neighbor.graceful_restart = Some(60);
    }
    cluster.lab.start_router(&config)?;
    cluster.lab.start_agents()?;
    cluster.lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
    let netns = cluster.lab.agents[0].netns().handle()?;
    let learned = || -> Result<Vec<String>> {
        let all = netns.run("ip", &["route", "show", "proto", "179"])?;
        Ok(all.lines().filter(|line| line.contains(" via ")).map(str::to_owned).collect())
    };
    until(Duration::from_secs(20), "routes are learned", || Ok(!learned()?.is_empty()))?;
    let before = learned()?;
    for how in [Stop::Ask, Stop::Kill] {
        cluster.lab.agents[0].stop(how)?;
        let changes = thread::scope(|scope| -> Result<String> {
            let watch =
                scope.spawn(|| netns.run("sh", &["-c", "timeout 12 ip -o monitor route; true"]));
            thread::sleep(Duration::from_millis(200));
            cluster.lab.agents[0].start()?;
            cluster.lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
            watch.join().map_err(|_| anyhow!("the watch ended"))?
        })?;
        let lost: Vec<_> = changes.lines().filter(|line| line.starts_with("Deleted")).collect();
        ensure!(lost.is_empty(), "{how:?}: {lost:?}\n{}", cluster.lab.agents[0].log_tail());
        ensure!(learned()? == before, "{how:?}: the routes are not what they were");
    }
    cluster.expect_well()
}
