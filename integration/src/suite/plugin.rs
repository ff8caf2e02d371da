//! The plugin as a runtime meets it: CNI specification 1.1.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Bench, Test, ingress, pod};
use crate::agent::Stop;
use crate::lab::Lab;
use crate::netns;
use crate::object::Object;
use crate::probe::{EarlySender, LONG, Outcome, Protocol, Server};
use crate::runtime::{Call, Sandbox, addresses, execute};
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "plugin: every version of the specification gets its own result, and CHECK agrees",
        versions,
    ),
    Test::new("plugin: DEL is idempotent and leaves no interface, route or address", deletion),
    Test::new(
        "plugin: what is wrong in a call is named, with the specification's error code",
        refusals,
    ),
    Test::new(
        "plugin: with the agent down ADD fails and undoes itself, DEL and CHECK work",
        agent_down,
    ),
    Test::new("plugin: GC removes what the runtime no longer knows", garbage),
    Test::new("plugin: ten pods at once get twenty different addresses", at_once),
    Test::new(
        "plugin: when addresses run out ADD says so, and one that is freed is enough",
        exhausted,
    ),
    Test::new("plugin: a pod under policy cannot leak a packet while it is attached", early)
        .limit(90),
    Test::new(
        "plugin: a pod reaches its node, its gateway answers, and the MTU is the link's",
        inside,
    ),
];

/// One node; its agent runs, no router does.
fn node(bench: &Bench) -> Result<Lab> {
    let mut lab = bench.bare(rack(1, Numbering::Shared))?;
    lab.start_agents()?;
    Ok(lab)
}

fn sandbox(lab: &Lab, name: &str) -> Result<Sandbox> {
    let object = pod(name, "node1");
    lab.store.put(&object)?;
    lab.sandbox(&object)
}

/// Interfaces of the node that belong to pods, and routes to pods.
fn traces(lab: &Lab) -> Result<Vec<String>> {
    let node = lab.agents[0].netns();
    let links = node.run("ip", &["-br", "link"])?;
    let mut traces: Vec<String> =
        links.lines().filter(|line| line.starts_with("oci")).map(str::to_owned).collect();
    for family in ["-4", "-6"] {
        let routes = node.run("ip", &[family, "route"])?;
        traces.extend(routes.lines().filter(|line| line.contains("dev oci")).map(str::to_owned));
    }
    Ok(traces)
}

fn expect_no_traces(lab: &Lab) -> Result<()> {
    let traces = traces(lab)?;
    ensure!(traces.is_empty(), "left behind: {traces:#?}");
    Ok(())
}

fn versions(bench: &Bench) -> Result<()> {
    let lab = node(bench)?;
    let agent = &lab.agents[0];
    for (index, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
        let pod = sandbox(&lab, &format!("v{index}"))?;
        let call = |verb| Call { verb, version, extra: json!({}) };
        let added = pod.call(agent, &call("ADD"))?.expect_success().context(version)?;
        ensure!(added.json["cniVersion"] == version, "asked in {version}: {}", added.json);
        ensure!(addresses(&added.json)?.len() == 2, "not dual stack: {}", added.json);
        let interfaces = added.json["interfaces"].as_array().context("no interfaces")?;
        let inside =
            interfaces.iter().find(|interface| interface["name"] == "eth0").context("no eth0")?;
        ensure!(inside["sandbox"] == pod.netns.path().display().to_string(), "{inside}");
        if version != "0.3.1" {
            let mut check = call("CHECK");
            check.extra = json!({ "prevResult": added.json });
            pod.call(agent, &check)?
                .expect_success()
                .with_context(|| format!("CHECK in {version}"))?;
        }
        pod.call(agent, &call("DEL"))?
            .expect_success()
            .with_context(|| format!("DEL in {version}"))?;
    }
    let answer = sandbox(&lab, "any")?.call(agent, &Call::new("VERSION"))?.expect_success()?;
    let supported = answer.json["supportedVersions"].as_array().context("no supportedVersions")?;
    ensure!(
        supported.contains(&json!("1.1.0")) && supported.contains(&json!("0.4.0")),
        "{supported:?}"
    );
    sandbox(&lab, "status")?.call(agent, &Call::new("STATUS"))?.expect_success()?;
    expect_no_traces(&lab)
}

fn deletion(bench: &Bench) -> Result<()> {
    let lab = node(bench)?;
    let agent = &lab.agents[0];
    let pod = sandbox(&lab, "web")?;
    let first = pod.add(agent)?;
    ensure!(traces(&lab)?.len() >= 3, "a link and two routes were expected: {:?}", traces(&lab)?);
    let again = pod.call(agent, &Call::new("ADD"))?;
    ensure!(!again.success, "a second ADD of the same attachment passed: {}", again.json);
    let mut check = Call::new("CHECK");
    check.extra = json!({ "prevResult": pod.call(agent, &Call::new("CHECK"))?.json });
    for _ in 0..3 {
        pod.del(agent)?;
        expect_no_traces(&lab)?;
    }
    let check = pod.call(agent, &check)?;
    ensure!(!check.success, "CHECK of what was deleted passed");
    // A namespace that is gone already is no reason to keep the rest.
    let other = sandbox(&lab, "gone")?;
    other.add(agent)?;
    netns::remove(other.netns.name())?;
    other.del(agent)?;
    expect_no_traces(&lab)?;
    // Longest-idle first: a fresh pod does not get the address that was just freed.
    let next = sandbox(&lab, "next")?;
    let second = next.add(agent)?;
    ensure!(second[0] != first[0] && second[1] != first[1], "{first:?} was given again at once");
    next.del(agent)
}

