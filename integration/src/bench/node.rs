//! What a pod and a policy cost, on real namespaces.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{print, timed};
use crate::lab::Lab;
use crate::object::{self, Object};
use crate::probe::{Protocol, round_trips};
use crate::progress::format_duration;

fn pod(index: usize) -> Object {
    object::pod("default", &format!("p{index}"), "node1", &json!({ "app": format!("p{index}") }))
}

pub(super) fn cni(lab: &Lab) -> Result<()> {
    const PODS: usize = 100;
    let agent = &lab.agents[0];
    let mut sandboxes = Vec::new();
    for index in 0..PODS {
        lab.store.put(&pod(index))?;
        sandboxes.push(lab.sandbox(&pod(index))?);
    }
    thread::sleep(Duration::from_secs(1));
    let adds = sandboxes.iter().map(|pod| timed(|| pod.add(agent)).map(|(_, took)| took));
    print("ADD, one after the other (until policy is enforced)", adds.collect::<Result<_>>()?);
    let dels = sandboxes.iter().map(|pod| timed(|| pod.del(agent)).map(|(_, took)| took));
    print("DEL, one after the other", dels.collect::<Result<_>>()?);
    let (_, took) = timed(|| {
        thread::scope(|scope| {
            let adds: Vec<_> = sandboxes.iter().map(|pod| scope.spawn(|| pod.add(agent))).collect();
            adds.into_iter().try_for_each(|add| add.join().expect("no panic in ADD").map(drop))
        })
    })?;
    println!("{PODS} ADDs at once: {}", format_duration(took));
    println!("memory of the agent with {PODS} pods: {} KiB", agent.memory()?);
    Ok(())
}

/// A policy that lets 10 addresses of its own into p0, among others.
fn crowd(index: usize) -> Object {
    let (high, low) = (index / 250, index % 250);
    let blocks: Vec<_> = (0..10)
        .map(
            |block| json!({ "ipBlock": { "cidr": format!("172.{}.{high}.{low}/32", 16 + block) } }),
        )
        .collect();
    Object(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": format!("crowd-{index}") },
        "spec": {
            "podSelector": { "matchLabels": { "app": "p0" } },
            "policyTypes": ["Ingress"],
            "ingress": [{ "from": blocks }],
        },
    }))
}

pub(super) fn policy(lab: &mut Lab) -> Result<()> {
    lab.attach(pod(0))?;
    lab.attach(pod(1))?;
    lab.serve(&[(Protocol::Udp, 7), (Protocol::Tcp, 80)])?;
    let from_p1 = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "p1" } } }] }]);
    let gate = |ingress: &serde_json::Value| {
        Object(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "namespace": "default", "name": "gate" },
            "spec": { "podSelector": { "matchLabels": { "app": "p0" } }, "policyTypes": ["Ingress"], "ingress": ingress },
        }))
    };
    let (open, shut) = (gate(&from_p1), gate(&json!([])));
    let target = SocketAddr::new(lab.pods[0].addresses[0], 7);
    let mut present = 0;
    for count in [0, 10, 100, 1000] {
        let text: Vec<String> =
            (present..count).map(|index| crowd(index).to_yaml()).collect::<Result<_>>()?;
        lab.store.put(&open)?;
        if !text.is_empty() {
            lab.store.put_text(&format!("crowd-{count}.yaml"), &text.join("\n---\n"))?;
        }
        present = count;
        thread::sleep(Duration::from_secs(2));
        let sender = &lab.pods[1].sandbox.netns;
        print(
            &format!("round trip of a flow's first packet, {count} policies"),
            round_trips(sender, target, 500)?,
        );
        let (mut opens, mut shuts) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            lab.store.put(&shut)?;
            shuts.push(until_answer(lab, target, Answer::No)?);
            lab.store.put(&open)?;
            opens.push(until_answer(lab, target, Answer::Yes)?);
        }
        print(&format!("a policy's file to its effect (shut), {count} policies"), shuts);
        print(&format!("a policy's file to its effect (open), {count} policies"), opens);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// How long until a new flow is answered, or is not. Each try is a flow of its own.
fn until_answer(lab: &Lab, target: SocketAddr, wanted: Answer) -> Result<Duration> {
    let sender = &lab.pods[1].sandbox.netns;
    let start = Instant::now();
    loop {
        let sent = start.elapsed();
        let answered = round_trips(sender, target, 1).is_ok();
        if answered == (wanted == Answer::Yes) {
            // A silent try takes its timeout; what counts is when it was sent.
            return Ok(if answered { start.elapsed() } else { sent });
        }
        ensure!(start.elapsed() < Duration::from_secs(10), "the policy has no effect");
    }
}
