//! Routing policy: an ordered list of rules, the first that matches decides.
//!
//! Rules are data with the meaning of Calico's BGPFilter v3. A filter is asked on import, before a
//! path is stored as eligible, and on export, for each route and group of peers.

mod condition;
mod leaving;
mod lookup;

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::wire::{Community, Edit, Family, LargeCommunity, PeerKind, Prefix, Rewrite};

use super::attribute::Block;
pub use condition::Condition;
pub(crate) use condition::{Conditional, Holding};
pub use leaving::LEAVING;
pub(crate) use lookup::Lookup;

/// Rules in order, and what happens to a route that none of them matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Asked in order.
    pub rules: Vec<Rule>,
    /// When no rule matches.
    pub otherwise: Otherwise,
}

/// The fate of a route that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Otherwise {
    /// It passes.
    Accept,
    /// It passes if we originate it. Routes of peers do not.
    AcceptOwn,
    /// It does not pass.
    Reject,
}

/// A rule matches when all its conditions do; an absent condition always does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Only routes of this family.
    pub family: Option<Family>,
    /// Only these prefixes.
    pub prefix: Option<PrefixMatch>,
    /// Only routes of this origin.
    pub source: Option<Source>,
    /// Only routes through an interface with this name, in which `*` stands for any letters: on
    /// import that to the peer, on export that to the next hop. Our own routes match none. One whose
    /// interface is not known (yet) is matched by rules that reject, and by no others.
    pub interface: Option<Arc<str>>,
    /// Only routes that carry this community.
    pub community: Option<AnyCommunity>,
    /// Only routes whose AS_PATH begins so.
    pub as_path_prefix: Vec<u32>,
    /// Only routes of this priority; see [`Operation::SetPriority`].
    pub priority: Option<u32>,
    /// Only towards or from peers of this kind; the other members of a confederation count as
    /// internal.
    pub peer_kind: Option<PeerKind>,
    /// Only while this holds; else the rule is passed over. For export alone: on import nobody knows
    /// whether it does, and there such a rule matches if it rejects, and not otherwise.
    pub condition: Option<Arc<Condition>>,
    /// What to do.
    pub action: Action,
}

impl Rule {
    /// A rule that matches every route.
    pub const fn any(action: Action) -> Self {
        Self {
            family: None,
            prefix: None,
            source: None,
            interface: None,
            community: None,
            as_path_prefix: Vec::new(),
            priority: None,
            peer_kind: None,
            condition: None,
            action,
        }
    }
}

/// What a rule does to a route. Both end the search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// It passes, changed by these, in order.
    Accept(Vec<Operation>),
    /// It does not pass.
    Reject,
}

/// A change of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Adds a community, unless it is there.
    AddCommunity(AnyCommunity),
    /// Puts these AS numbers before the path, in this order.
    PrependAsPath(Vec<u32>),
    /// Sets LOCAL_PREF; a peer of another AS never sees it.
    SetLocalPref(u32),
    /// Sets MULTI_EXIT_DISC.
    SetMed(u32),
    /// Sets the priority of the node's route tables, lower is better, which BGP carries as
    /// LOCAL_PREF = 2147483647 - priority.
    SetPriority(u32),
}

/// A community of either length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnyCommunity {
    /// RFC 1997.
    Standard(Community),
    /// RFC 8092.
    Large(LargeCommunity),
}

/// Who a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Heard from a peer.
    RemotePeers,
    /// Originated by us.
    Local,
}

/// A condition on the prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixMatch {
    /// What to compare with.
    pub cidr: Prefix,
    /// How.
    pub operator: MatchOperator,
    /// For `In` and `NotIn`: which lengths count as within. `None`: from that of `cidr` up.
    pub lengths: Option<RangeInclusive<u8>>,
}

/// How a prefix compares with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOperator {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Within, or the same.
    In,
    /// Neither within nor the same.
    NotIn,
}

/// LOCAL_PREF of priority 0.
pub const PRIORITY_ZERO: u32 = i32::MAX as u32;

/// The LOCAL_PREF that carries a priority.
pub(crate) const fn local_pref_of_priority(priority: u32) -> u32 {
    PRIORITY_ZERO.saturating_sub(priority)
}

/// The interface through which a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link<'a> {
    /// It is our own.
    Ours,
    /// There is one, and nobody has said which.
    Unknown,
    /// The one with this name.
    Known(&'a str),
}

/// A route as a filter sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) prefix: Prefix,
    pub(crate) source: Source,
    pub(crate) link: Link<'a>,
    pub(crate) peer_kind: PeerKind,
    pub(crate) attributes: Block<'a>,
    pub(crate) holding: Holding<'a>,
}

