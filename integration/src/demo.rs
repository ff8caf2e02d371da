//! `cargo lab demo`: a cluster of three nodes behind a GoBGP router, shown at work in under a minute.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};

use crate::agent::Stop;
use crate::binaries::{Binaries, Profile};
use crate::lab::{End, Lab, PodFlow};
use crate::matrix::{Expected, Matrix};
use crate::object::Object;
use crate::probe::{Flow, LONG, Outcome, Protocol, SHORT, Stream, raise_socket_limit};
use crate::progress::{Progress, format_duration};
use crate::router::{Daemon as _, Presence, Restart};
use crate::run::Run;
use crate::spec::Spec;
use crate::wait::until;

/// Whether the lab stays after the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Remove,
    Keep,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remove => "remove",
            Self::Keep => "keep",
        })
    }
}

impl FromStr for After {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Remove, Self::Keep]
            .into_iter()
            .find(|after| after.to_string() == word)
            .with_context(|| format!("{word:?} is neither remove nor keep"))
    }
}

/// The policies that the demo applies, in this order.
const EXAMPLES: [&str; 4] = ["default-deny.yaml", "shop.yaml", "billing.yaml", "monitoring.yaml"];

/// The metrics that are shown; there are more.
const METRICS: [&str; 6] = [
    "felix_active_local_endpoints",
    "felix_active_local_policies",
    "ocicat_nft_elements",
    "ocicat_routes",
    "ocicat_bgp_session_up",
    "ocicat_bgp_session_flaps_total",
];

/// Packets per second of the flow that must not notice a restart.
const RATE: u32 = 1000;

/// Shows everything; the worker's part. Fails if anything was not as expected.
pub(crate) fn show(run: &Run, after: After) -> Result<ExitCode> {
    raise_socket_limit()?;
    let progress = Progress::new();
    let mut demo = Demo { lab: build(&progress, run)?, progress, differences: Vec::new() };
    demo.sessions()?;
    demo.policies()?;
    demo.events()?;
    demo.look_around()?;
    demo.finish(after)
}

struct Demo {
    lab: Lab,
    progress: Progress,
    differences: Vec<String>,
}

fn build(progress: &Progress, run: &Run) -> Result<Lab> {
    progress.heading("A cluster");
    let spec = Spec::named("demo")?;
    let binaries = Binaries::of(Profile::Release);
    let mut lab = progress
        .step("three nodes, a router, a client: namespaces and dual-stack links", || {
            Lab::create(run, spec, &binaries)
        })?;
    let as_number = lab.spec.router.as_number;
    progress.step(&format!("GoBGP is the top-of-rack router, in AS {as_number}"), || {
        let mut config = lab.router_config();
        for neighbor in &mut config.neighbors {
            neighbor.graceful_restart = Some(120);
        }
        lab.start_router(&config)
    })?;
    progress.step("an ocicat agent on each node is ready", || lab.start_agents())?;
    let objects: Vec<Object> = pods(&lab.spec);
    progress.step_with("pods attached by ocicat-cni, one after the other", || {
        let start = Instant::now();
        let count = u32::try_from(objects.len())?;
        for object in objects {
            lab.attach(object)?;
        }
        let each = format_duration(start.elapsed() / count);
        Ok(((), format!("{count} pods, {each} each until enforced")))
    })?;
    let services: Vec<_> = lab.spec.services.iter().map(|s| (s.protocol, s.port)).collect();
    lab.serve(&services)?;
    Ok(lab)
}

fn pods(spec: &Spec) -> Vec<Object> {
    spec.objects.iter().filter(|object| object.kind() == "Pod").cloned().collect()
}

fn examples() -> impl Iterator<Item = PathBuf> {
    let folder = Binaries::workspace().join("manifests/examples");
    EXAMPLES.iter().map(move |name| folder.join(name))
}

