//! The state directory: one file per attachment, a journal of released addresses, one lock.
//!
//! ```text
//! /var/lib/ocicat/
//!   node.json            written by the daemon, see [`crate::node`]
//!   lock                 held while the records or the journal change
//!   endpoints/<id>.json  one [`Endpoint`] each
//!   released.json        when each address was last released
//! ```
//!
//! Every file is replaced as a whole and synced, so that a crash at any instruction leaves the old content or the new.
//! Readers need no lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::endpoint::{Endpoint, EndpointId, UnixMillis};
use crate::file::{create_directory, sync_directory, write_atomically};

/// The directory unless a network configuration says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/ocicat";

/// How many released addresses the journal remembers. The oldest are dropped; they count as never used, which is as
/// good a rank.
const LONGEST_JOURNAL: usize = 8192;

/// An open state directory.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
}

/// A state directory that nobody else changes until this is dropped.
#[derive(Debug)]
pub struct LockedStore {
    store: Store,
    _lock: File,
}

/// A file of the state directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub source: io::Error,
}

/// What the directory holds.
#[derive(Debug, Default)]
pub struct Records {
    /// The attachments, in the order of their ids.
    pub endpoints: Vec<Endpoint>,
    /// Records that cannot be read. Their addresses are unknown, so nothing can be allocated while there are any.
    pub unreadable: Vec<(EndpointId, StoreError)>,
}

impl Records {
    /// Every address that a record holds.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect()
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError { path: path.to_owned(), source }
}

impl Store {
    /// Opens the directory `state`, and makes it for root alone if it is not there.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let store = Self { state: state.to_owned() };
        let endpoints = store.endpoints_directory();
        create_directory(&endpoints).map_err(at(&endpoints))?;
        Ok(store)
    }

    /// The attachments of this node.
    pub fn records(&self) -> Result<Records, StoreError> {
        let directory = self.endpoints_directory();
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let name = entry.map_err(at(&directory))?.file_name();
            // Anything else is what a killed writer left.
            ids.extend(EndpointId::of_file(&name.to_string_lossy()));
        }
        let mut records = Records::default();
        for id in ids {
            match self.endpoint(&id) {
                Ok(found) => records.endpoints.extend(found),
                Err(error) => records.unreadable.push((id, error)),
            }
        }
        Ok(records)
    }

    /// One attachment, if there is a record of it.
    pub fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>, StoreError> {
        read(&self.record(id))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Result<LockedStore, StoreError> {
        let path = self.state.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        file.lock().map_err(at(&path))?;
        Ok(LockedStore { store: self.clone(), _lock: file })
    }

    /// When each address was last released. An unreadable journal counts as empty: it orders, it protects nothing.
    pub fn released(&self) -> BTreeMap<IpAddr, UnixMillis> {
        fs::read(self.journal())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn endpoints_directory(&self) -> PathBuf {
        self.state.join("endpoints")
    }

    fn record(&self, id: &EndpointId) -> PathBuf {
        self.endpoints_directory().join(id.file_name())
    }

    fn journal(&self) -> PathBuf {
        self.state.join("released.json")
    }
}

fn read(path: &Path) -> Result<Option<Endpoint>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Removed since the directory was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| at(path)(error.into()))
}

impl LockedStore {
    /// The directory, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes a record, new or changed. After the return a new one outlives a crash.
    pub fn put(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let path = self.store.record(&endpoint.id());
        let json = serde_json::to_vec(endpoint).map_err(|error| at(&path)(error.into()))?;
        write_atomically(&path, &json).map_err(at(&path))
    }

    /// Removes a record and notes when its addresses became free. A record that is not there is no error.
    pub fn release(
        &self,
        id: &EndpointId,
        addresses: &[IpAddr],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        // The journal first: between the two an address is in use and released, and in use wins.
        self.note_release(addresses, now)?;
        let path = self.store.record(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            Ok(()) | Err(_) => {}
        }
        let directory = self.store.endpoints_directory();
        sync_directory(&directory).map_err(at(&directory))
    }

    fn note_release(&self, addresses: &[IpAddr], now: UnixMillis) -> Result<(), StoreError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let mut released = self.store.released();
        released.extend(addresses.iter().map(|address| (*address, now)));
        while released.len() > LONGEST_JOURNAL {
            let oldest = released.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            oldest.and_then(|address| released.remove(&address));
        }
        let path = self.store.journal();
        let json = serde_json::to_vec(&released).map_err(|error| at(&path)(error.into()))?;
        write_atomically(&path, &json).map_err(at(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Stage;

    fn endpoint(container_id: &str, address: &str) -> Endpoint {
        Endpoint {
            namespace: "default".into(),
            pod: "web".into(),
            uid: None,
            container_id: container_id.into(),
            netns: "/run/netns/web".into(),
            ifname: "eth0".into(),
            host_interface: "oci0".into(),
            addresses: vec![address.parse().unwrap()],
            created: UnixMillis(7),
            stage: Stage::Reserved,
        }
    }

    fn open() -> (tempfile::TempDir, Store) {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        (state, store)
    }

    #[test]
    fn a_record_lives_from_put_to_release() {
        let (_state, store) = open();
        let endpoint = endpoint("a", "10.65.1.2");
        store.lock().unwrap().put(&endpoint).unwrap();
        assert_eq!(store.records().unwrap().endpoints, std::slice::from_ref(&endpoint));
        assert_eq!(store.endpoint(&endpoint.id()).unwrap(), Some(endpoint.clone()));

        let locked = store.lock().unwrap();
        locked.release(&endpoint.id(), &endpoint.addresses, UnixMillis(9)).unwrap();
        assert_eq!(store.records().unwrap().endpoints, []);
        assert_eq!(store.released(), BTreeMap::from([(endpoint.addresses[0], UnixMillis(9))]));
    }

    #[test]
    fn releasing_twice_is_no_error() {
        let (_state, store) = open();
        let locked = store.lock().unwrap();
        for _ in 0..2 {
            locked.release(&EndpointId::new("a", "eth0"), &[], UnixMillis(9)).unwrap();
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_no_record() {
        let (state, store) = open();
        fs::write(state.path().join("endpoints/a@eth0.json.tmp"), "{\"names").unwrap();
        let records = store.records().unwrap();
        assert!(records.endpoints.is_empty() && records.unreadable.is_empty());
    }

    #[test]
    fn a_damaged_record_is_reported_beside_the_good_ones() {
        let (state, store) = open();
        store.lock().unwrap().put(&endpoint("b", "10.65.1.2")).unwrap();
        fs::write(state.path().join("endpoints/a@eth0.json"), "{\"names").unwrap();
        let records = store.records().unwrap();
        assert_eq!(records.endpoints.len(), 1);
        assert!(records.unreadable[0].1.to_string().contains("a@eth0.json"));
    }

    #[test]
    fn a_damaged_journal_counts_as_empty() {
        let (state, store) = open();
        fs::write(state.path().join("released.json"), "[").unwrap();
        assert!(store.released().is_empty());
    }

    #[test]
    fn the_journal_forgets_the_oldest() {
        let (_state, store) = open();
        let locked = store.lock().unwrap();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let many: Vec<IpAddr> = (1..=8192).map(address).collect();
        locked.note_release(&many, UnixMillis(5)).unwrap();
        locked.note_release(&[address(1), address(9000)], UnixMillis(6)).unwrap();
        let released = store.released();
        assert_eq!(released.len(), LONGEST_JOURNAL);
        assert!(released.contains_key(&address(1)) && released.contains_key(&address(9000)));
        assert!(!released.contains_key(&address(2)));
    }
}
