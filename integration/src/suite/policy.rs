//! The cases of the policy crate, played with real packets: `policy/tests/cases/README.md` says what
//! they hold.
//!
//! A case fixes its pods' addresses, and in a lab the plugin chooses them. So pods are attached first,
//! and wherever the case names one of their addresses, the real one is put in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ocicat_policy::case::{Case, Expected, Family, Probe, Station};
use ocicat_policy::{Traffic, Transport};
use serde_json::{Value, json};

use super::{Bench, Test, expect_soon, ingress, pod};
use crate::binaries::Binaries;
use crate::lab::Lab;
use crate::netns;
use crate::object::Object;
use crate::probe::{Attempt, Flow, LONG, Outcome, Protocol, SHORT, Server, send};
use crate::runtime::Sandbox;
use crate::spec::{Numbering, rack};

pub(super) const TESTS: &[Test] = &[
    Test::new("policy: every case of the policy crate holds for real packets", every_case)
        .limit(1200),
    Test::new("policy: an address does not keep the rights of the pod that had it before", reuse),
];

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
        if name == NEIGHBOURS {
            continue;
        }
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
    println!("     {} cases, {flows} flows", files.len() - 1);
    Ok(())
}

/// A case whose block holds an address and its neighbour: which addresses are neighbours is the
/// plugin's choice.
const NEIGHBOURS: &str = "blocks-overlap";

/// What a case brings has taken effect by then, also on a machine that builds something beside.
const SETTLE: Duration = Duration::from_secs(8);

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
    /// The real address in the place of each that the case names.
    real: BTreeMap<IpAddr, IpAddr>,
    flows: usize,
    attached: u32,
}

/// A pod of a case that has a namespace; others are objects only.
struct Playing {
    sandbox: Sandbox,
    node: usize,
    /// As the case has them.
    wanted: Vec<IpAddr>,
    /// As the plugin gave them.
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
        let (pods, real) = (BTreeMap::new(), BTreeMap::new());
        Self { lab, client: None, pods, objects: Vec::new(), real, flows: 0, attached: 0 }
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
            for pod in step.objects.iter().filter(|object| object.kind() == "Pod") {
                self.attach(pod, &ports)?;
            }
            step.objects.into_iter().try_for_each(|object| self.put(object))?;
            let found = self.judge(&probes)?;
            wrong.extend(found.into_iter().map(|line| format!("{} {line}", step.case.description)));
        }
        Ok(wrong)
    }

    fn put(&mut self, mut object: Object) -> Result<()> {
        readdress(&mut object.0, &self.real);
        self.lab.store.put(&object)?;
        self.objects.push(object);
        Ok(())
    }

    /// Gives a pod its network, unless it has it, or needs none: it has ended, is on its node's
    /// network, or claims what is another's.
    fn attach(&mut self, object: &Object, ports: &[(Protocol, u16)]) -> Result<()> {
        let name = format!("{}/{}", object.namespace(), object.name());
        let wanted = addresses(object);
        let taken = |playing: &Playing| playing.wanted.iter().any(|one| wanted.contains(one));
        let ended = ["Failed", "Succeeded"].contains(&object.text("/status/phase"));
        let on_host = object.0.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let playing = self.pods.get(&name).is_some_and(|playing| playing.wanted == wanted);
        if playing || ended || on_host || self.pods.values().any(taken) {
            return Ok(());
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
        let sandbox = Sandbox::create(&netns, object.namespace(), object.name())?;
        let given =
            sandbox.add(&self.lab.agents[node]).with_context(|| format!("ADD of {name}"))?;
        let mut addresses = Vec::new();
        for one in &wanted {
            let real = given.iter().find(|real| real.is_ipv4() == one.is_ipv4());
            let real = *real.with_context(|| format!("{name} got only {given:?}"))?;
            self.real.insert(*one, real);
            addresses.push(real);
        }
        let server = Server::start(&sandbox.netns, &addresses, ports)?;
        self.pods.insert(name, Playing { sandbox, node, wanted, addresses, server });
        Ok(())
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
        let start = Instant::now();
        loop {
            let patience = if start.elapsed() < SETTLE / 4 { SHORT } else { LONG };
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
            if start.elapsed() > SETTLE {
                let line = |(probe, outcome): &(&Probe, Outcome)| format!("{probe}: {outcome}");
                return Ok(wrong.iter().map(line).collect());
            }
            open = wrong.into_iter().map(|(probe, _)| probe).collect();
            thread::sleep(Duration::from_millis(50));
        }
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

/// Replaces addresses in all strings: alone, before a prefix length, and in lists between commas.
fn readdress(value: &mut Value, real: &BTreeMap<IpAddr, IpAddr>) {
    match value {
        Value::String(text) => {
            let parts = text.split(',').map(|part| {
                let (address, length) = part.split_at(part.find('/').unwrap_or(part.len()));
                let known = address.parse().ok().and_then(|address| real.get(&address));
                known.map_or_else(|| part.to_owned(), |known| format!("{known}{length}"))
            });
            *text = parts.collect::<Vec<_>>().join(",");
        }
        Value::Array(items) => items.iter_mut().for_each(|item| readdress(item, real)),
        Value::Object(fields) => fields.values_mut().for_each(|field| readdress(field, real)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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

/// The one address of a node goes from a pod with rights to a pod without.
fn reuse(bench: &Bench) -> Result<()> {
    let mut spec = rack(2, Numbering::PerRack);
    let node = spec.objects.iter_mut().find(|object| object.kind() == "Node").context("no Node")?;
    node.0["spec"]["podCIDRs"] = json!(["10.65.1.0/30", "fd00:65:1::/126"]);
    let mut lab = bench.started(spec)?;
    let from_friend =
        json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "friend" } } }] }]);
    lab.store.put(&ingress("web", &from_friend))?;
    lab.attach(pod("web", "node2"))?;
    let first = lab.attach(pod("friend", "node1"))?.addresses.clone();
    lab.serve(&[(Protocol::Tcp, 80)])?;
    expect_soon(&mut lab, &[("friend", "web", "80/TCP", Outcome::Reached)])?;
    let friend = lab.pod("default/friend")?;
    lab.detach(friend)?;
    let second = lab.attach(pod("stranger", "node1"))?.addresses.clone();
    ensure!(first[0] == second[0], "{first:?} was not used again, but {second:?}");
    expect_soon(&mut lab, &[("stranger", "web", "80/TCP", Outcome::Dropped)]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_with_their_prefix_lengths_and_in_lists() {
        let real = [("10.65.1.2", "10.65.1.9"), ("fd00::2", "fd00::9")];
        let real = real.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap())).into();
        let mut value =
            json!({ "a": ["10.65.1.2/32", "10.65.1.20", "x"], "b": "10.65.1.2/32,fd00::2/128" });
        readdress(&mut value, &real);
        assert_eq!(
            value,
            json!({ "a": ["10.65.1.9/32", "10.65.1.20", "x"], "b": "10.65.1.9/32,fd00::9/128" })
        );
    }
}
