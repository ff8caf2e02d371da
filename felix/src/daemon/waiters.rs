//! Plugins that wait for "enforced".

use std::time::{Duration, Instant};

use ocicat_cni::daemon::Refusal;
use ocicat_cni::endpoint::{Endpoint, EndpointId};
use tokio::sync::oneshot;

use super::endpoints;
use crate::plan::ruleset::Ruleset;

/// A little less than the plugin's own patience, so that it hears a reason.
const PATIENCE: Duration = Duration::from_secs(8);

/// One plugin that waits.
pub(super) struct Waiter {
    pub(super) endpoint: Endpoint,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<serde_json::Value>,
    /// Its policy is in the change that is being applied.
    planned: bool,
}

impl Waiter {
    pub(super) fn new(endpoint: Endpoint, reply: oneshot::Sender<serde_json::Value>) -> Self {
        Self { endpoint, since: Instant::now(), reply, planned: false }
    }
}

/// All that wait.
#[derive(Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    pub(super) fn push(&mut self, waiter: Waiter) {
        self.0.push(waiter);
    }

    pub(super) fn drop(&mut self, id: &EndpointId) {
        self.0.retain(|waiter| waiter.endpoint.id() != *id);
    }

    /// A change is made from these rules: who finds its interface there is answered when it is done.
    pub(super) fn planned(&mut self, ruleset: &Ruleset) {
        for waiter in &mut self.0 {
            waiter.planned |= ruleset.has_endpoint(&waiter.endpoint);
        }
    }

    pub(super) fn take_planned(&mut self) -> Vec<Waiter> {
        let (done, waiting) = std::mem::take(&mut self.0).into_iter().partition(|w| w.planned);
        self.0 = waiting;
        done
    }

    /// Refuses those who have waited too long, and forgets those who have gone.
    pub(super) fn expire(&mut self, reason: impl Fn(&Endpoint) -> Refusal) {
        self.0.retain(|waiter| !waiter.reply.is_closed());
        let (late, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|w| w.since.elapsed() > PATIENCE);
        self.0 = waiting;
        for waiter in late {
            let Refusal { code, message } = reason(&waiter.endpoint);
            endpoints::refuse(waiter.reply, code, message);
        }
    }
}
