//! Where the picture of the cluster comes from: a Kubernetes API server, or a directory of Kubernetes YAML.
//!
//! Both give the same [`Event`]s. Nothing here decides anything: an object that can be read is handed on, one that
//! cannot becomes a [`Problem`].

pub mod calico;
pub mod directory;
pub mod kubernetes;
mod object;
mod secret;

pub use object::{Invalid, Key, Kind, Object, Parsed, Unusable};
pub use secret::{Secret, SecretValue};

use crate::problem::Problem;

/// What a datastore tells the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The object is there, or has changed.
    Put(Box<Object>),
    /// The object is gone.
    Delete(Key),
    /// All that is wrong with what `origin` holds; empty when it is well again.
    Problems {
        /// A file, an object, or a kind that the server lacks.
        origin: String,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// All objects of a kind that is followed on demand have been told.
    Listed(Kind),
    /// A kind that is followed on demand is not any more: nothing of it is known.
    Unfollowed(Kind),
    /// Everything that was there at the start has been told.
    Synced,
}

/// A source of events. The two real ones are [`directory::Directory`] and [`kubernetes::Kubernetes`].
pub trait Datastore {
    /// The next events, at least one; `None` when the source has ended for good.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Event>>> + Send;
}
