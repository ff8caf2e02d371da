//! The kernel's side of the loop: what is to be applied, what came of it, and drift.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicat_cni::endpoint::INTERFACE_PREFIX;
use tracing::{debug, error, info, warn};

use super::pending::{Places, Rules};
use super::writer::{Done, Job};
use super::{Daemon, Phase};
use crate::dataplane::kernel::Event;
use crate::dataplane::kernel::links::{Admin, Carrier, Link, lowest_host_mtu};
use crate::dataplane::{
    Change, CommitError, NextHop, Outcome, PROTOCOL, Route, RouteKind, State, route,
};
use crate::nft::{self, Transaction};
use crate::plan::ruleset::TABLE;

/// How often a route that could not be changed is tried again, if nothing else brings it up.
const RETRY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Has the kernel read, as soon as the writer is free.
    pub(super) fn read_kernel(&mut self) {
        self.pending.read = true;
        self.last_read = Instant::now();
        self.advance_writer();
    }

    /// Something happened in the kernel that was not our doing.
    pub(super) fn take_kernel_event(&mut self, event: Event) {
        match event {
            Event::Link(link) => self.link_changed(&link),
            Event::LinkGone { name, .. } => {
                self.links.remove(&name);
                self.mtu_changed();
                self.lose_routes(|hop| hop.interface == name);
                self.pending.resolve();
            }
            Event::Addresses { .. } => self.addresses_changed(),
            Event::AddressGone { interface } => {
                self.lose_routes(|hop| hop.interface == interface);
                // Most likely they are still there.
                self.pending.read = true;
                self.addresses_changed();
            }
            Event::Ways => self.pending.resolve(),
            Event::Route(key) => {
                if let Some(mirror) = &mut self.mirror {
                    mirror.routes.remove(&key);
                }
                self.pending.routes_at([key]);
                self.pending.resolve();
            }
            Event::Table => {
                debug!("somebody changed our table");
                self.pending.read = true;
            }
            Event::Lost => {
                self.pending.read = true;
                self.addresses_changed();
            }
        }
    }

    /// Somebody may have taken ours, too.
    fn addresses_changed(&mut self) {
        let names = self.workloads.keys().cloned();
        names.for_each(|name| self.pending.adopt(name));
        self.pending.resolve();
    }

    /// Interfaces that carry nothing.
    fn without_carrier(&self) -> BTreeSet<Arc<str>> {
        let is_dark = |link: &&Link| link.carrier == Carrier::Absent || link.admin == Admin::Down;
        self.links.values().filter(is_dark).map(|link| Arc::clone(&link.name)).collect()
    }

    fn link_changed(&mut self, link: &Link) {
        let name = &link.name;
        // One that the plugin is just making has no endpoint yet, nor a carrier.
        if name.starts_with(INTERFACE_PREFIX) {
            if link.admin == Admin::Up && self.world.endpoint_of(name).is_some() {
                // The plugin may be of another version than we are, and settings are lost with an interface.
                self.pending.adopt(name.to_string());
            }
        } else {
            self.pending.resolve();
            self.links.insert(name.clone(), link.clone());
            self.mtu_changed();
            let places = self.routes.follow_links(self.without_carrier(), &self.ways);
            self.pending.routes_at(places);
            self.tell_dark();
        }
        if link.admin == Admin::Down {
            // The kernel removes IPv4 routes over it without a word.
            let name = name.clone();
            self.lose_routes(|hop| hop.interface == name);
        }
        self.pending.routes_at(self.failed_places.iter().copied());
    }

    /// Pods' interfaces follow the smallest of the node's own, unless a size was set.
    fn mtu_changed(&mut self) {
        let links: Vec<Link> = self.links.values().cloned().collect();
        let mtu = self.config.mtu.or_else(|| lowest_host_mtu(&links));
        if self.mtu != mtu {
            self.mtu = mtu;
            if self.phase == Phase::Running {
                self.write_node_file();
            }
        }
    }

    /// The kernel has removed these routes by itself.
    fn lose_routes(&mut self, is_lost: impl Fn(&NextHop) -> bool) {
        let Some(mirror) = &mut self.mirror else { return };
        let lost = |route: &Route| match &route.kind {
            RouteKind::Unicast(hops) => hops.iter().any(&is_lost),
            RouteKind::Blackhole => false,
        };
        let gone = mirror.routes.extract_if(.., |_, route| lost(route));
        self.pending.routes_at(gone.map(|(key, _)| key));
    }

    /// Gives the writer its next job, if it is free and there is one.
    pub(super) fn advance_writer(&mut self) {
        if self.busy || self.writer.is_none() {
            return;
        }
        if let (Some(job), Some(writer)) = (self.next_job(), &self.writer) {
            writer.start(job);
            self.busy = true;
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        if std::mem::take(&mut self.pending.read) {
            return Some(Job::Read);
        }
        if self.phase != Phase::Running {
            return None;
        }
        if std::mem::take(&mut self.pending.resolve) {
            let wanted = self.wanted_ways();
            self.asked.clone_from(&wanted);
            if !wanted.is_empty() {
                return Some(Job::Resolve(wanted));
            }
        }
        if self.pending.may_try()
            && let Some(change) = self.next_change()
        {
            return Some(Job::Apply(Box::new(change)));
        }
        if std::mem::take(&mut self.pending.prepare) {
            return Some(Job::Prepare);
        }
        if !self.pending.forget.is_empty() {
            return Some(Job::Forget(std::mem::take(&mut self.pending.forget)));
        }
        if !self.pending.adopt.is_empty() {
            let names = std::mem::take(&mut self.pending.adopt).into_iter();
            let addresses = |name: &String| self.workloads.get(name).cloned().unwrap_or_default();
            return Some(Job::Adopt(names.map(|name| (name.clone(), addresses(&name))).collect()));
        }
        None
    }

    /// The difference between what should be and what we believe is.
    fn next_change(&mut self) -> Option<Change> {
        let mirror = self.mirror.as_ref()?;
        let rules = match std::mem::take(&mut self.pending.rules) {
            Rules::Same => Transaction::new(TABLE),
            Rules::Elements(transaction) => transaction,
            Rules::Unknown => nft::diff(self.ruleset.table(), &mirror.table),
        };
        let routes = match std::mem::take(&mut self.pending.routes) {
            Places::These(places) => {
                route::diff_at(&places, |key| self.routes.desired(key), &mirror.routes)
            }
            Places::Anywhere => route::diff(&self.routes.all(), &mirror.routes),
        };
        let change = Change { nft: rules, routes };
        if change.is_empty() {
            self.pending.applied_once = true;
            self.answer_waiters();
            return None;
        }
        debug!(%change, "applying");
        self.waiters.planned(&self.ruleset);
        self.applying_since = self.dirty_since.take();
        Some(change)
    }

    /// Takes in what the writer has done.
    pub(super) fn settle(&mut self, done: Option<Done>) {
        self.busy = false;
        match done {
            None => error!("the dataplane thread has ended"),
            Some(Done::Read(Ok(state))) => self.compare(state),
            Some(Done::Read(Err(problem))) => {
                error!(%problem, "the kernel cannot be read; trying again");
                self.refuse_checks(&problem);
                self.fail_for_a_while("read", vec![format!("reading the kernel: {problem}")]);
            }
            Some(Done::Applied(change, outcome, took)) => self.applied(&change, &outcome, took),
            Some(Done::Resolved(asked, ways)) => {
                if self.ways != ways {
                    self.ways = ways;
                    let places = self.routes.follow_ways(&self.ways);
                    self.pending.routes_at(places);
                }
                self.tell_links();
                self.tell_unreachable(&asked.into_keys().collect());
            }
            Some(Done::Adopted(failures)) => {
                for failure in failures {
                    warn!(failure, "the node is not set up as it should be");
                }
            }
        }
    }

    /// The kernel as it is: the first time the mirror, later a comparison with it.
    fn compare(&mut self, state: State) {
        let difference = match &self.mirror {
            None => {
                self.routes.hold(&state.routes);
                info!(
                    chains = state.table.chains.len(),
                    sets = state.table.sets.len(),
                    routes = state.routes.len(),
                    "found in the kernel"
                );
                String::new()
            }
            Some(_) => self.note_drift(&state),
        };
        self.mirror = Some(state);
        self.failures.remove("read");
        self.answer_checks(&difference);
    }

    /// What is there is not what should be. Only when nothing is waiting to be applied was it somebody else.
    fn note_drift(&mut self, state: &State) -> String {
        let change = Change {
            nft: nft::diff(self.ruleset.table(), &state.table),
            routes: route::diff(&self.routes.all(), &state.routes),
        };
        if change.is_empty() {
            return String::new();
        }
        if self.pending.is_quiet() && !self.failures.contains_key("routes") {
            self.metrics.drift_repairs.inc();
            warn!(repair = %change, "somebody else changed what is ours");
        }
        self.pending.compare_rules();
        self.pending.compare_routes();
        change.to_string()
    }

    fn applied(&mut self, change: &Change, outcome: &Outcome, took: Duration) {
        self.metrics.apply_seconds.observe(took.as_secs_f64());
        self.metrics.nft_transactions.inc_by(u64::from(!change.nft.is_empty()));
        // The way to a next hop may lead over a learned route.
        let recursive = self.ways.values().any(|way| way.protocol == PROTOCOL);
        if !change.routes.is_empty() && (recursive || !self.unreachable.next_hops.is_empty()) {
            self.pending.resolve();
        }
        let fits = match &mut self.mirror {
            Some(mirror) => outcome.settle(change, mirror).is_ok(),
            None => false,
        };
        if !fits {
            self.pending.read = true;
            self.pending.compare_rules();
            self.pending.compare_routes();
        }
        match &outcome.nft {
            Ok(()) => {
                self.failures.remove("rules");
                self.pending.succeeded();
                if let Some(since) = self.applying_since.take() {
                    self.metrics.event_to_applied_seconds.observe(since.elapsed().as_secs_f64());
                }
                self.note_route_failures(outcome);
                self.answer_planned();
            }
            Err(problem) => self.rules_failed(problem),
        }
    }

    /// A pod's route is wanted a moment before the plugin has its interface up: only what fails again is news.
    fn note_route_failures(&mut self, outcome: &Outcome) {
        let lines: Vec<String> = outcome
            .routes
            .iter()
            .map(|failure| format!("{}: {}", failure.route, failure.why))
            .collect();
        self.metrics.route_failures.set(i64::try_from(lines.len()).unwrap_or(i64::MAX));
        self.failed_places = outcome.routes.iter().map(|failure| failure.route.key()).collect();
        let before = self.failures.remove("routes").unwrap_or_default();
        for line in lines.iter().filter(|line| before.contains(line)) {
            if self.warned.insert(line.clone()) {
                warn!(route = line, "a route could not be changed");
            }
        }
        self.warned.retain(|line| lines.contains(line));
        if !lines.is_empty() {
            self.failures.insert("routes", lines);
        }
    }

    fn rules_failed(&mut self, problem: &CommitError) {
        self.metrics.nft_errors.inc();
        let lines = match problem {
            CommitError::Rejected(rejections) => {
                rejections.iter().map(ToString::to_string).collect()
            }
            CommitError::Drifted(_) | CommitError::Unknown(_) | CommitError::Io(_) => {
                vec![problem.to_string()]
            }
        };
        // Whatever the reason, what we believe of the kernel can no longer be trusted.
        self.pending.read = true;
        self.pending.compare_rules();
        self.pending.compare_routes();
        match problem {
            CommitError::Drifted(_) => debug!(%problem, "reading again"),
            CommitError::Rejected(_) | CommitError::Unknown(_) | CommitError::Io(_) => {
                error!(%problem, "the rules could not be changed; what was in force stays in force");
                self.fail_for_a_while("rules", lines);
            }
        }
    }

    fn fail_for_a_while(&mut self, what: &'static str, lines: Vec<String>) {
        self.failures.insert(what, lines);
        self.pending.back_off();
    }

    /// Comes back to what failed.
    pub(super) fn retry_failed(&mut self) {
        if self.last_retry.elapsed() >= RETRY {
            self.last_retry = Instant::now();
            self.pending.routes_at(self.failed_places.iter().copied());
        }
        if self.failures.contains_key("read") {
            self.pending.read = true;
        }
    }
}
