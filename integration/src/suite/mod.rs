//! The tests that need root and a lab, each with a name and a time limit.
//!
//! Each runs in a worker process of its own, with a run of its own, so that one which hangs or
//! crashes leaves nothing behind and does not end the others.

mod substrate;

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::binaries::{Binaries, Profile};
use crate::probe::raise_socket_limit;
use crate::run::Run;

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
    [substrate::TESTS].into_iter().flatten()
}

/// Runs one test in this process, which is its worker.
pub(crate) fn run(name: &str, run: Run) -> Result<()> {
    let test = all().find(|test| test.name == name).context("no such test")?;
    raise_socket_limit()?;
    (test.body)(&Bench { run, binaries: Binaries::of(Profile::Dev) })
}
