//! The cases of the policy crate, played with real packets: `policy/tests/cases/README.md` says what
//! they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ocicat_policy::case::{Case, Expected, Family, Probe, Station};
use ocicat_policy::{Traffic, Transport};
use serde_json::Value;

use super::{Bench, Test};
use crate::binaries::Binaries;
use crate::lab::Lab;
use crate::netns;
use crate::object::Object;
use crate::probe::{Attempt, Flow, LONG, Outcome, Protocol, SHORT, Server, send};
use crate::runtime::Sandbox;
use crate::spec::{Numbering, rack};

pub(super) const TESTS: &[Test] =
    &[Test::new("policy: every case of the policy crate holds for real packets", every_case)
        .limit(1200)];

fn every_case(bench: &Bench) -> Result<()> {
    let mut lab = bench.started(rack(2, Numbering::PerRack))?;
    // Cases bring the namespaces that they speak of.
    lab.spec.objects.clear();
    let mut wrong = Vec::new();
    let files = files()?;
    ensure!(files.len() >= 80, "only {} cases were found", files.len());
    let mut flows = 0;
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut player = Player::new(&lab);
        let played = player.play(file);
        flows += player.flows;
        let cleaned = player.clear();
        match played.and_then(|found| cleaned.map(|()| found)) {
            Ok(found) => wrong.extend(found.into_iter().map(|line| format!("{name}: {line}"))),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!("{} wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    println!("     {} cases, {flows} flows", files.len());
    Ok(())
}

/// The case files.
fn files() -> Result<Vec<PathBuf>> {
    let folder = Binaries::workspace().join("policy/tests/cases");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Plays one case in a lab that is up.
struct Player<'a> {
    lab: &'a Lab,
    client: Option<Server>,
    pods: BTreeMap<String, Playing>,
    objects: Vec<Object>,
    flows: usize,
    attached: u32,
}

/// A pod of a case that has a namespace; others are objects only.
struct Playing {
    sandbox: Sandbox,
    node: usize,
    addresses: Vec<IpAddr>,
    server: Server,
}

/// One step: an expectation, and the objects that come before it holds.
struct Step {
    case: Case,
    objects: Vec<Object>,
}

fn steps(file: &Path) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for object in Object::parse_all(&fs::read_to_string(file)?)? {
        if object.kind() == "Case" {
            steps.push(Step { case: serde_json::from_value(object.0)?, objects: Vec::new() });
        } else {
            steps.last_mut().context("a file begins with a Case")?.objects.push(object);
        }
    }
    Ok(steps)
}

impl<'a> Player<'a> {
    fn new(lab: &'a Lab) -> Self {
        let (client, pods, objects) = (None, BTreeMap::new(), Vec::new());
        Self { lab, client, pods, objects, flows: 0, attached: 0 }
    }

    /// Plays all steps; gives the lines of what was not as expected.
    fn play(&mut self, file: &Path) -> Result<Vec<String>> {
        let steps = steps(file)?;
        let mut probes = Vec::new();
        for step in &steps {
            probes.push(step.case.probes()?);
        }
        let ports: BTreeSet<(Protocol, u16)> =
            probes.iter().flatten().filter_map(|probe| port(probe.traffic)).collect();
        let ports: Vec<(Protocol, u16)> = ports.into_iter().collect();
        self.client = Some(Server::start(&self.lab.client, &Station::CLIENT, &ports)?);
        let mut wrong = Vec::new();
        for (step, probes) in steps.into_iter().zip(probes) {
            for name in &step.case.remove {
                self.remove(name)?;
            }
            // Policies first: a pod is attached into the world as it is described.
            let (pods, others): (Vec<_>, Vec<_>) =
                step.objects.into_iter().partition(|object| object.kind() == "Pod");
            others.into_iter().try_for_each(|object| self.put(object))?;
            pods.into_iter().try_for_each(|object| self.put_pod(object, &ports))?;
            let found = self.judge(&probes)?;
            wrong.extend(found.into_iter().map(|line| format!("{} {line}", step.case.description)));
        }
        Ok(wrong)
    }

    fn put(&mut self, object: Object) -> Result<()> {
        self.lab.store.put(&object)?;
        self.objects.push(object);
        Ok(())
    }

    fn put_pod(&mut self, object: Object, ports: &[(Protocol, u16)]) -> Result<()> {
        let name = format!("{}/{}", object.namespace(), object.name());
        let addresses = addresses(&object);
        let taken = |playing: &Playing| playing.addresses.iter().any(|one| addresses.contains(one));
        let ended = ["Failed", "Succeeded"].contains(&object.text("/status/phase"));
        let on_host = object.0.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let playing = self.pods.get(&name).is_some_and(|playing| playing.addresses == addresses);
        if playing || ended || on_host || self.pods.values().any(taken) {
            return self.put(object);
        }
        if self.pods.contains_key(&name) {
            self.detach(&name)?;
        }
        let node = self.lab.node(object.text("/spec/nodeName"))?;
        let mut blank = object.clone();
        if let Some(fields) = blank.0.as_object_mut() {
            fields.remove("status");
        }
        self.lab.store.put(&blank)?;
        self.attached += 1;
        let netns = self.lab.run.netns(&format!("case-{}-{}", self.attached, object.name()));
        let mut sandbox = Sandbox::create(&netns, object.namespace(), object.name())?;
        sandbox.fixed.clone_from(&addresses);
        sandbox.add(&self.lab.agents[node]).with_context(|| format!("ADD of {name}"))?;
        let server = Server::start(&sandbox.netns, &addresses, ports)?;
        self.pods.insert(name, Playing { sandbox, node, addresses, server });
        self.put(object)
    }

    /// Removes an object by `Kind namespace/name` or `Kind name`.
    fn remove(&mut self, what: &str) -> Result<()> {
        let (kind, name) = what.split_once(' ').with_context(|| what.to_owned())?;
        let (namespace, bare) = name.split_once('/').unwrap_or(("", name));
        let is_it = |object: &Object| {
            object.kind() == kind && object.namespace() == namespace && object.name() == bare
        };
        let object =
            self.objects.iter().find(|object| is_it(object)).with_context(|| what.to_owned())?;
        self.lab.store.remove(object)?;
        self.objects.retain(|object| !is_it(object));
        if kind == "Pod" && self.pods.contains_key(name) {
            self.detach(name)?;
        }
        Ok(())
    }

    fn detach(&mut self, name: &str) -> Result<()> {
        let playing = self.pods.remove(name).with_context(|| format!("no pod {name}"))?;
        playing.sandbox.del(&self.lab.agents[playing.node])?;
        drop(playing.server);
        netns::remove(playing.sandbox.netns.name())
    }

    /// Probes until all is as expected, or it has had its time.
    fn judge(&mut self, probes: &[Probe]) -> Result<Vec<String>> {
        // An object's file takes effect a moment after it is written.
        thread::sleep(Duration::from_millis(100));
        let mut open: Vec<&Probe> = probes.iter().collect();
        for patience in [SHORT, SHORT, LONG, LONG] {
            let outcomes = self.probe(&open, patience)?;
            let wrong: Vec<(&Probe, Outcome)> = open
                .iter()
                .zip(outcomes)
                .filter_map(|(probe, outcome)| Some((*probe, outcome?)))
                .filter(|(probe, outcome)| *outcome != wanted(probe))
                .collect();
            if wrong.is_empty() {
                // What was right before something else settled must be right still.
                if open.len() == probes.len() {
                    return Ok(Vec::new());
                }
                open = probes.iter().collect();
                continue;
            }
            if patience == LONG {
                let line = |(probe, outcome): &(&Probe, Outcome)| format!("{probe}: {outcome}");
                return Ok(wrong.iter().map(line).collect());
            }
            open = wrong.into_iter().map(|(probe, _)| probe).collect();
        }
        Ok(Vec::new())
    }

    /// The outcome of each probe; nothing where a side has no address of the family.
    fn probe(&mut self, probes: &[&Probe], patience: Duration) -> Result<Vec<Option<Outcome>>> {
        let targets: Vec<Option<IpAddr>> = probes.iter().map(|probe| self.target(probe)).collect();
        let mut namespaces = BTreeMap::new();
        let mut servers = Vec::new();
        for (name, Playing { sandbox, server, .. }) in &mut self.pods {
            namespaces.insert(name.as_str(), &sandbox.netns);
            servers.push(server);
        }
        servers.extend(&mut self.client);
        let mut attempts = Vec::new();
        for (probe, target) in probes.iter().zip(&targets) {
            let Some(target) = *target else { continue };
            let from = match &probe.source {
                Station::Client => &self.lab.client,
                Station::Pod(key) => namespaces[key.to_string().as_str()],
            };
            let (protocol, port) = port(probe.traffic).unwrap_or((Protocol::Icmp, 0));
            let flow = Flow { to: SocketAddr::new(target, port), protocol };
            let patience = if probe.expected == Expected::Arrives { patience } else { SHORT };
            attempts.push(Attempt { from, flow, patience });
        }
        self.flows += attempts.len();
        let mut outcomes = send(&attempts, &mut servers)?.into_iter();
        Ok(targets.into_iter().map(|target| target.and_then(|_| outcomes.next())).collect())
    }

    /// Where a probe goes, if both sides have an address of its family.
    fn target(&self, probe: &Probe) -> Option<IpAddr> {
        self.address(&probe.source, probe.family)?;
        self.address(&probe.destination, probe.family)
    }

    fn address(&self, station: &Station, family: Family) -> Option<IpAddr> {
        let addresses = match station {
            Station::Client => &Station::CLIENT[..],
            Station::Pod(key) => &self.pods.get(&key.to_string())?.addresses,
        };
        addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// Takes everything away that the case brought.
    fn clear(&mut self) -> Result<()> {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        names.iter().try_for_each(|name| self.detach(name))?;
        let mut names = BTreeSet::new();
        for object in std::mem::take(&mut self.objects) {
            if names.insert(format!("{} {}/{}", object.kind(), object.namespace(), object.name())) {
                self.lab.store.remove(&object)?;
            }
        }
        Ok(())
    }
}

fn wanted(probe: &Probe) -> Outcome {
    match probe.expected {
        Expected::Arrives => Outcome::Reached,
        Expected::Dropped => Outcome::Dropped,
    }
}

fn port(traffic: Traffic) -> Option<(Protocol, u16)> {
    match traffic {
        Traffic::Port(Transport::Tcp, port) => Some((Protocol::Tcp, port)),
        Traffic::Port(Transport::Udp, port) => Some((Protocol::Udp, port)),
        Traffic::Port(Transport::Sctp, port) => Some((Protocol::Sctp, port)),
        Traffic::Other => None,
    }
}

/// The addresses that a pod of a case has: from its status, or the annotation before there is one.
fn addresses(pod: &Object) -> Vec<IpAddr> {
    let list = pod.0.pointer("/status/podIPs").and_then(Value::as_array);
    let mut texts: Vec<&str> =
        list.into_iter().flatten().filter_map(|item| item["ip"].as_str()).collect();
    if texts.is_empty() {
        texts.push(pod.text("/status/podIP"));
    }
    let annotation = pod.text("/metadata/annotations/cni.projectcalico.org~1podIPs");
    texts.extend(annotation.split(',').filter_map(|part| part.split('/').next()));
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}
