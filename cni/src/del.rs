//! DEL and GC: take down what an ADD has made, however far it came.
//!
//! Neither needs the daemon, and both succeed when there is nothing left to take down.

use std::collections::BTreeSet;

use crate::add::withdraw;
use crate::endpoint::{Endpoint, EndpointId, Stage, UnixMillis};
use crate::linux::{self, Netns};
use crate::spec::{Code, Config, Container, Environment, Error};
use crate::store::{Store, StoreError};

/// DEL. Gives what the operator should know.
pub(crate) fn del(environment: &Environment, config: &Config) -> Result<Vec<String>, Error> {
    let container = environment.container()?;
    let store = Store::open(&config.state)?;
    let mut removal = Removal::new(&store, config);
    match store.endpoint(&container.id()) {
        Ok(Some(endpoint)) => removal.take_down(&endpoint)?,
        Ok(None) => remove_pair(&container)?,
        Err(error) => {
            remove_pair(&container)?;
            removal.forget(&container.id(), &error)?;
        }
    }
    Ok(removal.notes)
}

/// GC. Goes on after an error, and reports the errors together.
///
/// A runtime runs no ADD meanwhile (section 3, "Lifecycle & Ordering"), so what is not listed is not in the making.
pub(crate) fn gc(config: &Config) -> Result<Vec<String>, Error> {
    let Some(valid) = &config.valid_attachments else {
        let msg = "GC without cni.dev/valid-attachments would remove every attachment";
        return Err(Error::new(Code::InvalidConfig, msg));
    };
    let valid: BTreeSet<EndpointId> = valid
        .iter()
        .map(|attachment| EndpointId::new(&attachment.container_id, &attachment.ifname))
        .collect();
    let store = Store::open(&config.state)?;
    let records = store.records()?;
    let mut removal = Removal::new(&store, config);
    let mut failures = Vec::new();
    for endpoint in records.endpoints.iter().filter(|endpoint| !valid.contains(&endpoint.id())) {
        match removal.take_down(endpoint) {
            Ok(()) => removal.notes.push(format!("removed {}", endpoint.id())),
            Err(error) => failures.push(format!("{}: {error}", endpoint.id())),
        }
    }
    for (id, error) in records.unreadable.iter().filter(|(id, _)| !valid.contains(id)) {
        removal.forget(id, error)?;
    }
    if failures.is_empty() {
        return Ok(removal.notes);
    }
    Err(Error::new(Code::Plumbing, failures.join("; ")))
}

/// The removal of one attachment or several.
struct Removal<'a> {
    store: &'a Store,
    config: &'a Config,
    /// A daemon that has once not answered is not asked again: it reads the directory when it comes back.
    daemon_answers: bool,
    notes: Vec<String>,
}

impl<'a> Removal<'a> {
    fn new(store: &'a Store, config: &'a Config) -> Self {
        Self { store, config, daemon_answers: true, notes: Vec::new() }
    }

    /// The interface first, then the daemon, the record last: whatever interrupts this, a second DEL goes on with it,
    /// and nobody gets the addresses before the daemon has forgotten whose they were.
    fn take_down(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        if let Some(index) = self.own_link(endpoint)? {
            linux::remove_host_link(index)?;
        }
        if self.daemon_answers
            && let Err(error) = withdraw(&self.config.socket, endpoint)
        {
            self.daemon_answers = false;
            self.notes.push(error.to_string());
        }
        let now = UnixMillis::now();
        Ok(self.store.lock()?.release(&endpoint.id(), &endpoint.addresses, now)?)
    }

    /// Removes a record that cannot be read.
    fn forget(&mut self, id: &EndpointId, error: &StoreError) -> Result<(), Error> {
        self.notes.push(format!("{error}; removed it"));
        Ok(self.store.lock()?.release(id, &[], UnixMillis::now())?)
    }

    /// The index of the attachment's interface on the node. `None` if it is gone, or if the interface of that name
    /// belongs to a newer sandbox of the same pod.
    ///
    /// Under the lock, in which an ADD supersedes the older record before it makes its interface. The index cannot come
    /// to mean another interface, as the name can.
    fn own_link(&self, endpoint: &Endpoint) -> Result<Option<u32>, Error> {
        let _locked = self.store.lock()?;
        match self.store.endpoint(&endpoint.id())?.map(|endpoint| endpoint.stage) {
            None | Some(Stage::Superseded) => Ok(None),
            Some(Stage::Reserved | Stage::Attached) => {
                Ok(linux::host_link_index(&endpoint.host_interface)?)
            }
        }
    }
}

/// Without a record only the container's end can say which interface was ours.
fn remove_pair(container: &Container) -> Result<(), Error> {
    let Some(path) = &container.netns else { return Ok(()) };
    // A namespace that is gone has taken its interfaces along.
    let Ok(netns) = Netns::open(path) else { return Ok(()) };
    Ok(linux::remove_pod_link(&netns, &container.ifname)?)
}
