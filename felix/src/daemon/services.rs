//! Services are followed only where their addresses are told; then the speaker waits for them before its first word, or
//! what an earlier life told of them would be taken back for a moment.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Daemon;
use crate::plan::peering;

/// So long the start waits: an API server that refuses Services must not keep everything else from being done.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the datastore is asked for.
#[derive(Debug)]
pub(super) struct Demand {
    wanted: watch::Sender<bool>,
    since: Option<Instant>,
}

impl Demand {
    pub(super) fn new(wanted: watch::Sender<bool>) -> Self {
        Self { wanted, since: None }
    }
}

impl Daemon {
    /// Asks for Services, or for no more of them.
    pub(super) fn follow_services(&mut self) {
        let now = peering::asks_for_services(&self.world);
        self.services.wanted.send_if_modified(|wanted| std::mem::replace(wanted, now) != now);
    }

    /// Whether the start has to wait for them.
    pub(super) fn awaits_services(&mut self) -> bool {
        self.follow_services();
        let since = *self.services.since.get_or_insert_with(Instant::now);
        let missing = *self.services.wanted.borrow() && !self.world.knows_services();
        missing && since.elapsed() < PATIENCE
    }
}
