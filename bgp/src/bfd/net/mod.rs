//! The edge of BFD: one thread that owns an [`Engine`](super::Engine), its sockets and its clock.
//!
//! The thread is an ordinary one with `poll`, apart from everything that handles routes, and asks
//! the kernel to be run before others (`priority`). On each turn it reads what has come, and only
//! then judges silence, so that a delay of its own is never taken for one of the peer.

mod driver;
mod priority;
mod receiver;
mod sender;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Event, SessionConfig, SessionName, SessionSnapshot};
use driver::Driver;

/// The BFD thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the BFD thread has ended")]
pub struct Stopped;

/// Where a snapshot goes; called on the BFD thread.
type Reply = Box<dyn FnOnce(Vec<SessionSnapshot>) + Send>;
/// Where news go; called on the BFD thread.
type Sink = Box<dyn FnMut(Event) + Send>;

/// A request.
enum Command {
    Configure(BTreeMap<SessionName, SessionConfig>),
    Snapshot(Reply),
    Stop,
}

/// A running BFD thread. When it is dropped, the thread ends as by [`Handle::stop`].
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// Wakes the thread.
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the BFD thread, without sessions. News go to `sink`, which must not block.
///
/// # Errors
/// When the system gives no thread or no descriptor. A port that is taken is not an error here but
/// shown by the sessions that need it ([`SessionSnapshot::error`]), and is tried again.
pub fn spawn(sink: impl FnMut(Event) + Send + 'static) -> io::Result<Handle> {
    let (commands, requests) = mpsc::channel();
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    // The standard library's only source of randomness, of 64 bits that the kernel gave.
    let seed = RandomState::new().build_hasher().finish();
    let driver = Driver::new(seed, requests, Arc::clone(&bell), Box::new(sink));
    let thread = std::thread::Builder::new().name("bfd".into()).spawn(move || driver.run())?;
    Ok(Handle { commands, bell, thread: Some(thread) })
}

impl Handle {
    /// Takes a new configuration into force; see [`Engine::configure`](super::Engine::configure).
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn configure(&self, sessions: BTreeMap<SessionName, SessionConfig>) -> Result<(), Stopped> {
        self.send(Command::Configure(sessions))
    }

    /// Has `reply` called with every session as it is, on the BFD thread.
    ///
    /// # Errors
    /// When the thread has ended; then `reply` is not called.
    pub fn snapshot(
        &self,
        reply: impl FnOnce(Vec<SessionSnapshot>) + Send + 'static,
    ) -> Result<(), Stopped> {
        self.send(Command::Snapshot(Box::new(reply)))
    }

    /// Says AdminDown to every peer, so that none takes our end for a failure of the path, and ends
    /// the thread. Takes some 50 ms.
    pub fn stop(mut self) {
        // Both fail only if the thread has ended already.
        let _ = self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).map_err(|_| Stopped)?;
        // Fails when the count is full: then the thread is awake.
        let _ = self.bell.write(1);
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.send(Command::Stop);
    }
}
