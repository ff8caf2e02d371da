//! Bad input: one clear error that names it, and everything else goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test, expect, expect_soon, ingress, pod};
use crate::lab::Lab;
use crate::probe::{Outcome, Protocol, Server};
use crate::router::Daemon as _;
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new("input: a file that is no YAML is named and the others count", broken_yaml),
    Test::new("input: a kind that nobody knows is named once and harms nothing", unknown_kind),
    Test::new(
        "input: a policy with a bad CIDR is named, opens nothing and stops no other",
        bad_policy,
    ),
    Test::new("input: two pods with one address are named", duplicate_address),
    Test::new("input: with the BGP port taken the agent enforces policy and dials out", port_taken),
    Test::new("input: without root the agent says what it lacks", without_root),
    Test::new(
        "input: an agent for a node that no object describes says so and is not ready",
        unknown_node,
    ),
];

/// `web` and `b` on a node, `web` closed.
fn closed(bench: &Bench) -> Result<Lab> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    lab.start_agents()?;
    lab.store.put(&ingress("web", &json!([])))?;
    for name in ["b", "web"] {
        lab.attach(pod(name, "node1"))?;
    }
    lab.serve(&[(Protocol::Tcp, 80)])?;
    expect_soon(&mut lab, &FLOWS)?;
    Ok(lab)
}

const FLOWS: [(&str, &str, &str, Outcome); 2] =
    [("b", "web", "80/TCP", Outcome::Dropped), ("web", "b", "80/TCP", Outcome::Reached)];

/// Waits until `ocicat check` or the agent's log names each word.
fn expect_named(lab: &Lab, words: &[&str]) -> Result<()> {
    let agent = &lab.agents[0];
    let mut said = String::new();
    until(Duration::from_secs(10), &format!("{words:?} are named"), || {
        said = agent.ask(&["check"]).unwrap_or_else(|error| format!("{error:#}"));
        Ok(words.iter().all(|word| said.contains(word)))
    })
    .with_context(|| format!("ocicat check said: {said}\n{}", agent.log_tail()))?;
    Ok(())
}

/// New input still takes effect: `b` closes.
fn expect_alive(lab: &mut Lab) -> Result<()> {
    expect(lab, &FLOWS)?;
    lab.store.put(&ingress("b", &json!([])))?;
    expect_soon(lab, &[("web", "b", "80/TCP", Outcome::Dropped)]).map(drop)
}

fn broken_yaml(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    lab.store.put_text("broken.yaml", "kind: [unclosed\n  : -")?;
    lab.store.put_text("notes.txt", "not YAML, and not meant to be")?;
    expect_named(&lab, &["broken.yaml"])?;
    expect_alive(&mut lab)?;
    // A file that breaks after it was good keeps its objects: deleting by typo would open pods.
    lab.store.put_text("networkpolicy-default-web.yaml", "kind: [unclosed")?;
    expect_named(&lab, &["networkpolicy-default-web.yaml"])?;
    expect(&mut lab, &[("b", "web", "80/TCP", Outcome::Dropped)])
}

fn unknown_kind(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    lab.store.put_text(
        "x.yaml",
        "apiVersion: example.org/v1\nkind: Teapot\nmetadata: { name: short }\n",
    )?;
    expect_named(&lab, &["Teapot"])?;
    expect_alive(&mut lab)
}

fn bad_policy(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let bad = json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/99" } }] }]);
    lab.store.put(&ingress("b", &bad))?;
    expect_named(&lab, &["10.0.0.0/99"])?;
    expect_soon(&mut lab, &[("web", "b", "80/TCP", Outcome::Dropped)])?;
    lab.store.put(&ingress("web", &json!([{}])))?;
    expect_soon(&mut lab, &[("b", "web", "80/TCP", Outcome::Reached)]).map(drop)
}

fn duplicate_address(bench: &Bench) -> Result<()> {
    let mut lab = closed(bench)?;
    let mut twin = pod("twin", "node9");
    let address = lab.pods[1].addresses[0];
    twin.0["status"] = json!({ "podIP": address, "podIPs": [{ "ip": address }] });
    lab.store.put(&twin)?;
    expect_named(&lab, &[&address.to_string()])?;
    expect_alive(&mut lab)
}

fn port_taken(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    let any = ["0.0.0.0".parse()?, "::".parse()?];
    let taken = Server::start(lab.agents[0].netns(), &any, &[(Protocol::Tcp, 179)])?;
    lab.start_agents()?;
    lab.attach(pod("web", "node1"))?;
    expect_named(&lab, &["179"])?;
    let config = lab.router_config();
    lab.start_router(&config)?;
    lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
    drop(taken);
    Ok(())
}

fn without_root(bench: &Bench) -> Result<()> {
    let lab = bench.bare(rack(1, Numbering::PerRack))?;
    // Where nobody may read it.
    let folder = tempfile::tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder.path().join("ocicat");
    fs::copy(&bench.binaries.ocicat, &program)?;
    let state = folder.path().display().to_string();
    let output = std::process::Command::new(program)
        .args(["agent", "--node", "node1", "--http", "127.0.0.1:0", "--socket"])
        .arg(format!("{state}/sock"))
        .args(["--state-dir", &state, "--datastore"])
        .arg(lab.store.path())
        .uid(65_534)
        .gid(65_534)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it ran without root");
    let names_it =
        ["root", "CAP_NET_ADMIN", "ermission", "ermitted"].iter().any(|word| said.contains(word));
    ensure!(names_it, "it does not say what it lacks: {said}");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

fn unknown_node(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    let node =
        lab.spec.objects.iter().find(|object| object.kind() == "Node").context("no Node")?.clone();
    lab.store.remove(&node)?;
    let agent = &mut lab.agents[0];
    agent.launch()?;
    until(Duration::from_secs(10), "the agent answers that it is not ready", || {
        Ok(agent.get("/readyz")?.0 == 503)
    })
    .with_context(|| agent.log_tail())?;
    let answer = agent.get("/readyz")?.1;
    ensure!(answer.contains("Node"), "the reason does not name the object: {answer}");
    lab.store.put(&node)?;
    lab.agents[0].wait_ready().map(drop)
}
