//! The loop: wait for anything, drain what is ready, plan what became dirty, apply the difference, publish.
//!
//! One task owns the world, what is desired and the mirror of the kernel; nothing here is shared or locked. The kernel is
//! written by one thread of its own, one change at a time: what happens meanwhile is planned together. Nothing is applied
//! before the datastore has told everything and the kernel was read, so that a restart changes no packet's fate.

mod answers;
mod bfd;
mod bmp;
mod drain;
mod dump;
mod endpoints;
mod kernel;
mod links;
mod listening;
mod looking;
mod news;
mod peering;
mod pending;
mod planning;
mod rpki;
mod services;
mod statuses;
mod unused;
mod waiters;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicat_bgp::speaker::{Start, Unreachable};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::api::{Query, bgp};
use crate::config::{AgentConfig, DatastoreKind};
use crate::dataplane::kernel::Event as KernelEvent;
use crate::dataplane::kernel::links::Link;
use crate::dataplane::{Dataplane, RouteKey, State, WantedWays};
use crate::datastore::kubernetes::StatusWrite;
use crate::datastore::{Datastore, Event};
use crate::metrics::Metrics;
use crate::plan::peering::{Abouts, LogLevel, Workloads};
use crate::plan::routes::{RoutePlan, Ways};
use crate::plan::ruleset::Ruleset;
use crate::problem::Problem;
use crate::world::{Arrival, World};
use drain::Drain;
use links::AskedLinks;
use listening::Listening;
use news::News;
use peering::Speaker;
use pending::Pending;
use services::Demand;
use statuses::Statuses;
use unused::Unused;
use waiters::Waiters;
use writer::Writer;

/// At most this many batches of one source are taken before the next plan is made.
const DRAIN: usize = 256;
/// How often waiters and watches are looked after.
const TICK: Duration = Duration::from_millis(500);

/// Something that a client of the socket wants.
#[derive(Debug)]
pub struct Request {
    /// What.
    pub what: Wanted,
    /// Where the answer goes; closed when the client has gone.
    pub reply: oneshot::Sender<serde_json::Value>,
}

/// What a client of the socket wants.
#[derive(Debug)]
pub enum Wanted {
    /// The plugin.
    Cni(ocicat_cni::daemon::Request),
    /// The command line.
    Query(Query),
    /// Prometheus: bring the numbers up to date.
    Count,
}

/// What `/healthz` and `/readyz` tell.
#[derive(Debug, Clone)]
pub struct Health {
    /// When the loop last came round.
    pub alive: Instant,
    /// Why the node is not ready; empty when it is.
    pub missing: Vec<String>,
}

/// How the daemon is talked to.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Requests of the socket's clients.
    pub requests: mpsc::Sender<Request>,
    /// Health.
    pub health: watch::Receiver<Health>,
    /// Names of the Secrets that the daemon wants to know.
    pub secrets: watch::Receiver<BTreeSet<String>>,
    /// Whether the daemon wants to know Services.
    pub services: watch::Receiver<bool>,
    /// What happens to sessions and routes; subscribe to hear it.
    pub events: broadcast::Sender<bgp::Event>,
}

/// Sets how much the speaker logs: a directive of a tracing filter, or none of its own.
pub type SetLog = Box<dyn Fn(Option<&str>) + Send>;

/// Where the loop stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Datastore and kernel have not both told what there is.
    Starting,
    /// Plans are made and applied.
    Running,
}

