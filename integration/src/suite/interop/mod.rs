//! The agent and other people's speakers, over real TCP.
//!
//! [`matrix`] has the cases that every speaker meets; the other files are about clusters and fabrics.

mod add_path;
mod as_rules;
mod clos;
mod conditions;
mod confederation;
mod exchange;
mod fabric;
mod interfaces;
mod limits;
mod long_lived;
mod matrix;
mod node;
mod origination;
mod password;
mod reflector;
mod restarts;
mod roles;
mod sessions;
mod terms;
mod transit;
mod unnumbered;
mod workload;

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, Test, expect, expect_soon, pod};
use crate::lab::Lab;
use crate::probe::LONG;
use crate::router::{Presence, Program};
use crate::wait::until;

pub(super) const MATRIX: &[Test] = matrix::TESTS;
pub(super) const NODE: &[Test] = node::TESTS;
pub(super) const ORIGINATION: &[Test] = origination::TESTS;
pub(super) const PASSWORD: &[Test] = password::TESTS;
pub(super) const REFLECTOR: &[Test] = reflector::TESTS;
pub(super) const ADD_PATH: &[Test] = add_path::TESTS;
pub(super) const LONG_LIVED: &[Test] = long_lived::TESTS;
pub(super) const AS_RULES: &[Test] = as_rules::TESTS;
pub(super) const LIMITS: &[Test] = limits::TESTS;
pub(super) const CLOS: &[Test] = clos::TESTS;
pub(super) const CONDITIONS: &[Test] = conditions::TESTS;
pub(super) const CONFEDERATION: &[Test] = confederation::TESTS;
pub(super) const ROLES: &[Test] = roles::TESTS;
pub(super) const TERMS: &[Test] = terms::TESTS;
pub(super) const FABRIC: &[Test] = fabric::TESTS;
pub(super) const UNNUMBERED: &[Test] = unnumbered::TESTS;
pub(super) const INTERFACES: &[Test] = interfaces::TESTS;
pub(super) const WORKLOAD: &[Test] = workload::TESTS;

/// What a speaker cannot do, besides the cases of [`matrix`]: the tests, what they are about, and who
/// cannot do it and why.
type Beyond = (&'static [Test], &'static str, &'static [(Program, &'static str)]);

const BEYOND: &[Beyond] = &[
    (ADD_PATH, "several paths for a prefix go through a node", add_path::CANNOT),
    (LONG_LIVED, "routes outlive the restart time, marked and last", long_lived::CANNOT),
];

/// What the speakers of these tests cannot do: one line for each.
pub(super) fn not_applicable(chosen: &[&Test]) -> Vec<String> {
    let mut lines = matrix::not_applicable(chosen);
    for (tests, what, cannot) in BEYOND {
        if tests.iter().any(|test| chosen.iter().any(|one| one.name == test.name)) {
            lines.extend(cannot.iter().map(|(program, why)| format!("{program}: {what}: {why}")));
        }
    }
    lines
}

/// How long a session may take to come (back) up.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// What lies behind the router.
const CLIENT: [&str; 2] = ["192.0.2.0/24", "2001:db8:2::/64"];

/// Whether the node's kernel has a route of ours to `prefix`.
fn has_route(lab: &Lab, node: usize, prefix: &str) -> Result<bool> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let routes = lab.agents[node].netns().run("ip", &[family, "route", "show", prefix])?;
    Ok(!routes.trim().is_empty())
}

fn wait_kernel(lab: &Lab, node: usize, prefix: &str, goal: Presence) -> Result<Duration> {
    until(LONG, &format!("{prefix} is {goal:?} in the kernel of node {}", node + 1), || {
        Ok(has_route(lab, node, prefix)? == (goal == Presence::There))
    })
    .with_context(|| lab.agents[node].log_tail())
}
