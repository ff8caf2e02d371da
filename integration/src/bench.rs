//! `cargo lab bench`: what a pod, a policy and a route cost, on real namespaces.
//!
//! Numbers are printed with the count they come from; who compares them runs both sides on one
//! machine.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::binaries::{Binaries, Profile};
use crate::lab::Lab;
use crate::object::{self, Object};
use crate::probe::{Protocol, raise_socket_limit, round_trips};
use crate::progress::{Progress, format_duration};
use crate::router::bird::{self, Bird, Uplink};
use crate::router::{Announcement, Config, Daemon as _, Neighbor};
use crate::run::Run;
use crate::spec::{Numbering, rack};
use crate::wait::until;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// ADD and DEL of pods, one after the other and at once.
    Cni,
    /// Packets and changes under a growing number of policies.
    Policy,
    /// Routes from the router to the node's kernel.
    Bgp,
}

impl Subject {
    /// The word for it on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cni => "cni",
            Self::Policy => "policy",
            Self::Bgp => "bgp",
        }
    }
}

/// Measures in the worker process.
pub(crate) fn run(run: &Run, subject: Subject) -> Result<()> {
    raise_socket_limit()?;
    let progress = Progress::new();
    let binaries = Binaries::of(Profile::Release);
    let mut lab = Lab::create(run, rack(1, Numbering::PerRack), &binaries)?;
    progress.step("one node and a router", || lab.start())?;
    match subject {
        Subject::Cni => cni(&lab),
        Subject::Policy => policy(&mut lab),
        Subject::Bgp => {
            bgp(&lab)?;
            bulk(&mut lab)
        }
    }
}

/// Prints the spread of some times.
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| format_duration(times[(times.len() - 1) * percent / 100]);
    println!(
        "{what:<52} p50 {:>8}  p99 {:>8}  max {:>8}  n {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

fn pod(index: usize) -> Object {
    object::pod("default", &format!("p{index}"), "node1", &json!({ "app": format!("p{index}") }))
}

fn cni(lab: &Lab) -> Result<()> {
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

fn policy(lab: &mut Lab) -> Result<()> {
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

fn bgp(lab: &Lab) -> Result<()> {
    let router = lab.router_daemon()?;
    let node = lab.agents[0].netns();
    let mut times = Vec::new();
    for index in 0..20 {
        let prefix = format!("198.51.{index}.0/24");
        router.add(&prefix, None)?;
        // From the moment that GoBGP has it: starting its client is not what is measured.
        let (_, took) = timed(|| {
            until(Duration::from_secs(5), "the route is in the kernel", || {
                Ok(!node.run("ip", &["route", "show", &prefix])?.trim().is_empty())
            })
        })?;
        times.push(took);
    }
    print("a route from GoBGP to the node's kernel", times);
    Ok(())
}

/// Many routes at once, from BIRD in the place of GoBGP.
fn bulk(lab: &mut Lab) -> Result<()> {
    let node = lab.spec.nodes[0].clone();
    for count in [1_000, 10_000, 100_000] {
        lab.router_daemon_mut()?.kill()?;
        let directory = lab.directory().join("bird");
        let local = node.gateway_ipv4();
        let neighbor = Neighbor::new(local.into(), node.ipv4.into(), node.as_number);
        let as_number = lab.spec.router.as_number;
        let config = Config { as_number, router_id: local, neighbors: vec![neighbor] };
        let mut bird = Bird::start(&lab.router, &directory, &config)?;
        let routes: Vec<_> = (0..count).map(bird::prefix).map(Announcement::plain).collect();
        bird.announce(&routes)?;
        let kernel = lab.agents[0].netns();
        let has = |prefix: &str| -> Result<bool> {
            Ok(!kernel.run("ip", &["route", "show", prefix])?.trim().is_empty())
        };
        let limit = Duration::from_secs(120);
        // Counting all is slow: only when the first and the last are as they should be.
        let all = |wanted: bool| {
            until(limit, "the table is as BIRD has it", || {
                let (first, last) =
                    (bird::prefix(0).to_string(), bird::prefix(count - 1).to_string());
                if has(&first)? != wanted || has(&last)? != wanted {
                    return Ok(false);
                }
                let table = kernel.run("ip", &["route", "show", "proto", "179"])?;
                let many: u32 =
                    table.lines().map(|line| u32::from(line.contains("metric 20"))).sum();
                Ok(if wanted { many >= count } else { many < 100 })
            })
        };
        all(true)?;
        bird.set_uplink(Uplink::Lost)?;
        let gone = all(false)?;
        // With the session up: what is measured is the way of the routes.
        let (_, there) = timed(|| bird.set_uplink(Uplink::Up).and_then(|()| all(true)))?;
        let memory = lab.agents[0].memory()?;
        println!(
            "{count} routes from BIRD: all in the kernel {} after the command, all out {} after it; the agent holds {memory} KiB",
            format_duration(there),
            format_duration(gone)
        );
    }
    Ok(())
}
