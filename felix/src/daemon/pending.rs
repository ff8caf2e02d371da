//! What waits to be done to the kernel, gathered while it is busy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::dataplane::RouteKey;
use crate::nft::Transaction;
use crate::plan::ruleset::Update;

/// The shortest and the longest wait before something that the kernel refused is tried again.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// What is waiting for the writer.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) rules: Rules,
    pub(super) routes: Places,
    /// The kernel is to be read.
    pub(super) read: bool,
    pub(super) resolve: bool,
    pub(super) prepare: bool,
    pub(super) adopt: BTreeSet<String>,
    pub(super) forget: BTreeSet<IpAddr>,
    /// The first change was made, or none was needed.
    pub(super) applied_once: bool,
    failing: Option<Failing>,
}

/// How the rules differ from the mirror.
#[derive(Debug, Default)]
pub(super) enum Rules {
    #[default]
    Same,
    /// By these elements.
    Elements(Transaction),
    /// By more than elements, or in a way that must be found out.
    Unknown,
}

/// Where routes may differ from the mirror.
#[derive(Debug)]
pub(super) enum Places {
    These(BTreeSet<RouteKey>),
    Anywhere,
}

impl Default for Places {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

#[derive(Debug)]
struct Failing {
    again: Instant,
    wait: Duration,
}

impl Pending {
    /// The rules are to follow.
    pub(super) fn rules(&mut self, update: Update) {
        match (&mut self.rules, update) {
            (_, Update::Structure) => self.rules = Rules::Unknown,
            (_, Update::Elements(more)) if more.is_empty() => {}
            (Rules::Same, Update::Elements(more)) => self.rules = Rules::Elements(more),
            (Rules::Elements(before), Update::Elements(more)) => before.ops.extend(more.ops),
            (Rules::Unknown, Update::Elements(_)) => {}
        }
    }

    /// Nothing failed so recently that it should not be tried again yet.
    pub(super) fn may_try(&self) -> bool {
        self.failing.as_ref().is_none_or(|failing| failing.again <= Instant::now())
    }

    /// Nothing waits to be applied.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.rules, Rules::Same)
            && matches!(&self.routes, Places::These(places) if places.is_empty())
    }

    pub(super) fn compare_rules(&mut self) {
        self.rules = Rules::Unknown;
    }

    /// Routes may differ in these places.
    pub(super) fn routes_at(&mut self, more: impl IntoIterator<Item = RouteKey>) {
        match &mut self.routes {
            Places::These(places) => places.extend(more),
            Places::Anywhere => {}
        }
    }

    /// Routes may differ anywhere.
    pub(super) fn compare_routes(&mut self) {
        self.routes = Places::Anywhere;
    }

    pub(super) fn resolve(&mut self) {
        self.resolve = true;
    }

    pub(super) fn prepare(&mut self) {
        self.prepare = true;
    }

    pub(super) fn adopt(&mut self, interface: String) {
        self.adopt.insert(interface);
    }

    pub(super) fn forget(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.forget.extend(addresses);
    }

    /// The kernel took a change.
    pub(super) fn succeeded(&mut self) {
        self.failing = None;
        self.applied_once = true;
    }

    /// The kernel did not; the next try waits, and longer each time.
    pub(super) fn back_off(&mut self) {
        let [shortest, longest] = BACKOFF;
        let wait = self.failing.as_ref().map_or(shortest, |failing| failing.wait * 2).min(longest);
        self.failing = Some(Failing { again: Instant::now() + wait, wait });
    }
}
