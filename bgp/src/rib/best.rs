//! The decision process of RFC 4271 §9.1: which of the paths to a prefix is the best, which are as
//! good, and at which step each of the others lost.
//!
//! Paths are eliminated step by step, all at once, so the outcome does not depend on the order in
//! which they came; comparing pairs would, since MED does not order paths of different ASes.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;

use crate::speaker::Between;
use crate::wire::{Origin, PeerKind};

/// LOCAL_PREF of a path that carries none.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// The comparison that decided, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// What we originate ourselves wins over what we hear.
    LocallyOriginated,
    /// What is not stale for long wins over what is (RFC 9494 §4.3).
    LongLivedStale,
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
    /// The fewest Member-ASes on the way (RFC 5065). It stands where the cost to the next hop would
    /// (§9.1.2.2 (e)): without either, members in a ring prefer each other's ways for ever.
    ConfederationLength,
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
            Self::LongLivedStale => "not long-lived stale",
            Self::LocalPref => "higher local preference",
            Self::AsPathLength => "shorter AS path",
            Self::Origin => "lower origin",
            Self::Med => "lower MED",
            Self::ExternalOverInternal => "eBGP over iBGP",
            Self::ConfederationLength => "fewer members of the confederation",
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
    /// It was meant for customers of another AS (RFC 9234 §5).
    RouteLeak,
    /// Its AS must not originate the prefix (RFC 6811).
    OriginInvalid,
    /// What import adds makes an attribute longer than 65535 octets.
    AttributeTooLong,
    /// The node has no way to the next hop (RFC 4271 §9.1.2).
    UnreachableNextHop,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filtered => "rejected by the import filter",
            Self::AsLoop => "own AS in the AS path",
            Self::ReflectionLoop => "reflected back to us",
            Self::OwnNextHop => "the next hop is this node",
            Self::RouteLeak => "leaked: meant for customers only",
            Self::OriginInvalid => "RPKI invalid: its AS must not originate the prefix",
            Self::AttributeTooLong => "an attribute is too long with what import adds",
            Self::UnreachableNextHop => "the next hop cannot be reached",
        })
    }
}

/// All that the decision looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender<T> {
    /// Whatever the caller knows it by.
    pub(crate) path: T,
    pub(crate) source: Source,
    pub(crate) long_lived_stale: bool,
    pub(crate) local_pref: u32,
    pub(crate) as_path_length: u16,
    pub(crate) confederation_length: u8,
    pub(crate) origin: Origin,
    /// The neighbouring AS; 0 for a path from within our own, or our confederation (RFC 5065 §5.3).
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
            // RFC 5065 §5.3: whoever is in our confederation counts as internal.
            PeerKind::Internal | PeerKind::Confederation => Self::Internal,
        }
    }
}

/// What became of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Best,
    Multipath,
    Lost(Step),
}

impl Outcome {
    /// The better one first: who lost at a later step came closer.
    fn rank(self) -> (u8, Reverse<Option<Step>>) {
        match self {
            Self::Best => (0, Reverse(None)),
            Self::Multipath => (1, Reverse(None)),
            Self::Lost(step) => (2, Reverse(Some(step))),
        }
    }

    /// Whether packets may take the path.
    pub(crate) const fn is_used(self) -> bool {
        match self {
            Self::Best | Self::Multipath => true,
            Self::Lost(_) => false,
        }
    }
}

/// How many paths may be used together, by source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) external: NonZeroU8,
    pub(crate) internal: NonZeroU8,
    pub(crate) between: Between,
}

/// Judges all contenders and puts them in order: the best, those used beside it, the losers.
pub(crate) fn rank<T: Copy>(contenders: &mut [Contender<T>], limits: Limits) {
    judge(contenders, limits);
    contenders.sort_by_key(|c| (c.outcome.rank(), c.router_id, c.peer, c.identifier));
}

/// Judges all contenders and puts those that are used in front, in order; the losers follow in no
/// special one.
pub(crate) fn judge<T: Copy>(contenders: &mut [Contender<T>], limits: Limits) {
    for contender in &mut *contenders {
        contender.outcome = Outcome::Best;
    }
    let equal = eliminate(contenders);
    if equal > 1 {
        use_beside(contenders, limits);
        contenders.sort_by_key(|c| (c.outcome.rank(), c.router_id, c.peer, c.identifier));
    } else if let Some(best) = contenders.iter().position(alive) {
        contenders[..=best].rotate_right(1);
    }
}

