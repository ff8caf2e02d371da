//! Where changes go: the kernel of this node, or a memory that obeys the kernel's rules.
//!
//! A [`Change`] exists first as a printed value; [`Dataplane::apply`] does it and says what became of it.
//! The nftables part happens together or not at all, each route by itself. Everything blocks: the daemon
//! gives a dataplane a thread of its own.

pub mod kernel;
mod memory;
pub mod route;

pub use memory::Memory;
pub use route::{
    NextHop, Onlink, PROTOCOL, Resolved, Route, RouteChanges, RouteKey, RouteKind, Routes,
    WantedWays,
};

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    net::IpAddr,
};

use crate::nft::{Table, Transaction};

/// What a dataplane holds that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Our nftables table; empty when there is none.
    pub table: Table,
    /// Our routes.
    pub routes: Routes,
}

/// What should change. Prints as what an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// All or nothing.
    pub nft: Transaction,
    /// Each by itself, after the rules: a packet never finds a route before its policy.
    pub routes: RouteChanges,
}

impl Change {
    /// The changes that make `mirror` equal to `desired`.
    pub fn between(desired: &State, mirror: &State) -> Self {
        Self {
            nft: crate::nft::diff(&desired.table, &mirror.table),
            routes: route::diff(&desired.routes, &mirror.routes),
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.nft.is_empty() && self.routes.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.nft, self.routes)
    }
}

/// What became of a change.
#[derive(Debug)]
#[must_use]
pub struct Outcome {
    /// What became of the nftables transaction. When it failed, no route was touched.
    pub nft: Result<(), CommitError>,
    /// The routes that could not be changed; all others were.
    pub routes: Vec<RouteFailure>,
}

impl Outcome {
    /// Does to `mirror` what was really done.
    ///
    /// # Errors
    /// When the transaction does not fit the mirror, which then was wrong: read again.
    pub fn settle(&self, change: &Change, mirror: &mut State) -> Result<(), crate::nft::Refused> {
        if self.nft.is_err() {
            return Ok(());
        }
        change.nft.apply_to(&mut mirror.table)?;
        let failed: HashSet<RouteKey> = self.routes.iter().map(|f| f.route.key()).collect();
        let mut done = change.routes.clone();
        for list in [&mut done.delete, &mut done.replace, &mut done.add] {
            list.retain(|route| !failed.contains(&route.key()));
        }
        done.apply_to(&mut mirror.routes);
        Ok(())
    }
}

/// Why an nftables transaction did not happen, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else changed our table since it was read: read again and compare.
    #[error("table {0} was changed by somebody else")]
    Drifted(String),
    /// The kernel refused; it will refuse again until the table is read again or the plan changes.
    #[error("the kernel refused {} change(s), first `{}`", .0.len(), first(.0))]
    Rejected(Vec<Rejection>),
    /// It may have happened or not: read again and compare.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The socket failed before anything was sent.
    #[error("netfilter socket: {0}")]
    Io(#[from] std::io::Error),
}

/// One change that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The change, as nft syntax.
    pub change: String,
    /// The kernel's reason, an `errno`.
    pub errno: i32,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.change, std::io::Error::from_raw_os_error(self.errno))
    }
}

fn first(rejections: &[Rejection]) -> String {
    rejections.first().map(ToString::to_string).unwrap_or_default()
}

/// One route that could not be changed.
#[derive(Debug)]
pub struct RouteFailure {
    /// The route as it was to become (or to go).
    pub route: Route,
    /// Why not.
    pub why: RouteError,
}

/// Why a route could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The interface is not there (yet, or any more).
    #[error("interface {0} does not exist")]
    NoInterface(String),
    /// A route that is not ours has the same destination and metric; it was left alone.
    #[error("another program's route (protocol {protocol:?}) is in its place")]
    Foreign {
        /// Whose, if known: `rtm_protocol`, as in `/etc/iproute2/rt_protos`.
        protocol: Option<u8>,
    },
    /// The kernel refused.
    #[error("the kernel refused it: {}", std::io::Error::from_raw_os_error(*.0))]
    Refused(i32),
}

/// The node's ends of pods' interfaces by name, with the addresses that they are to have beside the kernel's own.
pub type PodEnds = BTreeMap<String, BTreeSet<IpAddr>>;

/// Something that holds a table and routes.
pub trait Dataplane {
    /// What it holds that is ours.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self) -> std::io::Result<State>;

    /// Makes a change.
    fn apply(&mut self, change: &Change) -> Outcome;

    /// The way to an address, as its tables have it; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn resolve(&mut self, address: IpAddr) -> std::io::Result<Option<Resolved>>;

    /// The ways to addresses as they would be without the routes of ours that are made of them. Reads the whole table: for
    /// those alone whose way leads through such a route.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn resolve_beneath(
        &mut self,
        wanted: &WantedWays,
    ) -> std::io::Result<BTreeMap<IpAddr, Resolved>>;

    /// Sets the node up as a router. Gives what could not be done.
    fn prepare_node(&mut self) -> Vec<String>;

    /// Sets up the node's ends of pods' interfaces. Gives what could not be done.
    fn adopt(&mut self, ends: &PodEnds) -> Vec<String>;

    /// Forgets tracked connections of an address whose owner has gone.
    ///
    /// # Errors
    /// When they cannot be forgotten: the next owner may get the old one's packets.
    fn forget(&mut self, address: IpAddr) -> std::io::Result<usize>;
}
