//! The decision process of RFC 4271 §9.1: which of the paths to a prefix is the best, which are as
//! good, and at which step each of the others lost.
//!
//! Paths are eliminated step by step, all at once, so the outcome does not depend on the order in
//! which they came; comparing pairs would, since MED does not order paths of different ASes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;

use crate::wire::{Origin, PeerKind};

/// LOCAL_PREF of a path that carries none.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// The comparison that decided, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// What we originate ourselves wins over what we hear.
    LocallyOriginated,
    /// The highest LOCAL_PREF (RFC 4271 §9.1.1).
    LocalPref,
    /// The shortest AS_PATH (§9.1.2.2 (a)).
    AsPathLength,
    /// The lowest ORIGIN (§9.1.2.2 (b)).
    Origin,
    /// The lowest MULTI_EXIT_DISC among paths of the same neighbouring AS (§9.1.2.2 (c)).
    Med,
    /// eBGP over iBGP (§9.1.2.2 (d)).
    ExternalOverInternal,
    /// The lowest BGP Identifier, or ORIGINATOR_ID (§9.1.2.2 (f), RFC 4456 §9).
    RouterId,
    /// The shortest CLUSTER_LIST (RFC 4456 §9).
    ClusterListLength,
    /// The lowest address of the peer (§9.1.2.2 (g)).
    PeerAddress,
    /// The lowest path identifier, between paths of one peer (RFC 7911).
    PathIdentifier,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocallyOriginated => "locally originated",
            Self::LocalPref => "higher local preference",
            Self::AsPathLength => "shorter AS path",
            Self::Origin => "lower origin",
            Self::Med => "lower MED",
            Self::ExternalOverInternal => "eBGP over iBGP",
            Self::RouterId => "lower router id",
            Self::ClusterListLength => "shorter cluster list",
            Self::PeerAddress => "lower peer address",
            Self::PathIdentifier => "lower path identifier",
        })
    }
}

/// Why a path may not be chosen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ineligible {
    /// The import filter rejects it.
    Filtered,
    /// Our AS is in the AS_PATH (RFC 4271 §9.1.2).
    AsLoop,
    /// We are the ORIGINATOR_ID, or our cluster is in the CLUSTER_LIST (RFC 4456 §8).
    ReflectionLoop,
    /// The next hop is our own address (RFC 4271 §5.1.3).
    OwnNextHop,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filtered => "rejected by the import filter",
            Self::AsLoop => "own AS in the AS path",
            Self::ReflectionLoop => "reflected back to us",
            Self::OwnNextHop => "the next hop is this node",
        })
    }
}

/// All that the decision looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender<T> {
    /// Whatever the caller knows it by.
    pub(crate) path: T,
    pub(crate) source: Source,
    pub(crate) local_pref: u32,
    pub(crate) as_path_length: u16,
    pub(crate) origin: Origin,
    /// The neighbouring AS; 0 for a path from within our own.
    pub(crate) first_as: u32,
    /// RFC 4271 §9.1.2.2 (c): absent counts as the lowest.
    pub(crate) med: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_list_length: u8,
    pub(crate) peer: IpAddr,
    pub(crate) identifier: u32,
    /// Set by [`rank`].
    pub(crate) outcome: Outcome,
}

/// Who a path is from; the better one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Local,
    External,
    Internal,
}

impl From<PeerKind> for Source {
    fn from(kind: PeerKind) -> Self {
        match kind {
            PeerKind::External => Self::External,
            PeerKind::Internal => Self::Internal,
        }
    }
}

/// What became of a contender; the better one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Best,
    Multipath,
    Lost(Step),
}

/// How many paths may be used together, by source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) external: NonZeroU8,
    pub(crate) internal: NonZeroU8,
}

/// Judges all contenders and puts them in order: the best, those used beside it, the losers.
pub(crate) fn rank<T: Copy>(contenders: &mut [Contender<T>], limits: Limits) {
    for contender in &mut *contenders {
        contender.outcome = Outcome::Best;
    }
    keep_least(contenders, Step::LocallyOriginated, |c| c.source != Source::Local);
    keep_least(contenders, Step::LocalPref, |c| u32::MAX - c.local_pref);
    keep_least(contenders, Step::AsPathLength, |c| c.as_path_length);
    keep_least(contenders, Step::Origin, |c| c.origin);
    compare_med(contenders);
    keep_least(contenders, Step::ExternalOverInternal, |c| c.source);

    // RFC 4271 §9.1.2.2 (e) would compare the cost to the next hops; we know of no such cost.
    let equal = contenders.iter().filter(|c| c.outcome == Outcome::Best).count();
    keep_least(contenders, Step::RouterId, |c| c.router_id);
    keep_least(contenders, Step::ClusterListLength, |c| c.cluster_list_length);
    keep_least(contenders, Step::PeerAddress, |c| c.peer);
    keep_least(contenders, Step::PathIdentifier, |c| c.identifier);
    if equal > 1 {
        use_beside(contenders, limits);
    }
    contenders.sort_by_key(|c| (c.outcome, c.router_id, c.peer, c.identifier));
}

fn alive<T>(contender: &Contender<T>) -> bool {
    contender.outcome == Outcome::Best
}

fn keep_least<T, K: Ord>(
    contenders: &mut [Contender<T>],
    step: Step,
    key: impl Fn(&Contender<T>) -> K,
) {
    let Some(least) = contenders.iter().filter(|c| alive(c)).map(&key).min() else { return };
    for contender in contenders.iter_mut().filter(|c| alive(c)) {
        if key(contender) > least {
            contender.outcome = Outcome::Lost(step);
        }
    }
}

/// RFC 4271 §9.1.2.2 (c): MED compares only between paths from the same neighbouring AS.
fn compare_med<T: Copy>(contenders: &mut [Contender<T>]) {
    for at in 0..contenders.len() {
        let this = contenders[at];
        let beaten =
            contenders.iter().any(|c| alive(c) && c.first_as == this.first_as && c.med < this.med);
        if alive(&this) && beaten {
            contenders[at].outcome = Outcome::Lost(Step::Med);
        }
    }
}

/// Those that lost only to the tie-breakers are as good as the best one: use them too.
fn use_beside<T>(contenders: &mut [Contender<T>], limits: Limits) {
    let Some(best) = contenders.iter().find(|c| alive(c)) else { return };
    let limit = match best.source {
        Source::Local => return,
        Source::External => limits.external,
        Source::Internal => limits.internal,
    };
    let tied = |c: &Contender<T>| match c.outcome {
        Outcome::Lost(step) => step > Step::ExternalOverInternal,
        Outcome::Best | Outcome::Multipath => false,
    };
    contenders.sort_by_key(|c| (c.router_id, c.peer, c.identifier));
    for contender in contenders.iter_mut().filter(|c| tied(c)).take(usize::from(limit.get()) - 1) {
        contender.outcome = Outcome::Multipath;
    }
}