impl Filter {
    /// Lets every route pass.
    pub const fn accept_all() -> Self {
        Self { rules: Vec::new(), otherwise: Otherwise::Accept }
    }

    /// Lets pass only what we originate.
    pub const fn own_routes() -> Self {
        Self { rules: Vec::new(), otherwise: Otherwise::AcceptOwn }
    }

    /// Lets nothing pass.
    pub const fn reject_all() -> Self {
        Self { rules: Vec::new(), otherwise: Otherwise::Reject }
    }
}

impl Rule {
    /// Whether it matches if it takes part at all, which its condition decides.
    fn matches(&self, subject: Subject<'_>) -> bool {
        let attributes = subject.attributes;
        self.family.is_none_or(|family| family == subject.prefix.family())
            && self.prefix.as_ref().is_none_or(|condition| condition.matches(subject.prefix))
            && self.source.is_none_or(|source| source == subject.source)
            && self.peer_kind.is_none_or(|kind| kind.is_within() == subject.peer_kind.is_within())
            && self.interface.as_deref().is_none_or(|name| self.goes_by(name, subject.link))
            && self.priority.is_none_or(|priority| {
                attributes.summary.local_pref == Some(local_pref_of_priority(priority))
            })
            && self.community.is_none_or(|community| match community {
                AnyCommunity::Standard(community) => attributes.has_community(community.0),
                AnyCommunity::Large(community) => attributes.has_large_community(community),
            })
            && attributes.as_path_begins_with(&self.as_path_prefix)
    }
}

impl Rule {
    fn goes_by(&self, pattern: &str, link: Link<'_>) -> bool {
        match link {
            Link::Ours => false,
            Link::Unknown => self.action == Action::Reject,
            Link::Known(name) => fits(pattern.as_bytes(), name.as_bytes()),
        }
    }
}

/// Whether a name fits a pattern in which `*` stands for any letters.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        Some((letter, rest)) => {
            name.split_first().is_some_and(|(first, name)| first == letter && fits(rest, name))
        }
    }
}

impl PrefixMatch {
    fn matches(&self, prefix: Prefix) -> bool {
        let within = || {
            self.cidr.contains(prefix)
                && self.lengths.as_ref().is_none_or(|lengths| lengths.contains(&prefix.len()))
        };
        match self.operator {
            MatchOperator::Equal => prefix == self.cidr,
            MatchOperator::NotEqual => prefix != self.cidr,
            MatchOperator::In => within(),
            MatchOperator::NotIn => !within(),
        }
    }
}

