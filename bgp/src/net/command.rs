//! What the daemon may ask of the BGP thread.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::refused::RefusedConnections;
use crate::bfd::SessionSnapshot;
use crate::speaker::{
    Asked, AttributeSnapshot, CacheSnapshot, Config, DumpCursor, Links, NotAsked, Originated,
    PeerName, PeerSnapshot, RouteSnapshot, StationSnapshot, Unreachable,
};
use crate::wire::{Family, FamilySet, Prefix};

/// A request; those with an answer carry the way back.
#[derive(Debug)]
pub(super) enum Command {
    Configure(Arc<Config>),
    Originate(Prefix, Originated),
    Withdraw(Prefix),
    Unreachable(Unreachable),
    Links(Links),
    Peers(oneshot::Sender<Vec<PeerSnapshot>>),
    Refused(oneshot::Sender<RefusedConnections>),
    Stations(oneshot::Sender<Vec<StationSnapshot>>),
    Caches(oneshot::Sender<Vec<CacheSnapshot>>),
    Bfd(oneshot::Sender<Vec<SessionSnapshot>>),
    Routes {
        family: Family,
        from: u32,
        answer: oneshot::Sender<Page>,
    },
    Advertised(PeerName, Family, oneshot::Sender<Vec<(Prefix, AttributeSnapshot)>>),
    Dump {
        families: FamilySet,
        from: Option<DumpCursor>,
        answer: oneshot::Sender<(Vec<u8>, Option<DumpCursor>)>,
    },
    Route(Prefix, oneshot::Sender<Option<RouteSnapshot>>),
    AskAgain(PeerName, FamilySet, oneshot::Sender<Result<Asked, NotAsked>>),
    Stop(Goodbye),
}

/// A slice of the table, and where the next one begins.
pub(super) type Page = (Vec<RouteSnapshot>, Option<u32>);

/// How the speaker takes its leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goodbye {
    /// It will be back: connections are dropped without a word, and peers with graceful restart
    /// keep our routes (RFC 4724).
    Restart,
    /// It will not: each peer gets a Cease with this text (RFC 9003) and drops our routes.
    Cease(String),
}
