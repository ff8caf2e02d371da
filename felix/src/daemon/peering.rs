//! The speaker's side of the loop.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use ocicat_bgp::net::{self, Event, Goodbye, Handle};
use ocicat_bgp::speaker::{Chosen, Config, Start, Unreachable};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Daemon;
use crate::plan::peering::{self, LogLevel, Workloads, range_of};

/// The speaker's thread, once there is something to speak about.
#[derive(Default)]
pub(super) struct Speaker {
    handle: Option<Handle>,
    events: Option<mpsc::Receiver<Vec<Event>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What was configured last: the same again is no news.
    config: Option<Arc<Config>>,
    /// When that was.
    configured: Option<Timestamp>,
}

impl Speaker {
    /// The next events; waits for ever while there is no speaker.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        match &mut self.events {
            Some(events) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    /// How to ask the speaker's own thread.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.handle.clone()
    }

    /// What was configured last.
    pub(super) fn config(&self) -> Option<&Config> {
        self.config.as_deref()
    }

    /// When the configuration last changed.
    pub(super) fn configured(&self) -> Option<Timestamp> {
        self.configured
    }

    /// Ends without a word to the peers: a planned restart sends no Cease.
    pub(super) fn stop(&mut self) {
        if let (Some(handle), Some(thread)) = (self.handle.take(), self.thread.take()) {
            // Both fail only if the thread has ended already.
            let _ = handle.stop(Goodbye::Restart);
            let _ = thread.join();
        }
    }

    fn configure(&mut self, config: Config) -> std::io::Result<()> {
        if self.config.as_deref() == Some(&config) {
            return Ok(());
        }
        let config = Arc::new(config);
        match &self.handle {
            Some(handle) => {
                info!(peers = config.peers.len(), "new configuration of the speaker");
                handle.configure(Arc::clone(&config)).map_err(std::io::Error::other)?;
            }
            None => {
                info!(
                    local_as = config.local_as,
                    router_id = %config.router_id,
                    peers = config.peers.len(),
                    start = ?config.graceful_restart.start,
                    "the speaker starts"
                );
                let net::Running { handle, events, thread } = net::spawn(Arc::clone(&config))?;
                self.handle = Some(handle);
                self.events = Some(events);
                self.thread = Some(thread);
            }
        }
        self.config = Some(config);
        self.configured = Some(Timestamp::now());
        Ok(())
    }
}

/// So many next hops without a way are remembered; beyond, their routes are chosen and lead nowhere, which keeps a peer
/// that invents next hops from growing the list.
const UNREACHABLE_MAX: usize = 1024;

impl Daemon {
    /// Tells the speaker which next hops and links lead nowhere, so that it chooses other paths.
    pub(super) fn tell_unreachable(&mut self, asked: &BTreeSet<IpAddr>) {
        // Of peers the way is asked for, too; they need not be next hops.
        let mut next_hops = self.routes.next_hops();
        next_hops.extend(&self.unreachable.next_hops);
        let lost = self.routes.unreachable(&(asked & &next_hops), &self.ways);
        let next_hops: BTreeSet<IpAddr> = lost.into_iter().take(UNREACHABLE_MAX).collect();
        let interfaces = self.routes.dark_links().clone();
        let unreachable = Unreachable { next_hops, interfaces };
        let (lost, before) = (&unreachable.next_hops, &self.unreachable.next_hops);
        for next_hop in lost.difference(before) {
            warn!(%next_hop, "there is no way to a next hop; routes by it are not used");
        }
        for next_hop in before.difference(lost) {
            info!(%next_hop, "there is a way to the next hop again");
        }
        self.set_unreachable(unreachable);
    }

    pub(super) fn set_unreachable(&mut self, unreachable: Unreachable) {
        if self.unreachable == unreachable {
            return;
        }
        let lost = &unreachable.next_hops;
        self.metrics.unreachable_next_hops.set(i64::try_from(lost.len()).unwrap_or(i64::MAX));
        if let Some(speaker) = self.speaker.handle() {
            // Its end is noticed by whoever waits for its events.
            let _ = speaker.set_unreachable(unreachable.clone());
        }
        self.unreachable = unreachable;
    }

    /// The same when links change, of the next hops that the kernel has answered for.
    pub(super) fn tell_dark(&mut self) {
        let known = self.ways.keys().chain(&self.unreachable.next_hops).copied().collect();
        self.tell_unreachable(&known);
    }

