//! A filter as it is asked: the first rule that matches is found without trying all of them.
//!
//! Rules that want a prefix to be, or to lie in, another are found by that other: for each length that occurs there is one
//! look into a hash table. Rules without such a condition are tried in order, as far as they may still be the first.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::condition::Conditionals;
use super::{
    Action, Conditional, Filter, MatchOperator, Operation, Otherwise, Rule, Source, Subject,
};
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
    conditions: Conditionals,
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
        let conditions = Conditionals::new(&filter.rules);
        Self(Arc::new(Ready { filter: filter.clone(), hash, index, asks_link, conditions }))
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

    /// The different conditions of the rules; [`Subject::holding`] says which of them hold.
    pub(crate) fn conditions(&self) -> &[Conditional] {
        self.0.conditions.all()
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
        let Ready { filter, index, .. } = &*self.0;
        let matches = |number: usize| self.0.matches(number, subject);
        match index {
            None => (0..filter.rules.len()).find(|number| matches(*number)),
            Some(index) => index.first(subject.prefix, matches),
        }
    }
}

impl Ready {
    fn matches(&self, number: usize, subject: Subject<'_>) -> bool {
        let rule = &self.filter.rules[number];
        self.conditions.admit(number, rule, subject.holding) && rule.matches(subject)
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

    fn first(&self, prefix: Prefix, matches: impl Fn(usize) -> bool) -> Option<usize> {
        let mut first = None;
        let mut look = |numbers: &[u32]| {
            let earlier = numbers.iter().take_while(|number| first.is_none_or(|f| **number < f));
            let matching = earlier.copied().find(|number| matches(*number as usize));
            first = matching.or(first);
        };
        look(&self.general);
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
    use super::super::{AnyCommunity, Condition, Holding, PrefixMatch};
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
        let on_table = prop::option::weighted(0.2, 0..CONDITIONS);
        (prop::option::weighted(0.9, condition), family, community, kind, on_table, action)
            .prop_map(|(prefix, family, community, peer_kind, on_table, action)| Rule {
                prefix,
                family,
                community: community.map(|c| AnyCommunity::Standard(Community(c))),
                peer_kind,
                condition: on_table.map(|number| Arc::new(numbered(number))),
                ..Rule::any(action)
            })
    }

    const CONDITIONS: u8 = 3;

    /// Some condition, another for each number.
    fn numbered(number: u8) -> Condition {
        let any_of = [Prefix::from_bits(Family::Ipv4, 0, number)].into();
        Condition { any_of, ..Condition::default() }
    }

    proptest! {
        #[test]
        fn the_first_rule_found_is_the_first_that_matches(
            rules in prop::collection::vec(a_rule(), 0..60),
            candidates in prop::collection::vec(a_prefix(), 1..30),
            held in any::<[bool; CONDITIONS as usize]>(),
        ) {
            let raw = raw(&[Operation::AddCommunity(AnyCommunity::Standard(Community(7)))]);
            let filter = Filter { rules, otherwise: Otherwise::Reject };
            let lookup = Lookup::from(&filter);
            let holds = |condition: &Condition| {
                (0..).zip(held).any(|(number, held)| held && *condition == numbered(number))
            };
            let holding: Vec<bool> =
                lookup.conditions().iter().map(|each| holds(&each.condition)).collect();
            for candidate in candidates {
                let holding = Holding::Known(&holding);
                let subject = Subject { holding, ..subject(candidate, &raw) };
                let plain = filter.rules.iter().position(|rule| {
                    rule.condition.as_deref().is_none_or(holds) && rule.matches(subject)
                });
                prop_assert_eq!(lookup.decisive(subject), plain, "{}", candidate);
            }
        }
    }
}
