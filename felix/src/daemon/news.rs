//! What happens to sessions and routes, for those who look: kept for a while, and told on a stream.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ocicat_bgp::speaker::{DownReason, PeerName, Route, State};
use tokio::sync::broadcast;

use crate::api::bgp::Event;

/// So many events of a peer are kept.
const KEPT: usize = 20;
/// So many events may wait for a slow reader of the stream.
const WAITING: usize = 4096;

/// The news of the speaker.
pub(super) struct News {
    sender: broadcast::Sender<Event>,
    of_peers: BTreeMap<PeerName, History>,
}

/// What happened to the sessions with a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    last_error: Option<Instant>,
}

impl History {
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.iter().cloned().collect()
    }

    /// How many seconds ago the last session or attempt ended.
    pub(super) fn last_error_seconds(&self) -> Option<u64> {
        self.last_error.map(|at| at.elapsed().as_secs())
    }
}

impl Default for News {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(WAITING), of_peers: BTreeMap::new() }
    }
}

impl News {
    /// Where the stream is heard.
    pub(super) fn sender(&self) -> broadcast::Sender<Event> {
        self.sender.clone()
    }

    pub(super) fn history(&self, peer: &PeerName) -> Option<&History> {
        self.of_peers.get(peer)
    }

    /// The peers of which something is kept.
    pub(super) fn names(&self) -> impl Iterator<Item = &PeerName> {
        self.of_peers.keys()
    }

    /// Forgets peers that are not there any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(&PeerName) -> bool) {
        self.of_peers.retain(|name, _| wanted(name));
    }

    /// That a peer does not answer is no news each time that it is tried.
    pub(super) fn session(
        &mut self,
        peer: PeerName,
        (old, new): (State, State),
        reason: Option<&DownReason>,
    ) {
        let event = if new == State::Established {
            Event::SessionUp { at: now(), peer: peer.to_string() }
        } else if old == State::Established || reason.is_some_and(|reason| reason.code.is_some()) {
            Event::SessionDown {
                at: now(),
                peer: peer.to_string(),
                was: old.to_string(),
                reason: reason.map(ToString::to_string).unwrap_or_default(),
                code: reason.and_then(|reason| reason.code),
            }
        } else {
            if let (Some(_), Some(history)) = (reason, self.of_peers.get_mut(&peer)) {
                history.last_error = Some(Instant::now());
            }
            return;
        };
        let history = self.of_peers.entry(peer).or_default();
        if new != State::Established {
            history.last_error = Some(Instant::now());
        }
        if history.events.len() == KEPT {
            history.events.pop_front();
        }
        history.events.push_back(event.clone());
        self.tell(|| event);
    }

    pub(super) fn route(&self, route: &Route) {
        self.tell(|| Event::RouteChanged {
            at: now(),
            prefix: route.prefix.to_string(),
            paths: route
                .next_hops
                .iter()
                .map(|via| (via.address.to_string(), via.peer.to_string()))
                .collect(),
        });
    }

    pub(super) fn withdrawn(&self, prefix: ocicat_bgp::wire::Prefix) {
        self.tell(|| Event::RouteWithdrawn { at: now(), prefix: prefix.to_string() });
    }

    /// Costs nothing while nobody listens.
    fn tell(&self, event: impl FnOnce() -> Event) {
        if self.sender.receiver_count() > 0 {
            // The last listener may have gone this moment.
            let _ = self.sender.send(event());
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
