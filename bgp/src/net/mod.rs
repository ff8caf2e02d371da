//! The edge: one thread that owns a [`Speaker`](crate::speaker::Speaker), its sockets and its clock.
//!
//! [`spawn`] starts the thread and gives a [`Handle`] for requests and a receiver of [`Event`]
//! batches. Inside, one task does everything (`driver`): it reads what is ready, at most 64 KiB of
//! one connection at a time, hands it to the speaker, fires the timers, then writes. Nothing here
//! knows the protocol.
//!
//! Nothing grows without bound: a blocked socket holds some 64 KiB, the rest stays with the speaker
//! as routes to tell; and when the daemon falls behind with events, no more input is read.

mod cache;
mod command;
mod connection;
mod discovery;
mod driver;
mod event;
mod listen;
mod refused;
mod signal;
mod socket;
mod station;
mod tcp_ao;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::bfd::SessionSnapshot;
use crate::speaker::{
    Asked, AttributeSnapshot, CacheSnapshot, Config, DumpCursor, Links, NotAsked, Originated,
    PeerName, PeerSnapshot, RouteSnapshot, StationSnapshot, Unreachable,
};
use crate::wire::{Family, FamilySet, Prefix};
use command::Command;
use driver::Driver;

pub use command::Goodbye;
pub(crate) use driver::now;
pub use event::Event;
pub use refused::RefusedConnections;

/// Batches of events that may wait for the daemon.
const EVENT_BATCHES: usize = 4;

/// The BGP thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the BGP thread has ended")]
pub struct Stopped;

/// A running BGP thread, seen from outside. Cheap to clone. When the last one is dropped, the
/// thread ends as for a restart.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
}

/// A running BGP thread.
#[derive(Debug)]
pub struct Running {
    /// For requests.
    pub handle: Handle,
    /// News, in batches. To be received steadily: when it is full, peers are not heard.
    pub events: mpsc::Receiver<Vec<Event>>,
    /// The thread itself; joins after [`Handle::stop`].
    pub thread: JoinHandle<()>,
}

/// Starts the BGP thread.
///
/// # Errors
/// When the system gives no thread or no event queue. A port that cannot be listened on is not an
/// error here but an [`Event::ListenFailed`], and is tried again.
pub fn spawn(config: impl Into<Arc<Config>>) -> io::Result<Running> {
    let config = config.into();
    let (commands, requests) = mpsc::unbounded_channel();
    let (news, events) = mpsc::channel(EVENT_BATCHES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The standard library's only source of randomness; jitter needs no better one.
    let seed = RandomState::new().build_hasher().finish();
    let driver = async move { Driver::new(config, seed, requests, news).run().await };
    let body = move || runtime.block_on(driver);
    let thread = std::thread::Builder::new().name("bgp".into()).spawn(body)?;
    Ok(Running { handle: Handle { commands }, events, thread })
}

/// What [`Handle::unused_next_hops`] finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedNextHops {
    /// By these no path goes.
    pub by_all: BTreeSet<IpAddr>,
    /// By these none goes to these prefixes, of those that were asked about.
    pub by_some: BTreeMap<IpAddr, BTreeSet<Prefix>>,
}

impl Handle {
    /// Takes a new configuration into force; see [`Speaker::configure`](crate::speaker::Speaker::configure).
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn configure(&self, config: impl Into<Arc<Config>>) -> Result<(), Stopped> {
        self.send(Command::Configure(config.into()))
    }

