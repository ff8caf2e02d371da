//! Services and EndpointSlices: many objects, and much ado about them, so that they are watched only as long as the
//! daemon tells their addresses.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch as state};
use tokio::task::JoinHandle;

use super::Message;
use super::watch::{Scope, Watch};
use crate::datastore::{Event, Kind};

/// The kinds that are watched on demand.
pub(super) const KINDS: [Kind; 2] = [Kind::Service, Kind::EndpointSlice];

/// Watches while `wanted`, until the daemon has gone.
pub(super) async fn follow(
    client: Client,
    sender: mpsc::Sender<Message>,
    reachable: Arc<Notify>,
    mut wanted: state::Receiver<bool>,
) {
    let mut watches: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let now = *wanted.borrow_and_update();
        if now && watches.is_empty() {
            let watch = |kind| {
                let scope = Scope::Everything(kind);
                Watch::new(scope, &client, sender.clone(), Arc::clone(&reachable)).run()
            };
            watches.extend(KINDS.map(|kind| tokio::spawn(watch(kind))));
        } else if !now {
            end(&mut watches).await;
            let events = KINDS.into_iter().flat_map(|kind| {
                let origin = Scope::Everything(kind).origin();
                [Event::Unfollowed(kind), Event::Problems { origin, problems: Vec::new() }]
            });
            if sender.send(Message::Events(events.collect())).await.is_err() {
                return;
            }
        }
        if wanted.changed().await.is_err() {
            break;
        }
    }
    end(&mut watches).await;
}

/// Once this is over none of them says anything any more.
async fn end(watches: &mut Vec<JoinHandle<()>>) {
    for watch in watches.drain(..) {
        watch.abort();
        // It ends because it was told to.
        let _ = watch.await;
    }
}
