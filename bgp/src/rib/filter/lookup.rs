//! A filter as it is asked: the first rule that matches is found without trying all of them.
//!
//! Rules that want a prefix to be, or to lie in, another are found by that other: for each length that occurs there is one
//! look into a hash table. Rules without such a condition are tried in order, as far as they may still be the first.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{Action, Filter, MatchOperator, Operation, Otherwise, Rule, Source, Subject};
use crate::wire::Prefix;

/// With fewer rules than this trying them all is faster.
const WORTH_AN_INDEX: usize = 12;

/// A filter made ready. Cheap to clone; equal to others of an equal filter.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(Arc<Ready>);

#[derive(Debug)]
struct Ready {
    filter: Filter,
    hash: u64,
    index: Option<Index>,
    asks_link: bool,
}

#[derive(Debug)]
struct Index {
    /// Numbers of rules that no prefix leads to, ascending.
    general: Vec<u32>,
    /// Numbers of rules by the prefix that they want, ascending.
    by_prefix: HashMap<Prefix, Vec<u32>, FixedState>,
    /// The lengths of these prefixes by family, ascending.
    lengths: [Vec<u8>; 2],
}

impl From<&Filter> for Lookup {
    fn from(filter: &Filter) -> Self {
        let index = (filter.rules.len() >= WORTH_AN_INDEX).then(|| Index::new(&filter.rules));
        let hash = FixedState::with_seed(0).hash_one(filter);
        let asks_link = filter.rules.iter().any(|rule| rule.interface.is_some());
        Self(Arc::new(Ready { filter: filter.clone(), hash, index, asks_link }))
    }
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.hash == other.0.hash && self.0.filter == other.0.filter
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash.hash(state);
    }
}

impl Lookup {
    /// Whether this is that filter made ready.
    pub(crate) fn is_of(&self, filter: &Filter) -> bool {
        self.0.filter == *filter
    }

    /// Whether a rule asks for the interface.
    pub(crate) fn asks_link(&self) -> bool {
        self.0.asks_link
    }

    /// The operations to apply, or `None` when the route does not pass.
    pub(crate) fn evaluate(&self, subject: Subject<'_>) -> Option<&[Operation]> {
        let filter = &self.0.filter;
        match self.decisive(subject).map(|number| &filter.rules[number].action) {
            Some(Action::Accept(operations)) => Some(operations),
            Some(Action::Reject) => None,
            None => match (filter.otherwise, subject.source) {
                (Otherwise::Accept, _) | (Otherwise::AcceptOwn, Source::Local) => Some(&[]),
                (Otherwise::Reject, _) | (Otherwise::AcceptOwn, Source::RemotePeers) => None,
            },
        }
    }

    /// The number of the rule that decides; `None` when none matches.
    pub(crate) fn decisive(&self, subject: Subject<'_>) -> Option<usize> {
        let rules = &self.0.filter.rules;
        match &self.0.index {
            None => rules.iter().position(|rule| rule.matches(subject)),
            Some(index) => index.first(rules, subject),
        }
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let mut general = Vec::new();
        let mut by_prefix: HashMap<Prefix, Vec<u32>, FixedState> = HashMap::default();
        for (number, rule) in (0..).zip(rules) {
            match wanted(rule) {
                Some(prefix) => by_prefix.entry(prefix).or_default().push(number),
                None => general.push(number),
            }
        }
        let mut lengths = [Vec::new(), Vec::new()];
        for prefix in by_prefix.keys() {
            lengths[prefix.family().index()].push(prefix.len());
        }
        for lengths in &mut lengths {
            lengths.sort_unstable();
            lengths.dedup();
        }
        Self { general, by_prefix, lengths }
    }

    fn first(&self, rules: &[Rule], subject: Subject<'_>) -> Option<usize> {
        let mut first = None;
        let mut look = |numbers: &[u32]| {
            let earlier = numbers.iter().take_while(|number| first.is_none_or(|f| **number < f));
            let matching = earlier.copied().find(|number| rules[*number as usize].matches(subject));
            first = matching.or(first);
        };
        look(&self.general);
        let prefix = subject.prefix;
        let lengths = &self.lengths[prefix.family().index()];
        for length in lengths.iter().take_while(|length| **length <= prefix.len()) {
            let covering = Prefix::from_bits(prefix.family(), prefix.bits(), *length);
            if let Some(numbers) = self.by_prefix.get(&covering) {
                look(numbers);
            }
        }
        first.map(|number| number as usize)
    }
}

/// The prefix that every route matched by the rule is, or lies in.
fn wanted(rule: &Rule) -> Option<Prefix> {
    let condition = rule.prefix.as_ref()?;
    match condition.operator {
        MatchOperator::Equal | MatchOperator::In => Some(condition.cidr),
        MatchOperator::NotEqual | MatchOperator::NotIn => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{raw, subject};
    use super::super::{AnyCommunity, PrefixMatch};
    use super::*;
    use crate::wire::{Community, Family, PeerKind};
    use proptest::prelude::*;

    fn a_prefix() -> impl Strategy<Value = Prefix> {
        // Few bits, so that prefixes meet.
        let ipv4 = (0_u32..16, 0_u8..=6)
            .prop_map(|(bits, len)| (Family::Ipv4, u128::from(bits) << 122, len));
        let ipv6 = (0_u32..16, 0_u8..=6)
            .prop_map(|(bits, len)| (Family::Ipv6, u128::from(bits) << 122, len));
        prop_oneof![ipv4, ipv6].prop_map(|(family, bits, len)| Prefix::from_bits(family, bits, len))
    }

    fn a_rule() -> impl Strategy<Value = Rule> {
        use MatchOperator::{Equal, In, NotEqual, NotIn};
        let operator = prop::sample::select(vec![Equal, In, In, In, NotEqual, NotIn]);
        let lengths = prop::option::of((0_u8..=6, 0_u8..=6).prop_map(|(a, b)| a.min(b)..=a.max(b)));
        let condition = (a_prefix(), operator, lengths)
            .prop_map(|(cidr, operator, lengths)| PrefixMatch { cidr, operator, lengths });
        let action = prop_oneof![
            Just(Action::Reject),
            (0_u32..9).prop_map(|med| Action::Accept(vec![Operation::SetMed(med)])),
        ];
        let family = prop::option::of(prop::sample::select(Family::ALL.to_vec()));
        let community = prop::option::weighted(0.2, 7_u32..9);
        let kind = prop::option::weighted(
            0.2,
            prop::sample::select(vec![PeerKind::External, PeerKind::Internal]),
        );
        (prop::option::weighted(0.9, condition), family, community, kind, action).prop_map(
            |(prefix, family, community, peer_kind, action)| Rule {
                prefix,
                family,
                community: community.map(|c| AnyCommunity::Standard(Community(c))),
                peer_kind,
                ..Rule::any(action)
            },
        )
    }

    proptest! {
        #[test]
        fn the_first_rule_found_is_the_first_that_matches(
            rules in prop::collection::vec(a_rule(), 0..60),
            candidates in prop::collection::vec(a_prefix(), 1..30),
        ) {
            let raw = raw(&[Operation::AddCommunity(AnyCommunity::Standard(Community(7)))]);
            let filter = Filter { rules, otherwise: Otherwise::Reject };
            let lookup = Lookup::from(&filter);
            for candidate in candidates {
                let subject = subject(candidate, &raw);
                let plain = filter.rules.iter().position(|rule| rule.matches(subject));
                prop_assert_eq!(lookup.decisive(subject), plain, "{}", candidate);
            }
        }
    }
}