/// Goes through the steps until one is left; says how many were equal before the tie-breakers.
fn eliminate<T: Copy>(contenders: &mut [Contender<T>]) -> usize {
    use Step::{AsPathLength, ClusterListLength, ConfederationLength, ExternalOverInternal};
    use Step::{LocalPref, LocallyOriginated, LongLivedStale, Origin};
    use Step::{PathIdentifier, PeerAddress, RouterId};
    let all = contenders;
    let decided = keep_least(all, LocallyOriginated, |c| c.source != Source::Local) < 2
        || keep_least(all, LongLivedStale, |c| c.long_lived_stale) < 2
        || keep_least(all, LocalPref, |c| u32::MAX - c.local_pref) < 2
        || keep_least(all, AsPathLength, |c| c.as_path_length) < 2
        || keep_least(all, Origin, |c| c.origin) < 2;
    if decided {
        return 1;
    }
    compare_med(all);
    // RFC 4271 §9.1.2.2 (e) would compare the cost to the next hops; we know of no such cost.
    let mut equal = keep_least(all, ExternalOverInternal, |c| c.source);
    if all.iter().any(|c| c.confederation_length > 0) {
        equal = keep_least(all, ConfederationLength, |c| c.confederation_length);
    }
    let _ = equal < 2
        || keep_least(all, RouterId, |c| c.router_id) < 2
        || keep_least(all, ClusterListLength, |c| c.cluster_list_length) < 2
        || keep_least(all, PeerAddress, |c| c.peer) < 2
        || keep_least(all, PathIdentifier, |c| c.identifier) < 2;
    equal
}

fn alive<T>(contender: &Contender<T>) -> bool {
    contender.outcome == Outcome::Best
}

/// One step; says how many are left.
fn keep_least<T, K: Ord>(
    contenders: &mut [Contender<T>],
    step: Step,
    key: impl Fn(&Contender<T>) -> K,
) -> usize {
    let Some(least) = contenders.iter().filter(|c| alive(c)).map(&key).min() else { return 0 };
    let mut left = 0;
    for contender in contenders.iter_mut().filter(|c| alive(c)) {
        if key(contender) > least {
            contender.outcome = Outcome::Lost(step);
        } else {
            left += 1;
        }
    }
    left
}

