//! A pod's network namespace, and what has to be done from inside it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// The namespace of the calling thread (not of the process: the two differ in a test that plays a node).
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
pub(crate) struct Netns {
    file: File,
}

impl Netns {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file; `InvalidInput` if it is the namespace of the calling thread, in which a
    /// pod's routes must never land.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let [theirs, ours] = [file.metadata()?, std::fs::metadata(OWN)?];
        if theirs.ino() == ours.ino() && theirs.dev() == ours.dev() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is the node's own network namespace",
            ));
        }
        Ok(Self { file })
    }

    /// Does `work` with the calling thread inside the namespace.
    ///
    /// # Panics
    ///
    /// If the thread cannot return: anything it did from then on would hit the pod instead of the node.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let home = File::open(OWN)?;
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        let result = work();
        setns(&home, CloneFlags::CLONE_NEWNET)
            .expect("a namespace that this thread has just left can be entered again");
        result
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
