//! The thread that owns the dataplane. One job at a time: what comes meanwhile is planned together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::warn;

use crate::dataplane::{Change, Dataplane, Outcome, PROTOCOL, PodEnds, State, WantedWays};
use crate::plan::routes::Ways;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Read what is there.
    Read,
    /// Make a change.
    Apply(Box<Change>),
    /// Find the way to these next hops.
    Resolve(WantedWays),
    /// Set the node up as a router.
    Prepare,
    /// Set up the node's ends of pods' interfaces.
    Adopt(PodEnds),
    /// Forget connections of addresses that nobody has any more.
    Forget(BTreeSet<IpAddr>),
}

/// What became of it.
pub(super) enum Done {
    /// What is there.
    Read(std::io::Result<State>),
    /// The change, what became of it, and how long it took.
    Applied(Box<Change>, Outcome, Duration),
    /// The ways that there are to what was asked for.
    Resolved(WantedWays, Ways),
    /// Something beside rules and routes was done, but for this.
    Adopted(Vec<String>),
}

/// The daemon's end.
pub(super) struct Writer {
    jobs: std::sync::mpsc::Sender<Job>,
    done: mpsc::UnboundedReceiver<Done>,
}

impl Writer {
    pub(super) fn spawn(dataplane: Box<dyn Dataplane + Send>) -> std::io::Result<Self> {
        let (jobs, receiver) = std::sync::mpsc::channel();
        let (sender, done) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("dataplane".to_owned())
            .spawn(move || run(dataplane, &receiver, &sender))?;
        Ok(Self { jobs, done })
    }

    pub(super) fn start(&self, job: Job) {
        // The thread ends only with this sender.
        let _ = self.jobs.send(job);
    }

    pub(super) async fn next(&mut self) -> Option<Done> {
        self.done.recv().await
    }
}

fn run(
    mut dataplane: Box<dyn Dataplane + Send>,
    jobs: &std::sync::mpsc::Receiver<Job>,
    done: &mpsc::UnboundedSender<Done>,
) {
    while let Ok(job) = jobs.recv() {
        let result = match job {
            Job::Read => Done::Read(dataplane.read()),
            Job::Apply(change) => {
                let begun = Instant::now();
                let outcome = dataplane.apply(&change);
                Done::Applied(change, outcome, begun.elapsed())
            }
            Job::Resolve(wanted) => {
                let ways = resolve(&mut *dataplane, &wanted);
                Done::Resolved(wanted, ways)
            }
            Job::Adopt(ends) => Done::Adopted(dataplane.adopt(&ends)),
            Job::Prepare => Done::Adopted(dataplane.prepare_node()),
            Job::Forget(addresses) => Done::Adopted(forget(&mut *dataplane, addresses)),
        };
        if done.send(result).is_err() {
            return;
        }
    }
}

fn resolve(dataplane: &mut dyn Dataplane, wanted: &WantedWays) -> Ways {
    let mut ways = Ways::new();
    let mut circles = WantedWays::new();
    for (&address, made_of_it) in wanted {
        match dataplane.resolve(address) {
            Ok(Some(way)) if way.protocol == PROTOCOL && made_of_it.contains(&way.matched) => {
                circles.insert(address, made_of_it.clone());
            }
            Ok(Some(way)) => _ = ways.insert(address, way),
            Ok(None) => {}
            Err(problem) => {
                warn!(%address, %problem, "the kernel does not say where a next hop is");
            }
        }
    }
    if !circles.is_empty() {
        match dataplane.resolve_beneath(&circles) {
            Ok(found) => ways.extend(found),
            Err(problem) => warn!(%problem, "the kernel does not say where next hops are"),
        }
    }
    ways
}

fn forget(dataplane: &mut dyn Dataplane, addresses: BTreeSet<IpAddr>) -> Vec<String> {
    let failed = |address: IpAddr| {
        let problem = dataplane.forget(address).err()?;
        Some(format!(
            "connections of {address}, whose pod has gone, could not be forgotten: {problem}"
        ))
    };
    addresses.into_iter().filter_map(failed).collect()
}