impl Demo {
    fn sessions(&mut self) -> Result<()> {
        let router = self.lab.router_daemon()?;
        self.progress.step("BGP sessions are up, IPv4 and IPv6 to each node", || {
            router.wait_established(Duration::from_secs(20))?;
            for cidr in self.lab.pod_cidrs() {
                router.wait_route(&cidr, Presence::There, LONG)?;
            }
            Ok(())
        })?;
        println!("\nSessions, as GoBGP sees them:");
        let mut table = new_table(&["neighbor", "AS", "state", "prefixes received"]);
        let mut sessions = router.sessions()?;
        sessions.sort_by_key(|session| session.address);
        for session in sessions {
            let state = if session.established { "established" } else { "down" };
            table.add_row([
                session.address.to_string(),
                session.as_number.to_string(),
                state.to_owned(),
                session.received.to_string(),
            ]);
        }
        println!("{table}\n\nWhat GoBGP learned:");
        let mut table = new_table(&["prefix", "next hop", "AS path"]);
        for (prefix, routes) in router.learned()? {
            for route in routes {
                let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
                table.add_row([prefix.to_string(), route.next_hop.to_string(), path.join(" ")]);
            }
        }
        println!("{table}\n\nWhat node1 says (ocicat bgp peers):");
        println!("{}", self.lab.agents[0].ask(&["bgp", "peers"])?.trim_end());
        Ok(())
    }

    fn policies(&mut self) -> Result<()> {
        self.progress.heading("Who reaches whom");
        self.matrix("no policy yet: everyone reaches everyone", &Expected::everything())?;
        let blocked = self.flow(End::Client, "shop/db", 5432)?;
        let closed = self.flow(End::Pod(self.lab.pod("billing/worker")?), "shop/web", 80)?;
        let lab = &mut self.lab;
        self.progress.step("cp manifests/examples/*.yaml into the datastore: enforced", || {
            examples().try_for_each(|file| lab.store.copy(&file))?;
            wait_outcome(lab, &blocked, Outcome::Dropped)?;
            wait_outcome(lab, &closed, Outcome::Dropped)
        })?;
        let expected = self.lab.spec.expected.clone();
        self.matrix("with the policies", &expected)
    }

    fn matrix(&mut self, what: &str, expected: &Expected) -> Result<()> {
        let lab = &mut self.lab;
        let matrix = self.progress.step_with(what, || {
            let matrix = Matrix::probe(lab, expected)?;
            let (tried, reached) = matrix.counts();
            let wrong = matrix.differences().len();
            let remark = format!("{tried} flows, {reached} got through, {wrong} not as expected");
            Ok((matrix, remark))
        })?;
        println!("{}", matrix.table(&self.lab.spec.services));
        self.differences.extend(matrix.differences());
        Ok(())
    }

    fn events(&mut self) -> Result<()> {
        self.progress.heading("Changes, and how long they take");
        self.policy_removed()?;
        self.session_down()?;
        self.agent_killed()?;
        self.router_killed()?;
        self.pod_deleted()
    }

    fn policy_removed(&mut self) -> Result<()> {
        let flow = self.flow(End::Pod(self.lab.pod("shop/web")?), "shop/api", 8080)?;
        let file = examples().nth(1).context("the list of examples is not empty")?;
        let lab = &mut self.lab;
        self.progress.step("rm shop.yaml: web no longer reaches api", || {
            lab.store.remove_file(&file)?;
            wait_outcome(lab, &flow, Outcome::Dropped)
        })?;
        self.progress.step("cp shop.yaml back: it does again", || {
            lab.store.copy(&file)?;
            wait_outcome(lab, &flow, Outcome::Reached)
        })
    }

    fn session_down(&mut self) -> Result<()> {
        let node = self.lab.spec.nodes[1].clone();
        let router = self.lab.router_daemon()?;
        let prefix = &node.pod_cidrs[0];
        let peer = self.lab.spec.objects.iter().find(|object| object.name() == "tor-r2");
        let peer = peer.context("the lab has no BGPPeer tor-r2")?;
        let store = &self.lab.store;
        self.progress.step(
            "rm BGPPeer tor-r2: node2's IPv4 session ends, its route is gone",
            || {
                store.remove(peer)?;
                router.wait_route(prefix, Presence::Gone, LONG).map(drop)
            },
        )?;
        self.progress.step("... and put it back: the route is back", || {
            store.put(peer)?;
            router.wait_route(prefix, Presence::There, Duration::from_secs(30)).map(drop)
        })?;
        let flow = self.flow(End::Client, "shop/api", 0)?;
        let flow = PodFlow { flow: Flow { protocol: Protocol::Icmp, ..flow.flow }, ..flow };
        // Ping is not among what the policies allow: that the packet meets policy, and no
        // "unreachable", shows that the path to the node is whole again.
        wait_outcome(&mut self.lab, &flow, Outcome::Dropped)
    }