/// The daemon.
pub struct Daemon {
    config: AgentConfig,
    phase: Phase,
    world: World,
    ruleset: Ruleset,
    ways: Ways,
    /// Next hops to which the kernel has no way, and links that carry nothing.
    unreachable: Unreachable,
    unused: Unused,
    links_asked: AskedLinks,
    listening: Listening,
    /// Interfaces of pods that are peers, and our addresses there.
    workloads: Workloads,
    /// The next hops that the kernel was asked about last: of others no way is known.
    asked: WantedWays,
    routes: RoutePlan,
    /// Where routes could not be changed the last time.
    failed_places: BTreeSet<RouteKey>,
    last_retry: Instant,
    /// Routes that were warned of and still cannot be changed.
    warned: BTreeSet<String>,
    /// When the oldest event came that is not in the kernel yet: waiting, and under way.
    dirty_since: Option<Instant>,
    applying_since: Option<Instant>,
    /// What we believe the kernel holds.
    mirror: Option<State>,
    datastore_synced: bool,
    writer: Option<Writer>,
    busy: bool,
    pending: Pending,
    failures: BTreeMap<&'static str, Vec<String>>,
    waiters: Waiters,
    speaker: Speaker,
    /// What there is to know of peers beside their configuration.
    about: Abouts,
    /// The Secrets that the datastore is asked for.
    secrets: watch::Sender<BTreeSet<String>>,
    services: Demand,
    speaker_log: Option<LogLevel>,
    set_log: SetLog,
    news: News,
    drain: Drain,
    statuses: Statuses,
    /// Whether we resume an earlier life; known once the kernel was read.
    start: Option<Start>,
    checks: Vec<oneshot::Sender<serde_json::Value>>,
    plan_problems: BTreeMap<&'static str, Vec<Problem>>,
    mtu: Option<u32>,
    /// The node's own interfaces; pods' are not among them.
    links: BTreeMap<Arc<str>, Link>,
    last_read: Instant,
    metrics: Metrics,
    health: watch::Sender<Health>,
    requests: mpsc::Receiver<Request>,
    kernel: mpsc::Receiver<KernelEvent>,
}

/// What the daemon is made of beside its configuration.
pub struct Parts {
    /// What is programmed; `None` for the speaker alone.
    pub dataplane: Option<Box<dyn Dataplane + Send>>,
    /// What happens in the kernel without us.
    pub kernel: mpsc::Receiver<KernelEvent>,
    /// Where numbers go.
    pub metrics: Metrics,
    /// How the speaker's log is made to say more or less.
    pub set_log: SetLog,
    /// Who writes the status of CalicoNodeStatus objects; `None`: there is nowhere to write.
    pub status_writer: Option<mpsc::Sender<StatusWrite>>,
}

impl Daemon {
    /// Puts the daemon together; [`Daemon::run`] makes it live.
    pub fn new(config: AgentConfig, parts: Parts) -> std::io::Result<(Self, Doors)> {
        let writer = parts.dataplane.map(Writer::spawn).transpose()?;
        let (sender, requests) = mpsc::channel(256);
        let (health, watcher) = watch::channel(Health {
            alive: Instant::now(),
            missing: vec!["the daemon is starting".to_owned()],
        });
        let (secrets, secret_names) = watch::channel(BTreeSet::new());
        let (services_wanted, services) = watch::channel(false);
        let arrival = match config.datastore {
            DatastoreKind::Kubernetes => Arrival::OnDemand,
            DatastoreKind::Directory(_) => Arrival::WithTheRest,
        };
        let world = World::new(config.node.clone());
        let news = News::default();
        let events = news.sender();
        let daemon = Self {
            world: world
                .with_secrets(config.secret_namespace.clone(), arrival)
                .with_services(arrival),
            phase: Phase::Starting,
            ruleset: Ruleset::default(),
            ways: Ways::new(),
            asked: WantedWays::new(),
            unreachable: Unreachable::default(),
            unused: Unused::default(),
            links_asked: AskedLinks::default(),
            listening: Listening::default(),
            workloads: Workloads::default(),
            routes: RoutePlan::default(),
            failed_places: BTreeSet::new(),
            last_retry: Instant::now(),
            warned: BTreeSet::new(),
            dirty_since: None,
            applying_since: None,
            mirror: None,
            datastore_synced: false,
            writer,
            busy: false,
            pending: Pending::default(),
            failures: BTreeMap::new(),
            waiters: Waiters::default(),
            speaker: Speaker::default(),
            about: Abouts::default(),
            secrets,
            services: Demand::new(services_wanted),
            speaker_log: None,
            set_log: parts.set_log,
            news,
            drain: Drain::default(),
            statuses: Statuses::new(parts.status_writer),
            start: None,
            checks: Vec::new(),
            plan_problems: BTreeMap::new(),
            mtu: config.mtu,
            links: BTreeMap::new(),
            last_read: Instant::now(),
            metrics: parts.metrics,
            health,
            requests,
            kernel: parts.kernel,
            config,
        };
        let doors =
            Doors { requests: sender, health: watcher, secrets: secret_names, services, events };
        Ok((daemon, doors))
    }

