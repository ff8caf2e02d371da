//! Conditionals on the table under which rules take part: conditional advertisement, which other routers
//! have as advertise maps with exist and non-exist maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Rule;
use crate::rib::Rib;
use crate::wire::{Family, FamilySet, Prefix};

/// What the table must have, and not have, for a rule of an export filter to take part. Without a demand
/// it always does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Condition {
    /// There is a chosen path, heard or our own, to one of exactly these prefixes; empty: no demand.
    pub any_of: BTreeSet<Prefix>,
    /// There is none to any of these.
    pub none_of: BTreeSet<Prefix>,
}

impl Condition {
    /// Whether it holds now. What has not been told yet after a restart counts neither as there nor as
    /// absent.
    pub(crate) fn holds(&self, rib: &Rib) -> bool {
        let is_there =
            |prefix: &Prefix| rib.prefixes.find(*prefix).is_some_and(|id| rib.best(id).is_some());
        (self.any_of.is_empty() || self.any_of.iter().any(is_there))
            && !self.none_of.iter().any(is_there)
            && !self.none_of.iter().any(|prefix| rib.deferred.contains(prefix.family()))
    }

    /// Whether it cannot be judged for good yet (RFC 4724 §4.1).
    pub(crate) fn is_open(&self, deferred: FamilySet) -> bool {
        let mut prefixes = self.any_of.iter().chain(&self.none_of);
        prefixes.any(|prefix| deferred.contains(prefix.family()))
    }
}

/// Which conditions of the filter that is asked hold, each by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holding<'a> {
    /// Nobody has looked: on import, which does not ask.
    Unknown,
    /// As of the last look.
    Known(&'a [bool]),
}

/// The different conditions of a filter, and which rule has which.
#[derive(Debug, Default)]
pub(super) struct Conditionals {
    all: Vec<Conditional>,
    /// By the number of the rule; empty where no rule has any.
    of_rule: Vec<Option<usize>>,
}

/// A condition, and which routes it may decide about.
#[derive(Debug)]
pub(crate) struct Conditional {
    pub(crate) condition: Arc<Condition>,
    pub(crate) families: FamilySet,
}

impl Conditionals {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut conditions = Self::default();
        if rules.iter().any(|rule| rule.condition.is_some()) {
            conditions.of_rule = rules.iter().map(|rule| conditions.number_of(rule)).collect();
        }
        conditions
    }

    /// The number of the rule's condition, which is a new one if no rule before had it.
    fn number_of(&mut self, rule: &Rule) -> Option<usize> {
        let condition = rule.condition.as_ref()?;
        let same = |each: &Conditional| {
            Arc::ptr_eq(&each.condition, condition) || each.condition == *condition
        };
        let number = self.all.iter().position(same).unwrap_or_else(|| {
            let families = FamilySet::EMPTY;
            self.all.push(Conditional { condition: Arc::clone(condition), families });
            self.all.len() - 1
        });
        let families = &mut self.all[number].families;
        match rule.family {
            Some(family) => families.insert(family),
            None => Family::ALL.into_iter().for_each(|family| families.insert(family)),
        }
        Some(number)
    }

    pub(super) fn all(&self) -> &[Conditional] {
        &self.all
    }

    /// Whether a rule takes part. Where nobody knows, only those do that reject.
    #[inline]
    pub(super) fn admit(&self, number: usize, rule: &Rule, holding: Holding<'_>) -> bool {
        let Some(condition) = self.of_rule.get(number).copied().flatten() else { return true };
        match holding {
            Holding::Unknown => rule.action == super::Action::Reject,
            Holding::Known(holding) => holding.get(condition).copied().unwrap_or(false),
        }
    }
}