    fn agent_killed(&mut self) -> Result<()> {
        let streams = self.streams()?;
        let agent = &mut self.lab.agents[0];
        let what = format!("kill -9 node1's agent and start it again, under 2 x {RATE} packets/s");
        let lost = self.progress.step_with(&what, || {
            std::thread::sleep(Duration::from_millis(300));
            agent.stop(Stop::Kill)?;
            std::thread::sleep(Duration::from_secs(1));
            let ready = agent.start()?;
            std::thread::sleep(Duration::from_secs(1));
            let (lost, remark) = finish(streams)?;
            Ok((lost, format!("ready after {}; {remark}", format_duration(ready))))
        })?;
        if lost > 0 {
            self.differences.push(format!("the restart of the agent lost {lost} packets"));
        }
        let router = self.lab.router_daemon()?;
        self.progress.step("its sessions are back", || {
            router.wait_established(Duration::from_secs(30)).map(drop)
        })
    }

    fn router_killed(&mut self) -> Result<()> {
        let streams = self.streams()?;
        let lab = &mut self.lab;
        let lost = self.progress.step_with(
            "kill -9 GoBGP and start it again (graceful restart)",
            || {
                lab.router_daemon_mut()?.kill()?;
                std::thread::sleep(Duration::from_millis(500));
                lab.router_daemon_mut()?.restart(Restart::Graceful)?;
                lab.announce_connected()?;
                lab.router_daemon()?.wait_established(Duration::from_secs(30))?;
                std::thread::sleep(Duration::from_millis(500));
                finish(streams)
            },
        )?;
        if lost > 0 {
            self.differences.push(format!("the restart of the router lost {lost} packets"));
        }
        Ok(())
    }

    /// A steady flow in each family from the client to shop/web.
    fn streams(&self) -> Result<Vec<Stream>> {
        let web = &self.lab.pods[self.lab.pod("monitoring/prometheus")?];
        let targets = web.addresses.iter().map(|address| SocketAddr::new(*address, 53));
        targets.map(|target| Stream::start(&self.lab.client, target, RATE)).collect()
    }

    fn pod_deleted(&mut self) -> Result<()> {
        let flow = self.flow(End::Client, "shop/web", 80)?;
        let index = self.lab.pod("shop/web")?;
        let lab = &mut self.lab;
        self.progress.step_with("delete pod shop/web: its address answers no more", || {
            // Sources are named by position: the client is the only one this step needs.
            lab.detach(index)?;
            let outcome = lab.probe(&[PodFlow { patience: SHORT, ..flow }])?[0];
            let reached = matches!(outcome, Outcome::Reached | Outcome::OneWay);
            anyhow::ensure!(!reached, "the address of a deleted pod: {outcome}");
            Ok(((), outcome.to_string()))
        })
    }

    fn look_around(&mut self) -> Result<()> {
        self.progress.heading("What one can ask");
        let agent = &self.lab.agents[0];
        let question = "billing/api -> shop/db:5432";
        println!("$ ocicat explain {question:?}");
        println!("{}\n", self.lab.agents[2].ask(&["explain", question])?.trim_end());
        println!("$ curl -s localhost:9909/metrics   # on node1, some of it");
        for name in METRICS {
            agent.metrics(name)?.iter().for_each(|line| println!("{line}"));
        }
        let memory = agent.memory()?;
        println!("\nnode1's agent holds {:.1} MiB of memory.", precise(memory) / 1024.0);
        Ok(())
    }

