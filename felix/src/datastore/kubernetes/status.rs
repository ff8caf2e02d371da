//! Writes the status of CalicoNodeStatus objects: the only thing that the agent writes to the API server.

use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::watch::{self, Interruption};
use crate::datastore::Kind;
use crate::datastore::calico::status::NodeStatus;

/// A status that is to be written.
#[derive(Debug)]
pub struct StatusWrite {
    /// The name of the object.
    pub name: String,
    /// Its status.
    pub status: NodeStatus,
    /// Told when it was written, or why it was not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Writes what it is asked to, one after the other, until the daemon has gone.
pub(super) async fn write(client: Client, mut writes: mpsc::Receiver<StatusWrite>) {
    let api = watch::api_of(Kind::CalicoNodeStatus, client);
    while let Some(StatusWrite { name, status, done }) = writes.recv().await {
        // A merge patch of the status needs no version: nobody else writes it.
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        let result = watch::in_time(api.patch_status(&name, &params, &patch)).await;
        // The daemon may have stopped waiting.
        let _ = done.send(result.map(drop).map_err(why));
    }
}

fn why(interruption: Interruption) -> String {
    match interruption {
        Interruption::Absent => {
            "the API server has no such object, or its kind has no subresource for its status"
                .to_owned()
        }
        Interruption::Failed(why) => why,
        Interruption::Closed | Interruption::Expired | Interruption::Unselectable => {
            "the API server does not take it".to_owned()
        }
    }
}