    /// Originates a prefix, or changes its attributes.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn originate(&self, prefix: Prefix, originated: Originated) -> Result<(), Stopped> {
        self.send(Command::Originate(prefix, originated))
    }

    /// Ends what [`Self::originate`] or the configuration began.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn withdraw(&self, prefix: Prefix) -> Result<(), Stopped> {
        self.send(Command::Withdraw(prefix))
    }

    /// Says what the node cannot reach; see
    /// [`Speaker::set_unreachable`](crate::speaker::Speaker::set_unreachable).
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn set_unreachable(&self, unreachable: Unreachable) -> Result<(), Stopped> {
        self.send(Command::Unreachable(unreachable))
    }

    /// Says through which interfaces routers and peers are reached; see
    /// [`Speaker::set_links`](crate::speaker::Speaker::set_links).
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn set_links(&self, links: Links) -> Result<(), Stopped> {
        self.send(Command::Links(links))
    }

    /// Every peer as it is now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn peers(&self) -> Result<Vec<PeerSnapshot>, Stopped> {
        self.ask(Command::Peers).await
    }

    /// Every monitoring station as it is now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn stations(&self) -> Result<Vec<StationSnapshot>, Stopped> {
        self.ask(Command::Stations).await
    }

    /// Every cache of the RPKI as it is now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn caches(&self) -> Result<Vec<CacheSnapshot>, Stopped> {
        self.ask(Command::Caches).await
    }

    /// How many connections were refused since the start.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn refused(&self) -> Result<RefusedConnections, Stopped> {
        self.ask(Command::Refused).await
    }

    /// The BFD session of every peer that has one.
    ///
    /// # Errors
    /// When the thread has ended, or that of BFD.
    pub async fn bfd(&self) -> Result<Vec<SessionSnapshot>, Stopped> {
        self.ask(Command::Bfd).await
    }

    /// Every prefix with all its paths, in no special order. Taken in slices between which the
    /// thread goes on with its work, so the table may change meanwhile.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn routes(&self, family: Family) -> Result<Vec<RouteSnapshot>, Stopped> {
        let mut all = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let (routes, rest) =
                self.ask(|answer| Command::Routes { family, from, answer }).await?;
            all.extend(routes);
            next = rest;
        }
        Ok(all)
    }

    /// Those of these next hops by which no path goes, chosen or not, and those by which none goes to some of the prefixes
    /// beside them, with these. Walks over the table in slices as [`Self::routes`] does, until each is seen to be used.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn unused_next_hops(
        &self,
        mut among: BTreeMap<IpAddr, BTreeSet<Prefix>>,
    ) -> Result<UnusedNextHops, Stopped> {
        let mut unused: BTreeSet<IpAddr> = among.keys().copied().collect();
        for family in Family::ALL {
            let mut next = Some(0);
            while let Some(from) = next.filter(|_| !(among.is_empty() && unused.is_empty())) {
                let (routes, rest) =
                    self.ask(|answer| Command::Routes { family, from, answer }).await?;
                for route in &routes {
                    for hop in route.paths.iter().filter_map(|path| path.next_hop.as_ref()) {
                        unused.remove(&hop.address);
                        if let Some(prefixes) = among.get_mut(&hop.address) {
                            prefixes.remove(&route.prefix);
                        }
                    }
                }
                among.retain(|_, prefixes| !prefixes.is_empty());
                next = rest;
            }
        }
        Ok(UnusedNextHops { by_all: unused, by_some: among })
    }

    /// What a peer has been told, or is about to be.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn advertised(
        &self,
        peer: PeerName,
        family: Family,
    ) -> Result<Vec<(Prefix, AttributeSnapshot)>, Stopped> {
        self.ask(|answer| Command::Advertised(peer, family, answer)).await
    }

    /// A slice of the table as an MRT dump, and where to go on; see
    /// [`Speaker::dump`](crate::speaker::Speaker::dump).
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn dump(
        &self,
        families: FamilySet,
        from: Option<DumpCursor>,
    ) -> Result<(Vec<u8>, Option<DumpCursor>), Stopped> {
        self.ask(|answer| Command::Dump { families, from, answer }).await
    }

    /// One prefix with all its paths.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn route(&self, prefix: Prefix) -> Result<Option<RouteSnapshot>, Stopped> {
        self.ask(|answer| Command::Route(prefix, answer)).await
    }

    /// Asks a peer to tell its routes again; see
    /// [`Speaker::ask_again`](crate::speaker::Speaker::ask_again). The answer says what was asked,
    /// or why nothing was; it does not wait for the routes.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn ask_again(
        &self,
        peer: PeerName,
        families: FamilySet,
    ) -> Result<Result<Asked, NotAsked>, Stopped> {
        self.ask(|answer| Command::AskAgain(peer, families, answer)).await
    }

    /// Ends the thread. [`Running::thread`] joins once the last words are said, a few seconds at
    /// most.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&self, goodbye: Goodbye) -> Result<(), Stopped> {
        self.send(Command::Stop(goodbye))
    }

    fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).map_err(|_| Stopped)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Stopped> {
        let (answer, reply) = oneshot::channel();
        self.send(command(answer))?;
        reply.await.map_err(|_| Stopped)
    }
}