    fn finish(self, after: After) -> Result<ExitCode> {
        self.progress.heading("Result");
        for difference in &self.differences {
            println!("not as expected: {difference}");
        }
        let count = self.differences.len();
        let took = format_duration(self.progress.elapsed());
        println!("{took} in all, {count} things not as expected.");
        if after == After::Keep {
            let id = self.lab.run.id().to_owned();
            let directory = self.lab.directory();
            self.lab.keep()?;
            println!(
                "\nThe lab {id} stays. Look around:\n  cargo lab shell node1          then: ip route; nft list table inet ocicat\n  \
                 cargo lab probe client shop/api:8080\n  ls {}\n  cargo lab down                 removes it",
                directory.display()
            );
        }
        Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// A TCP flow to a pod's first address.
    fn flow(&self, from: End, to: &str, port: u16) -> Result<PodFlow> {
        let address = self.lab.pods[self.lab.pod(to)?].addresses[0];
        let flow = Flow { to: SocketAddr::new(address, port), protocol: Protocol::Tcp };
        Ok(PodFlow { from, flow, patience: SHORT })
    }
}

fn precise(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX))
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Ends streams; gives the packets they lost, and that in words.
fn finish(streams: Vec<Stream>) -> Result<(u32, String)> {
    let (mut sent, mut lost, mut silence) = (0, 0, Duration::ZERO);
    for stream in streams {
        let report = stream.finish()?;
        sent += report.sent;
        lost += report.lost();
        silence = silence.max(report.longest_silence);
    }
    let silence = format_duration(silence);
    Ok((lost, format!("{lost} of {sent} packets lost, longest silence {silence}")))
}

/// Probes one flow again and again until it ends as wanted.
fn wait_outcome(lab: &mut Lab, flow: &PodFlow, wanted: Outcome) -> Result<()> {
    let quick = PodFlow { patience: Duration::from_millis(100), ..*flow };
    let mut last = None;
    until(Duration::from_secs(10), &format!("{} is {wanted}", flow.flow), || {
        last = lab.probe(&[quick])?.first().copied();
        Ok(last == Some(wanted))
    })
    .with_context(|| format!("last: {last:?}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use ocicat_policy::{Flow, Party, PodKey, Traffic, Transport, Verdict, World, decide, k8s};
    use serde_json::json;

    use super::*;
    use crate::matrix::Service;

    fn world(spec: &Spec) -> World {
        let mut objects = spec.objects.clone();
        for file in examples() {
            objects.extend(Object::parse_all(&fs::read_to_string(file).unwrap()).unwrap());
        }
        let mut world = World::default();
        let mut next = Ipv4Addr::new(10, 65, 0, 1);
        for mut object in objects {
            match object.kind() {
                "Namespace" => {
                    let one = k8s::namespace(&serde_json::from_value(object.0).unwrap()).unwrap();
                    world.namespaces.insert(one.name.clone(), one);
                }
                "Pod" => {
                    object.0["status"] = json!({ "podIPs": [{ "ip": next }] });
                    next = Ipv4Addr::from_bits(next.to_bits() + 1);
                    let one = k8s::pod(&serde_json::from_value(object.0).unwrap()).unwrap();
                    world.pods.insert(one.key.clone(), one);
                }
                "NetworkPolicy" => {
                    let one = k8s::policy(&serde_json::from_value(object.0).unwrap()).unwrap();
                    world.policies.insert(one.key.clone(), one);
                }
                _ => {}
            }
        }
        world
    }

    #[test]
    fn the_hand_written_expectations_agree_with_the_policy_crate() {
        let spec = Spec::named("demo").unwrap();
        let world = world(&spec);
        let client = Party { address: spec.client.ipv4.addr().into(), pod: None };
        let party = |key: &PodKey| Party {
            address: world.pods[key].addresses.first().copied().unwrap(),
            pod: Some(key.clone()),
        };
        let mut sources: Vec<(String, Party)> =
            world.pods.keys().map(|key| (key.to_string(), party(key))).collect();
        let targets = sources.clone();
        sources.push(("client".to_owned(), client));
        let mut wrong = Vec::new();
        for (from, source) in &sources {
            for (to, destination) in targets.iter().filter(|(to, _)| to != from) {
                for Service { port, protocol } in &spec.services {
                    let transport =
                        if *protocol == Protocol::Tcp { Transport::Tcp } else { Transport::Udp };
                    let traffic = Traffic::Port(transport, *port);
                    let flow =
                        Flow { source: source.clone(), destination: destination.clone(), traffic };
                    let service = Service { port: *port, protocol: *protocol };
                    let accepted = decide(&world, &flow).verdict() == Verdict::Accept;
                    if accepted != spec.expected.allows(from, to, service) {
                        wrong.push(format!(
                            "{from} -> {to} {service}: the policy crate says {accepted}"
                        ));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(world.pods.len() * world.policies.len(), 9 * 11, "the demo lost objects");
    }
}