impl Operation {
    /// Adds this change to a rewrite.
    pub(crate) fn amend(&self, rewrite: &mut Rewrite) {
        match self {
            Self::AddCommunity(AnyCommunity::Standard(community)) => {
                rewrite.communities.add.push(community.0);
            }
            Self::AddCommunity(AnyCommunity::Large(community)) => {
                rewrite.large_communities.add.push(*community);
            }
            Self::PrependAsPath(asns) => {
                rewrite.prepend.splice(0..0, asns.iter().copied());
            }
            Self::SetLocalPref(local_pref) => rewrite.local_pref = Edit::Set(*local_pref),
            Self::SetMed(med) => rewrite.med = Edit::Set(*med),
            Self::SetPriority(priority) => {
                rewrite.local_pref = Edit::Set(local_pref_of_priority(*priority));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Origin, originated};

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    /// A route with these attributes, asked about on behalf of an external peer.
    pub(super) fn subject(prefix: Prefix, raw: &[u8]) -> Subject<'_> {
        let attributes = Block::made(None, raw);
        let peer_kind = PeerKind::External;
        let (source, link, holding) = (Source::RemotePeers, Link::Unknown, Holding::Unknown);
        Subject { prefix, source, link, peer_kind, attributes, holding }
    }

    pub(super) fn raw(operations: &[Operation]) -> Vec<u8> {
        let mut rewrite = Rewrite::towards(PeerKind::Internal);
        operations.iter().for_each(|operation| operation.amend(&mut rewrite));
        let mut raw = Vec::new();
        rewrite.apply(&originated(Origin::Igp), &mut raw).unwrap();
        raw
    }

    #[test]
    fn prefixes_match_by_operator_and_length() {
        use MatchOperator::{Equal, In, NotEqual, NotIn};
        let cases = [
            (Equal, None, "10.0.0.0/8", true),
            (Equal, None, "10.0.0.0/16", false),
            (NotEqual, None, "10.0.0.0/16", true),
            (In, None, "10.0.0.0/8", true),
            (In, None, "10.1.2.3/32", true),
            (In, None, "11.0.0.0/16", false),
            (In, Some(16..=24), "10.0.0.0/8", false),
            (In, Some(16..=24), "10.1.0.0/16", true),
            (In, Some(16..=24), "10.1.2.128/25", false),
            (NotIn, Some(16..=24), "10.1.2.128/25", true),
            (NotIn, None, "10.1.2.128/25", false),
            (In, None, "a00::/16", false),
        ];
        for (operator, lengths, candidate, expected) in cases {
            let condition = PrefixMatch { cidr: prefix("10.0.0.0/8"), operator, lengths };
            assert_eq!(condition.matches(prefix(candidate)), expected, "{condition:?} {candidate}");
        }
    }

    #[test]
    fn a_rule_matches_when_all_its_conditions_do() {
        let large: LargeCommunity = "1:2:3".parse().unwrap();
        let raw = raw(&[
            Operation::AddCommunity(AnyCommunity::Standard(Community(7))),
            Operation::AddCommunity(AnyCommunity::Large(large)),
            Operation::PrependAsPath(vec![65001, 65002]),
            Operation::SetPriority(1024),
        ]);
        let any = || Rule::any(Action::Reject);
        let community = |community| Rule { community: Some(community), ..any() };
        let cases = [
            (any(), true),
            (Rule { family: Some(Family::Ipv6), ..any() }, false),
            (Rule { source: Some(Source::Local), ..any() }, false),
            (Rule { source: Some(Source::RemotePeers), ..any() }, true),
            (Rule { peer_kind: Some(PeerKind::Internal), ..any() }, false),
            (Rule { priority: Some(1024), ..any() }, true),
            (Rule { priority: Some(1025), ..any() }, false),
            (Rule { as_path_prefix: vec![65001], ..any() }, true),
            (Rule { as_path_prefix: vec![65002], ..any() }, false),
            (Rule { as_path_prefix: vec![65001, 65002, 65003], ..any() }, false),
            (community(AnyCommunity::Standard(Community(7))), true),
            (community(AnyCommunity::Standard(Community(8))), false),
            (community(AnyCommunity::Large(large)), true),
            (Rule { family: Some(Family::Ipv4), priority: Some(1), ..any() }, false),
        ];
        for (rule, expected) in cases {
            assert_eq!(rule.matches(subject(prefix("10.0.0.0/8"), &raw)), expected, "{rule:?}");
        }
    }

    #[test]
    fn an_interface_matches_by_pattern_and_one_that_nobody_knows_rejects() {
        let raw = raw(&[]);
        let by = |action: &Action, pattern: &str, link| {
            let rule = Rule { interface: Some(pattern.into()), ..Rule::any(action.clone()) };
            rule.matches(Subject { link, ..subject(prefix("10.0.0.0/8"), &raw) })
        };
        let accept = Action::Accept(Vec::new());
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth01", true),
            ("*", "eth0", true),
            ("e*0*1", "eth0.41", true),
            ("e*0*1", "eth0.42", false),
            ("eth0*", "eth", false),
        ] {
            assert_eq!(by(&accept, pattern, Link::Known(name)), expected, "{pattern} {name}");
            assert_eq!(by(&Action::Reject, pattern, Link::Known(name)), expected);
        }
        assert!(by(&Action::Reject, "eth0", Link::Unknown));
        assert!(!by(&accept, "eth0", Link::Unknown));
        for action in [accept, Action::Reject] {
            assert!(!by(&action, "*", Link::Ours));
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let med = Operation::SetMed(1);
        let rules = vec![
            Rule { family: Some(Family::Ipv6), ..Rule::any(Action::Reject) },
            Rule::any(Action::Accept(vec![med.clone()])),
            Rule::any(Action::Reject),
        ];
        let filter = Filter { rules, otherwise: Otherwise::Reject };
        let raw = raw(&[]);
        let ask = |filter: &Filter, text| {
            let lookup = Lookup::from(filter);
            lookup.evaluate(subject(prefix(text), &raw)).map(<[Operation]>::to_vec)
        };
        assert_eq!(ask(&filter, "10.0.0.0/8"), Some(vec![med]));
        assert_eq!(ask(&filter, "a00::/8"), None);
        assert_eq!(ask(&Filter::accept_all(), "a00::/8"), Some(vec![]));
        assert_eq!(ask(&Filter::own_routes(), "a00::/8"), None);
    }
}