    /// Works out whom to speak to, and tells the speaker.
    pub(super) fn plan_peering(&mut self) {
        // Whether an earlier life left its routes does not change any more.
        let start = match self.start {
            Some(start) => start,
            None => *self.start.insert(self.kind_of_start()),
        };
        let peering::Peering { config, about, secrets, routing, workloads, log, problems } =
            peering::plan(&self.world, start);
        self.set_plan_problems("peering", problems);
        self.secrets.send_if_modified(|asked| {
            let changed = *asked != secrets;
            *asked = secrets;
            changed
        });
        self.about = about;
        self.follow_services();
        self.set_speaker_log(log);
        if let Some(config) = &config {
            self.follow_filters(config);
            self.follow_listeners(config);
        }
        if self.writer.is_some() {
            let places = self.routes.follow_peering(routing, &self.ways);
            self.pending.routes_at(places);
            self.find_ways();
            self.follow_workloads(workloads);
        }
        let Some(mut config) = config else { return };
        if self.writer.is_none() {
            config.chosen = Chosen::Kept;
        }
        let of_range =
            |name: &_| range_of(name).is_some_and(|range| config.ranges.contains_key(&range));
        self.news.keep(|name| config.peers.contains_key(name) || of_range(name));
        if let Some(departure) = self.drain.departure() {
            peering::depart(&mut config, departure);
        }
        match self.speaker.configure(config) {
            Ok(()) => {
                self.failures.remove("speaker");
                self.tell_links();
            }
            Err(problem) => {
                error!(%problem, "the speaker cannot be started");
                self.failures.insert("speaker", vec![format!("BGP speaker: {problem}")]);
            }
        }
    }

    /// Pods that became peers, or are none any more.
    fn follow_workloads(&mut self, workloads: Workloads) {
        let names = workloads.keys().map(String::as_str);
        let update = self.ruleset.set_speakers(names);
        self.pending.rules(update);
        let before = std::mem::replace(&mut self.workloads, workloads);
        for name in before.keys().chain(self.workloads.keys()) {
            let is_there = self.world.endpoint_of(name).is_some();
            if is_there && before.get(name) != self.workloads.get(name) {
                self.pending.adopt(name.clone());
            }
        }
    }

    fn set_speaker_log(&mut self, level: Option<LogLevel>) {
        if self.speaker_log != level {
            self.speaker_log = level;
            (self.set_log)(level.and_then(LogLevel::directive));
        }
    }

    /// Forwarding survived if routes of ours were in the kernel when we came.
    fn kind_of_start(&self) -> Start {
        match &self.mirror {
            Some(mirror) if !mirror.routes.is_empty() => Start::Restarting,
            _ => Start::Cold,
        }
    }

    pub(super) fn take_speaker_events(&mut self, batch: Option<Vec<Event>>) {
        let Some(batch) = batch else {
            error!("the BGP thread has ended");
            self.failures.insert("speaker", vec!["the BGP thread has ended".to_owned()]);
            self.speaker.events = None;
            return;
        };
        for event in batch {
            self.take_speaker_event(event);
        }
        if self.writer.is_some() {
            self.find_ways();
        }
    }

    fn take_speaker_event(&mut self, event: Event) {
        match event {
            Event::RouteChanged(route) => {
                self.news.route(&route);
                // The speaker alone keeps its routes to itself.
                if self.writer.is_some() {
                    let place = self.routes.learn(route, &self.ways);
                    self.pending.routes_at([place]);
                }
            }
            Event::RouteWithdrawn(prefix) => {
                self.news.withdrawn(prefix);
                let place = self.routes.forget(prefix.into(), &self.ways);
                self.pending.routes_at([place]);
            }
            Event::Synced(family) => {
                info!(%family, "the peers have told everything");
                let places = self.routes.release(family);
                self.pending.routes_at(places);
            }
            Event::AggregateFormed(prefix) => {
                info!(%prefix, "an aggregate is told");
                let places = self.routes.aggregate(prefix.into());
                self.pending.routes_at(places);
            }
            Event::AggregateGone(prefix) => {
                info!(%prefix, "an aggregate is not told any longer");
                let places = self.routes.end_aggregate(prefix.into());
                self.pending.routes_at(places);
            }
            // The speaker's own thread has logged it.
            Event::PeerStateChanged { peer, old, new, reason } => {
                self.news.session(peer, (old, new), reason.as_deref());
            }
            Event::Listening { address, refused, .. } => self.note_listener(address, Ok(refused)),
            Event::ListenFailed { address, error } => self.note_listener(address, Err(error)),
        }
    }
}