    /// Where records of attached pods are.
    fn state_dir(&self) -> &PathBuf {
        &self.config.state_dir
    }

    /// Lives until `stop` says so, or the datastore has ended.
    pub async fn run(
        mut self,
        datastore: impl Datastore + Send + 'static,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut events = spawn_datastore(datastore);
        self.load_endpoints();
        self.read_kernel();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                done = next_done(&mut self.writer) => self.settle(done),
                Some(request) = self.requests.recv() => self.serve(request),
                batch = events.recv() => match batch {
                    Some(batch) => self.take_events(batch),
                    None => { warn!("the datastore has ended"); break }
                },
                batch = self.speaker.next() => self.take_speaker_events(batch),
                Some(event) = self.kernel.recv() => self.take_kernel_event(event),
                _ = tick.tick() => self.look_after(),
            }
            for _ in 0..DRAIN {
                let Ok(batch) = events.try_recv() else { break };
                self.take_events(batch);
            }
            for _ in 0..DRAIN {
                let Ok(request) = self.requests.try_recv() else { break };
                self.serve(request);
            }
            for _ in 0..DRAIN {
                let Ok(event) = self.kernel.try_recv() else { break };
                self.take_kernel_event(event);
            }
            self.advance();
            self.publish();
        }
        info!("stopping; rules, routes and pods stay as they are, peers are not told");
        self.speaker.stop();
    }

    fn take_events(&mut self, events: Vec<Event>) {
        self.dirty_since.get_or_insert_with(Instant::now);
        for event in events {
            match event {
                Event::Synced => {
                    self.datastore_synced = true;
                    info!("the datastore has told everything");
                }
                Event::Problems { origin, problems } => {
                    for problem in &problems {
                        warn!(%problem, "input that cannot be used");
                    }
                    self.world.apply(Event::Problems { origin, problems });
                }
                event @ (Event::Put(_)
                | Event::Delete(_)
                | Event::Listed(_)
                | Event::Unfollowed(_)) => self.world.apply(event),
            }
        }
    }

    /// What only time brings.
    fn look_after(&mut self) {
        let reason = self.why_not_enforced();
        self.waiters.expire(reason);
        if self.phase == Phase::Running && self.last_read.elapsed() >= self.config.resync {
            self.load_endpoints();
            self.read_kernel();
        }
        self.retry_failed();
        self.forget_unused();
        self.advance_drain();
        self.advance_statuses();
    }

    fn publish(&mut self) {
        let missing = self.missing();
        self.metrics.ready.set(i64::from(missing.is_empty()));
        self.health.send_replace(Health { alive: Instant::now(), missing });
    }

    /// What has not been done yet at least once.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut note = |is_missing: bool, what: &str| {
            if is_missing {
                missing.push(what.to_owned());
            }
        };
        let kernel = self.writer.is_some();
        note(!self.datastore_synced, "the datastore has not told everything");
        note(kernel && self.mirror.is_none(), "the kernel was not read");
        note(kernel && !self.pending.applied_once, "the rules were not applied");
        if self.world.own_node().is_none() {
            missing.push(format!("the datastore has no Node {}", self.world.name()));
        }
        missing
    }

    /// Everything that is wrong with the input.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.world.problems();
        problems.extend(self.plan_problems.values().flatten().cloned());
        problems.sort();
        problems.dedup();
        problems
    }

    /// Replaces what one plan found wrong, and says what is new.
    fn set_plan_problems(&mut self, plan: &'static str, problems: Vec<Problem>) {
        let before = self.plan_problems.remove(plan).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            warn!(%problem, "input that cannot be used");
        }
        self.plan_problems.insert(plan, problems);
    }
}

async fn next_done(writer: &mut Option<Writer>) -> Option<writer::Done> {
    match writer {
        Some(writer) => writer.next().await,
        None => std::future::pending().await,
    }
}

/// A source of its own task: its waiting must not be cut off half-way by another source's news.
fn spawn_datastore(mut datastore: impl Datastore + Send + 'static) -> mpsc::Receiver<Vec<Event>> {
    let (sender, events) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(batch) = datastore.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    events
}
