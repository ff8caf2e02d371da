//! The tests that need root and a lab, each with a name and a time limit.
//!
//! Each runs in a worker process of its own, with a run of its own, so that one which hangs or
//! crashes leaves nothing behind and does not end the others.

mod bfd;
mod bmp;
mod drift;
mod hostile;
mod input;
mod interop;
mod kubernetes;
mod nat;
mod operator;
mod plugin;
mod policy;
mod restart;
mod rpki;
mod substrate;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::binaries::{Binaries, Profile};
use crate::lab::Lab;
use crate::matrix::Service;
use crate::object::{self, Object};
use crate::probe::{Outcome, raise_socket_limit};
use crate::run::Run;
use crate::spec::Spec;

/// A test. It passes if it returns.
pub(crate) struct Test {
    /// A sentence about behaviour, with its area before a colon.
    pub(crate) name: &'static str,
    pub(crate) limit: Duration,
    pub(crate) body: fn(&Bench) -> Result<()>,
}

/// What a test works on.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) run: Run,
    pub(crate) binaries: Binaries,
}

impl Test {
    const fn new(name: &'static str, body: fn(&Bench) -> Result<()>) -> Self {
        Self { name, limit: Duration::from_secs(60), body }
    }

    const fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }
}

/// All tests, in the order in which they run: what others build upon comes first.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    [
        substrate::TESTS,
        plugin::TESTS,
        policy::TESTS,
        interop::NODE,
        interop::MATRIX,
        interop::ORIGINATION,
        interop::PASSWORD,
        interop::REFLECTOR,
        interop::ADD_PATH,
        interop::LONG_LIVED,
        interop::LIMITS,
        interop::AS_RULES,
        interop::ROLES,
        interop::CONFEDERATION,
        interop::TERMS,
        interop::FABRIC,
        interop::UNNUMBERED,
        interop::INTERFACES,
        interop::CONDITIONS,
        interop::WORKLOAD,
        interop::CLOS,
        hostile::TESTS,
        operator::TESTS,
        restart::TESTS,
        bfd::TESTS,
        bmp::TESTS,
        rpki::TESTS,
        drift::TESTS,
        nat::TESTS,
        input::TESTS,
        kubernetes::TESTS,
    ]
    .into_iter()
    .flatten()
}

/// What the speakers of these tests cannot do, and why.
pub(crate) fn not_applicable(chosen: &[&Test]) -> Vec<String> {
    interop::not_applicable(chosen)
}

/// Runs one test in this process, which is its worker.
pub(crate) fn run(name: &str, run: Run) -> Result<()> {
    let test = all().find(|test| test.name == name).context("no such test")?;
    raise_socket_limit()?;
    (test.body)(&Bench { run, binaries: Binaries::of(Profile::Dev) })
}

impl Bench {
    /// A lab with its machines and datastore; nothing runs.
    fn bare(&self, spec: Spec) -> Result<Lab> {
        Lab::create(&self.run, spec, &self.binaries)
    }

    /// A lab with router, agents and sessions.
    fn started(&self, spec: Spec) -> Result<Lab> {
        let mut lab = self.bare(spec)?;
        lab.start()?;
        Ok(lab)
    }
}

/// A pod of the namespace `default` with its name as the label `app`.
fn pod(name: &str, node: &str) -> Object {
    object::pod("default", name, node, &json!({ "app": name }))
}

/// A NetworkPolicy for the pods with label `app: name`: what reaches it is what `ingress` says.
fn ingress(name: &str, ingress: &serde_json::Value) -> Object {
    Object(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": name },
        "spec": {
            "podSelector": { "matchLabels": { "app": name } },
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }))
}

/// Probes in both families; each line is from, to, `80/TCP`, and what must become of it.
fn expect(lab: &mut Lab, lines: &[(&str, &str, &str, Outcome)]) -> Result<()> {
    for (from, to, service, wanted) in lines {
        let service: Service = service.parse()?;
        for flow in lab.flows(from, to, service, *wanted)? {
            let outcome = lab.probe(&[flow])?[0];
            ensure!(outcome == *wanted, "{from} -> {to} {}: {outcome}, not {wanted}", flow.flow);
        }
    }
    Ok(())
}

/// Like [`expect`], with time for the change to take effect.
fn expect_soon(lab: &mut Lab, lines: &[(&str, &str, &str, Outcome)]) -> Result<Duration> {
    let mut last = String::new();
    crate::wait::until(Duration::from_secs(10), "the flows are as expected", || {
        match expect(lab, lines) {
            Ok(()) => Ok(true),
            Err(error) => {
                last = error.to_string();
                Ok(false)
            }
        }
    })
    .with_context(|| last)
}