fn refusals(bench: &Bench) -> Result<()> {
    let lab = node(bench)?;
    let agent = &lab.agents[0];
    let pod = sandbox(&lab, "web")?;
    let with = |extra: Value| Call { extra, ..Call::new("ADD") };
    let old = Call { version: "7.0.0", ..Call::new("ADD") };
    for (what, call, code) in [
        ("a version of the future", old, 1),
        ("an MTU of one", with(json!({ "mtu": 1 })), 7),
        ("an address plugin", with(json!({ "ipam": { "type": "host-local" } })), 2),
    ] {
        let answer = pod.call(agent, &call)?;
        ensure!(!answer.success && answer.code() == Some(code), "{what}: {}", answer.json);
        ensure!(
            answer.json["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
            "{what}: {}",
            answer.json
        );
    }
    let plugin = &agent.binaries().plugin;
    let bare = || {
        let mut command = Command::new(plugin);
        command.env_clear().env("CNI_COMMAND", "ADD").env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", pod.netns.path()).env("CNI_PATH", "/opt/cni/bin");
        command
    };
    let good = json!({ "cniVersion": "1.1.0", "name": "ocicat", "type": "ocicat-cni" }).to_string();
    let answer = execute(agent, &mut bare(), &good)?;
    ensure!(answer.code() == Some(4), "without a container: {}", answer.json);
    ensure!(
        answer.json["msg"].as_str().unwrap_or_default().contains("CNI_CONTAINERID"),
        "{}",
        answer.json
    );
    let answer = execute(agent, bare().env("CNI_CONTAINERID", "x"), "{ not json")?;
    ensure!(answer.code() == Some(6), "no JSON: {}", answer.json);
    let answer =
        execute(agent, bare().env("CNI_CONTAINERID", "x").env("CNI_IFNAME", "a/b"), &good)?;
    ensure!(answer.code() == Some(4), "a bad interface name: {}", answer.json);
    expect_no_traces(&lab)
}

fn agent_down(bench: &Bench) -> Result<()> {
    let mut lab = node(bench)?;
    lab.attach(pod("old", "node1"))?;
    lab.agents[0].stop(Stop::Kill)?;
    let before = traces(&lab)?;
    let fresh = sandbox(&lab, "fresh")?;
    let answer = fresh.call(&lab.agents[0], &Call::new("ADD"))?;
    ensure!(!answer.success, "ADD passed with nobody to enforce: {}", answer.json);
    ensure!(answer.code() == Some(11), "not \"try again later\": {}", answer.json);
    ensure!(traces(&lab)? == before, "left behind: {:?}", traces(&lab)?);
    let links = fresh.netns.run("ip", &["-br", "link"])?;
    ensure!(links.lines().count() == 1, "left in the pod: {links}");
    let status = fresh.call(&lab.agents[0], &Call::new("STATUS"))?;
    ensure!(status.code() == Some(50), "STATUS with the agent down: {}", status.json);

    lab.pods[0].sandbox.del(&lab.agents[0])?;
    expect_no_traces(&lab)?;
    lab.store.remove(&lab.pods[0].object)?;
    lab.agents[0].start()?;
    fresh.add(&lab.agents[0])?;
    fresh.del(&lab.agents[0])?;
    expect_no_traces(&lab)
}

fn garbage(bench: &Bench) -> Result<()> {
    let lab = node(bench)?;
    let agent = &lab.agents[0];
    let (kept, lost) = (sandbox(&lab, "kept")?, sandbox(&lab, "lost")?);
    kept.add(agent)?;
    lost.add(agent)?;
    let count = traces(&lab)?.len();
    let valid = json!([{ "containerID": kept.container, "ifname": "eth0" }]);
    let call = Call { extra: json!({ "cni.dev/valid-attachments": valid }), ..Call::new("GC") };
    kept.call(agent, &call)?.expect_success()?;
    ensure!(traces(&lab)?.len() == count / 2, "after GC: {:?}", traces(&lab)?);
    kept.call(
        agent,
        &Call { extra: json!({ "cni.dev/valid-attachments": [] }), ..Call::new("GC") },
    )?
    .expect_success()?;
    expect_no_traces(&lab)
}

fn at_once(bench: &Bench) -> Result<()> {
    let lab = node(bench)?;
    let agent = &lab.agents[0];
    let pods: Vec<Sandbox> =
        (0..10).map(|index| sandbox(&lab, &format!("p{index}"))).collect::<Result<_>>()?;
    let added: Vec<Result<Vec<IpAddr>>> = thread::scope(|scope| {
        let calls: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.add(agent))).collect();
        calls.into_iter().map(|call| call.join().expect("no panic in ADD")).collect()
    });
    let mut all = Vec::new();
    for one in added {
        all.extend(one?);
    }
    all.sort();
    all.dedup();
    ensure!(all.len() == 20, "{} different addresses: {all:?}", all.len());
    thread::scope(|scope| {
        let calls: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.del(agent))).collect();
        calls.into_iter().try_for_each(|call| call.join().expect("no panic in DEL"))
    })?;
    expect_no_traces(&lab)
}

