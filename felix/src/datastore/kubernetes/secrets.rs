//! The Secrets that the daemon wants to know, each watched by its name: that is all that the agent may read of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::Message;
use super::watch::{Scope, Watch};
use crate::datastore::Event;

/// The watches of single Secrets.
pub(super) struct Secrets {
    namespace: String,
    client: Client,
    sender: mpsc::Sender<Message>,
    reachable: Arc<Notify>,
    watched: BTreeMap<String, AbortHandle>,
}

impl Secrets {
    pub(super) fn new(
        namespace: String,
        client: Client,
        sender: mpsc::Sender<Message>,
        reachable: Arc<Notify>,
    ) -> Self {
        Self { namespace, client, sender, reachable, watched: BTreeMap::new() }
    }

    /// Watches what is wanted, until the daemon has gone.
    pub(super) async fn follow(mut self, mut wanted: watch::Receiver<BTreeSet<String>>) {
        loop {
            let names = wanted.borrow_and_update().clone();
            if self.settle(&names).await.is_err() || wanted.changed().await.is_err() {
                break;
            }
        }
        self.watched.values().for_each(AbortHandle::abort);
    }

    async fn settle(
        &mut self,
        names: &BTreeSet<String>,
    ) -> Result<(), mpsc::error::SendError<Message>> {
        let unwanted: Vec<String> =
            self.watched.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in unwanted {
            if let Some(watch) = self.watched.remove(&name) {
                watch.abort();
            }
            // What was wrong with it is nobody's problem any more.
            let scope = self.scope(&name);
            let events =
                scope.origins().map(|origin| Event::Problems { origin, problems: Vec::new() });
            self.sender.send(Message::Events(events.into())).await?;
        }
        for name in names {
            if !self.watched.contains_key(name) {
                let sender = self.sender.clone();
                let watch =
                    Watch::new(self.scope(name), &self.client, sender, Arc::clone(&self.reachable));
                self.watched.insert(name.clone(), tokio::spawn(watch.run()).abort_handle());
            }
        }
        Ok(())
    }

    fn scope(&self, name: &str) -> Scope {
        Scope::Secret { namespace: self.namespace.clone(), name: name.to_owned() }
    }
}