/// RFC 4271 §9.1.2.2 (c): MED compares only between paths from the same neighbouring AS. Sorted by that,
/// each is compared with the least of its own; mostly there is nothing to compare.
fn compare_med<T>(contenders: &mut [Contender<T>]) {
    let mut meds = contenders.iter().filter(|c| alive(c)).map(|c| c.med);
    let first = meds.next();
    if meds.all(|med| Some(med) == first) {
        return;
    }
    contenders.sort_unstable_by_key(|c| (!alive(c), c.first_as, c.med));
    let mut least: Option<(u32, u32)> = None;
    for contender in contenders.iter_mut().take_while(|c| alive(c)) {
        match least {
            Some((first_as, med)) if first_as == contender.first_as => {
                if contender.med > med {
                    contender.outcome = Outcome::Lost(Step::Med);
                }
            }
            Some(_) | None => least = Some((contender.first_as, contender.med)),
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
    let only_as = match limits.between {
        Between::AnyAs => None,
        Between::SameAs => Some(best.first_as),
    };
    let tied = |c: &Contender<T>| match c.outcome {
        Outcome::Lost(step) => {
            step > Step::ConfederationLength && only_as.is_none_or(|asn| asn == c.first_as)
        }
        Outcome::Best | Outcome::Multipath => false,
    };
    contenders.sort_by_key(|c| (c.router_id, c.peer, c.identifier));
    for contender in contenders.iter_mut().filter(|c| tied(c)).take(usize::from(limit.get()) - 1) {
        contender.outcome = Outcome::Multipath;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits =
        Limits { external: NonZeroU8::MAX, internal: NonZeroU8::MAX, between: Between::AnyAs };

    /// An ordinary path from the peer 10.0.0.`last`, AS 65000 + `last`.
    fn contender(last: u8) -> Contender<u8> {
        Contender {
            path: last,
            source: Source::External,
            long_lived_stale: false,
            local_pref: DEFAULT_LOCAL_PREF,
            as_path_length: 2,
            confederation_length: 0,
            origin: Origin::Igp,
            first_as: 65000 + u32::from(last),
            med: 0,
            router_id: Ipv4Addr::new(10, 0, 0, last),
            cluster_list_length: 0,
            peer: Ipv4Addr::new(10, 0, 0, last).into(),
            identifier: 0,
            outcome: Outcome::Best,
        }
    }

    fn outcome(contenders: &[Contender<u8>], path: u8) -> Outcome {
        contenders.iter().find(|c| c.path == path).unwrap().outcome
    }

    /// The second path is worse at one step, and better at all later ones.
    #[test]
    fn each_step_decides_when_those_before_it_are_equal() {
        type Change = fn(&mut Contender<u8>);
        let steps: [(Step, Change); 12] = [
            (Step::PathIdentifier, |c| c.identifier = 1),
            (Step::PeerAddress, |c| c.peer = Ipv4Addr::new(10, 0, 0, 99).into()),
            (Step::ClusterListLength, |c| c.cluster_list_length = 1),
            (Step::RouterId, |c| c.router_id = Ipv4Addr::new(10, 0, 0, 99)),
            (Step::ConfederationLength, |c| c.confederation_length = 1),
            (Step::ExternalOverInternal, |c| c.source = Source::Internal),
            (Step::Med, |c| c.med = 1),
            (Step::Origin, |c| c.origin = Origin::Egp),
            (Step::AsPathLength, |c| c.as_path_length = 3),
            (Step::LocalPref, |c| c.local_pref = 99),
            (Step::LongLivedStale, |c| c.long_lived_stale = true),
            (Step::LocallyOriginated, |c| c.source = Source::External),
        ];
        let no_multipath = Limits { external: NonZeroU8::MIN, internal: NonZeroU8::MIN, ..ALL };
        for (at, (step, worsen)) in steps.iter().enumerate() {
            let (mut better, mut worse) = (contender(1), Contender { path: 2, ..contender(1) });
            // All that comes later speaks for the one that has to lose.
            steps[..at].iter().for_each(|(_, worsen)| worsen(&mut better));
            worsen(&mut worse);
            if *step == Step::LocallyOriginated {
                better.source = Source::Local;
            }
            for mut both in [[better, worse], [worse, better]] {
                rank(&mut both, no_multipath);
                assert_eq!(both[0].path, 1, "{step:?}");
                assert_eq!(outcome(&both, 2), Outcome::Lost(*step));
            }
        }
    }

    /// Comparing pairs, each of these three would beat another; the order must not matter.
    #[test]
    fn med_is_deterministic() {
        let from = |last, first_as, med, router_id| Contender {
            first_as,
            med,
            router_id: Ipv4Addr::new(10, 0, 0, router_id),
            ..contender(last)
        };
        let paths = [from(1, 65001, 20, 1), from(2, 65002, 0, 2), from(3, 65001, 10, 3)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]] {
            let mut paths = order.map(|at: usize| paths[at]);
            rank(&mut paths, ALL);
            assert_eq!(paths[0].path, 2);
            assert_eq!(outcome(&paths, 1), Outcome::Lost(Step::Med));
            assert_eq!(outcome(&paths, 3), Outcome::Multipath);
        }
    }

    /// Each path with a greater MED than another of its AS loses, whatever stands between them.
    #[test]
    fn med_is_compared_within_each_as() {
        let mut paths: Vec<_> = (0..200u8)
            .map(|n| Contender {
                first_as: u32::from(n) * 7 % 5,
                med: u32::from(n) * 11 % 13,
                ..contender(n)
            })
            .collect();
        let expected: Vec<u8> = paths
            .iter()
            .filter(|c| !paths.iter().any(|o| o.first_as == c.first_as && o.med < c.med))
            .map(|c| c.path)
            .collect();
        paths.iter_mut().for_each(|c| c.outcome = Outcome::Best);
        compare_med(&mut paths);
        let mut left: Vec<u8> = paths.iter().filter(|c| alive(c)).map(|c| c.path).collect();
        left.sort_unstable();
        assert_eq!(left, expected);
        assert!(left.len() > 5 && left.len() < 30);
    }

    #[test]
    fn paths_are_used_together_up_to_the_limit_of_their_kind() {
        let two = NonZeroU8::new(2).unwrap();
        let limits = Limits { external: two, ..ALL };
        let mut paths = [4, 3, 2, 1].map(contender);
        rank(&mut paths, limits);
        assert_eq!(paths.map(|c| c.path), [1, 2, 3, 4]);
        assert_eq!(paths[1].outcome, Outcome::Multipath);
        assert_eq!(paths[2].outcome, Outcome::Lost(Step::RouterId));
        let mut inside = [3, 2, 1].map(|n| Contender { source: Source::Internal, ..contender(n) });
        rank(&mut inside, limits);
        assert_eq!(inside[2].outcome, Outcome::Multipath);
    }

    #[test]
    fn paths_through_other_ases_are_used_together_only_where_that_is_wanted() {
        let strict = Limits { between: Between::SameAs, ..ALL };
        let mut paths = [3, 2, 1].map(contender);
        paths[0].first_as = paths[2].first_as;
        rank(&mut paths, strict);
        assert_eq!(outcome(&paths, 1), Outcome::Best);
        assert_eq!(outcome(&paths, 2), Outcome::Lost(Step::RouterId));
        assert_eq!(outcome(&paths, 3), Outcome::Multipath);
    }

    #[test]
    fn what_we_originate_is_never_shared_with_what_we_hear() {
        let mut paths = [contender(1), Contender { source: Source::Local, ..contender(2) }];
        rank(&mut paths, ALL);
        assert_eq!(paths[0].path, 2);
        assert_eq!(paths[1].outcome, Outcome::Lost(Step::LocallyOriginated));
    }
}
