//! DEL and GC: take down what an ADD has made, however far it came.
//!
//! Neither needs the daemon, and both succeed when there is nothing left to take down.

use std::collections::BTreeSet;

use crate::add::withdraw;
use crate::endpoint::{Endpoint, EndpointId, INTERFACE_PREFIX, UnixMillis};
use crate::linux::{self, Netns};
use crate::spec::{Code, Config, Container, Environment, Error};
use crate::store::Store;

/// DEL. Gives what the operator should know.
pub(crate) fn del(environment: &Environment, config: &Config) -> Result<Vec<String>, Error> {
    let container = environment.container()?;
    let store = Store::open(&config.state)?;
    let mut notes = Vec::new();
    match store.endpoint(&container.id()) {
        Ok(Some(endpoint)) => take_down(&store, config, &endpoint, &mut notes)?,
        Ok(None) => remove_pair(&container)?,
        Err(error) => {
            notes.push(format!("{error}; removed it"));
            remove_pair(&container)?;
            store.lock()?.release(&container.id(), &[], UnixMillis::now())?;
        }
    }
    Ok(notes)
}

/// GC. Goes on after an error, and reports the errors together.
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
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    for endpoint in records.endpoints.iter().filter(|endpoint| !valid.contains(&endpoint.id())) {
        match take_down(&store, config, endpoint, &mut notes) {
            Ok(()) => notes.push(format!("removed {}", endpoint.id())),
            Err(error) => failures.push(format!("{}: {error}", endpoint.id())),
        }
    }
    for (id, error) in records.unreadable.iter().filter(|(id, _)| !valid.contains(id)) {
        store.lock()?.release(id, &[], UnixMillis::now())?;
        notes.push(format!("{error}; removed it"));
    }
    if failures.is_empty() {
        return Ok(notes);
    }
    Err(Error::new(Code::Plumbing, failures.join("; ")))
}

/// The interface first, then the daemon, the record last: whatever interrupts this, a second DEL goes on with it, and
/// nobody gets the addresses before the daemon has forgotten whose they were.
fn take_down(
    store: &Store,
    config: &Config,
    endpoint: &Endpoint,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(index) = own_link(store, endpoint)? {
        linux::remove_host_link(index)?;
    }
    if let Err(error) = withdraw(&config.socket, endpoint) {
        notes.push(error.to_string());
    }
    store.lock()?.release(&endpoint.id(), &endpoint.addresses, UnixMillis::now())?;
    Ok(())
}

/// The index of the attachment's interface on the node. `None` if it is gone, or if the interface of that name belongs
/// to a newer sandbox of the same pod.
///
/// Under the lock, since an ADD writes its record before it makes its interface: an interface that is there while no
/// other record names it is this attachment's. The index cannot come to mean another interface, as the name can.
fn own_link(store: &Store, endpoint: &Endpoint) -> Result<Option<u32>, Error> {
    let _locked = store.lock()?;
    let superseded = store.records()?.endpoints.iter().any(|other| {
        other.id() != endpoint.id() && other.host_interface == endpoint.host_interface
    });
    if superseded { Ok(None) } else { Ok(linux::host_link_index(&endpoint.host_interface)?) }
}

/// Without a record only the container's end can say which interface was ours.
fn remove_pair(container: &Container) -> Result<(), Error> {
    let Some(path) = &container.netns else { return Ok(()) };
    // A namespace that is gone has taken its interfaces along.
    let Ok(netns) = Netns::open(path) else { return Ok(()) };
    Ok(linux::remove_pod_link(&netns, &container.ifname, INTERFACE_PREFIX)?)
}