fn exhausted(bench: &Bench) -> Result<()> {
    let mut spec = rack(1, Numbering::Shared);
    let node = spec.objects.iter_mut().find(|object| object.kind() == "Node").context("no Node")?;
    // Two hosts, or fewer if some are reserved.
    node.0["spec"]["podCIDRs"] = json!(["10.65.1.0/30", "fd00:65:1::/64"]);
    let mut lab = bench.bare(spec)?;
    lab.start_agents()?;
    let agent = &lab.agents[0];
    let mut attached = Vec::new();
    let refusal = loop {
        let pod = sandbox(&lab, &format!("p{}", attached.len()))?;
        let answer = pod.call(agent, &Call::new("ADD"))?;
        if !answer.success {
            break answer;
        }
        attached.push(pod);
        ensure!(attached.len() <= 4, "more pods than a /30 has addresses");
    };
    ensure!(!attached.is_empty(), "not one address: {}", refusal.json);
    let message = refusal.json["msg"].as_str().unwrap_or_default();
    ensure!(message.contains("10.65.1.0/30"), "the message does not name the range: {message}");
    attached.pop().context("not empty")?.del(agent)?;
    let last = sandbox(&lab, "last")?;
    // What was freed cools down, unless nothing else is left.
    last.add(agent).context("a freed address should serve when no other is left")?;
    Ok(())
}

/// Policy lets `spy` send nothing. Sent and counted from before its interface exists.
fn early(bench: &Bench) -> Result<()> {
    let mut lab = node(bench)?;
    let target = lab.attach(pod("target", "node1"))?;
    let addresses = target.addresses.clone();
    let mut server = Server::start(&target.sandbox.netns, &addresses, &[(Protocol::Udp, 7)])?;
    lab.store.put(&Object(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": "spy" },
        "spec": { "podSelector": { "matchLabels": { "app": "spy" } }, "policyTypes": ["Egress"], "egress": [] },
    })))?;
    lab.store.put(&ingress("unrelated", &json!([])))?;
    let targets: Vec<SocketAddr> =
        addresses.iter().map(|address| SocketAddr::new(*address, 7)).collect();
    for round in 0..5 {
        let mut object = pod(&format!("spy{round}"), "node1");
        object.0["metadata"]["labels"]["app"] = json!("spy");
        lab.store.put(&object)?;
        let spy = lab.sandbox(&object)?;
        let sender = EarlySender::start(&spy.netns, &targets)?;
        spy.add(&lab.agents[0])?;
        thread::sleep(Duration::from_millis(100));
        let report = sender.finish();
        ensure!(report.accepted >= 50, "the pod hardly sent: {report:?}");
        ensure!(server.count() == 0, "round {round}: {} of {report:?} leaked", server.count());
        spy.del(&lab.agents[0])?;
    }
    // The same from a pod without a policy arrives: the silence above means something.
    let object = pod("free", "node1");
    lab.store.put(&object)?;
    let free = lab.sandbox(&object)?;
    let sender = EarlySender::start(&free.netns, &targets)?;
    free.add(&lab.agents[0])?;
    let arrived = until(LONG, "a free pod's packets arrive", || Ok(server.count() > 0));
    sender.finish();
    arrived.map(drop)
}

fn inside(bench: &Bench) -> Result<()> {
    let mut lab = node(bench)?;
    lab.attach(pod("web", "node1"))?;
    let netns = &lab.pods[0].sandbox.netns;
    let routes = netns.run("ip", &["route"])?;
    ensure!(
        routes.contains("default via 169.254.1.1"),
        "no default route by the gateway: {routes}"
    );
    let addresses = netns.run("ip", &["-br", "addr", "show", "eth0"])?;
    ensure!(
        addresses.contains("/32") && addresses.contains("/128"),
        "not /32 and /128: {addresses}"
    );
    let mtu = |netns: &netns::Netns| -> Result<String> {
        let link = netns.run("ip", &["-o", "link", "show", "eth0"])?;
        let words: Vec<&str> = link.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mtu").context("no MTU shown")?;
        Ok(words[at + 1].to_owned())
    };
    let (pod_mtu, node_mtu) = (mtu(netns)?, mtu(lab.agents[0].netns())?);
    ensure!(pod_mtu == node_mtu, "the pod's MTU is {pod_mtu}, the node's {node_mtu}");
    for flow in lab.flows("default/web", "node1", "0/ICMP".parse()?, Outcome::Reached)? {
        let outcome = lab.probe(&[flow])?[0];
        if outcome != Outcome::Reached {
            bail!("the pod's ping of its node {}: {outcome}", flow.flow);
        }
    }
    Ok(())
}
