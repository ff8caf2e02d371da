//! What an operator asks and commands, against BIRD with a password: why a route is used or not, leave and return.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Bench, Test};
use crate::agent::Stop;
use crate::lab::Lab;
use crate::netns::output;
use crate::object::Object;
use crate::setup::find;
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "operator: with a password from a Secret, what was decided is told, and a node leaves and returns",
    leave_and_return,
)
.limit(120)];

const PASSWORD: &str = "correct-horse-battery";
const PATIENCE: Duration = Duration::from_secs(20);

/// BIRD on the lab's router.
struct Router<'a> {
    lab: &'a Lab,
    process: Child,
    directory: PathBuf,
}

impl<'a> Router<'a> {
    fn start(lab: &'a Lab) -> Result<Self> {
        let node = &lab.spec.nodes[0];
        let directory = lab.run.directory().join("bird");
        fs::create_dir_all(&directory)?;
        let text = format!(
            "router id 10.0.0.1;
protocol device {{ }}
protocol static {{ ipv4; route 192.0.2.0/25 blackhole; route 203.0.113.0/24 blackhole; }}
protocol bgp node {{
  local {} as {}; neighbor {} as {}; password \"{PASSWORD}\";
  connect delay time 1; multihop;
  ipv4 {{ import all; export all; next hop self; }};
}}
",
            node.gateway_ipv4(),
            lab.spec.router.as_number,
            node.ipv4,
            node.as_number
        );
        let config = directory.join("bird.conf");
        fs::write(&config, text)?;
        let log = File::create(directory.join("bird.log"))?;
        let mut bird = Command::new(find("bird").context("no bird in PATH")?);
        bird.arg("-f").arg("-c").arg(&config).arg("-s").arg(directory.join("bird.ctl"));
        bird.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { lab, process: lab.router.spawn(&mut bird)?, directory })
    }

    /// What BIRD knows of the node's pods.
    fn knows(&self) -> Result<String> {
        let mut birdc = Command::new(find("birdc").context("no birdc in PATH")?);
        let range = &self.lab.spec.nodes[0].pod_cidrs[0];
        birdc.arg("-s").arg(self.directory.join("bird.ctl")).args(["show", "route", "all", range]);
        // It complains when there is no such route.
        self.lab.router.enter(|| output(&mut birdc))?.or_else(|error| Ok(error.to_string()))
    }

    fn waits_to_know(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<Duration> {
        let mut known = String::new();
        until(PATIENCE, what, || {
            known = self.knows()?;
            Ok(wanted(&known))
        })
        .with_context(|| known.clone())
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        // Fails if it is dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The one peer of the node, with a password and a filter.
fn configure(lab: &Lab) -> Result<()> {
    for peer in lab.spec.objects.iter().filter(|object| object.kind() == "BGPPeer") {
        lab.store.remove(peer)?;
    }
    let reference = json!({ "secretKeyRef": { "name": "bgp", "key": "tor" } });
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "bgp", "namespace": "kube-system" },
            "stringData": { "tor": PASSWORD } }),
        json!({ "apiVersion": "projectcalico.org/v3", "kind": "BGPFilter",
            "metadata": { "name": "from-tor" }, "spec": { "importV4": [
                { "action": "Reject", "matchOperator": "In", "cidr": "192.0.2.0/24" },
                { "action": "Accept" } ] } }),
        json!({ "apiVersion": "projectcalico.org/v3", "kind": "BGPPeer",
            "metadata": { "name": "guarded",
                "annotations": { "bgp.ocicat.io/connect-retry": "1s" } },
            "spec": { "peerIP": lab.spec.nodes[0].gateway_ipv4().to_string(),
                "asNumber": lab.spec.router.as_number, "filters": ["from-tor"],
                "password": reference } }),
    ];
    objects.into_iter().map(Object).try_for_each(|object| lab.store.put(&object))
}

fn leave_and_return(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    configure(&lab)?;
    lab.start_agents()?;
    let mut agent = lab.agents.remove(0);
    let router = Router::start(&lab)?;
    let says = |agent: &crate::agent::Agent, arguments: &[&str], wanted: &str| {
        let mut said = String::new();
        until(PATIENCE, wanted, || {
            said = agent.ask(arguments).unwrap_or_else(|error| format!("{error:#}"));
            Ok(said.contains(wanted))
        })
        .with_context(|| format!("{said}\n{}", agent.log_tail()))
    };
    says(&agent, &["bgp", "peer", "guarded"], "Established")?;
    let rejected = "rejected by BGPFilter from-tor importV4[0]";
    says(&agent, &["bgp", "route", "192.0.2.0/25", "--why"], rejected)?;
    let accepted = "accepted by BGPFilter from-tor importV4[1]";
    says(&agent, &["bgp", "route", "203.0.113.0/24"], accepted)?;
    says(&agent, &["bgp", "route", "203.0.113.0/24"], "in the kernel: 203.0.113.0/24 via")?;

    // The Node object asks for the leave, and takes it back.
    let node = lab.spec.objects.iter().find(|object| object.kind() == "Node");
    let node = node.context("a Node object")?.clone();
    let mut leaving = node.clone();
    leaving.0["metadata"]["annotations"]["bgp.ocicat.io/drain"] = json!("true");
    let is_marked = |known: &str| known.contains("(65535,0)");
    let is_plain = |known: &str| known.contains("BGP.as_path") && !is_marked(known);
    router.waits_to_know("the node's pods", is_plain)?;
    lab.store.put(&leaving)?;
    let took = router.waits_to_know("GRACEFUL_SHUTDOWN", is_marked)?;
    println!("              the Node is annotated: {took:?} until BIRD sees 65535:0");
    lab.store.put(&node)?;
    router.waits_to_know("routes without the mark", is_plain)?;

    // A command does, and holds through a crash.
    agent.ask(&["bgp", "drain", "--wait", "1s"])?;
    router.waits_to_know("no route", |known| known.contains("not found"))?;
    let view = agent.ask(&["bgp", "peer", "guarded"])?;
    ensure!(
        view.contains("Established") && view.contains(" 0 flaps"),
        "a session was lost: {view}"
    );
    agent.stop(Stop::Kill)?;
    agent.start()?;
    says(&agent, &["bgp", "peer", "guarded"], "Established")?;
    router.waits_to_know("no route after a crash", |known| known.contains("not found"))?;
    agent.ask(&["bgp", "undrain"])?;
    router.waits_to_know("the routes again", is_plain)?;
    ensure!(!fs::read_to_string(agent.log())?.contains(PASSWORD), "the password is in the log");
    Ok(())
}
