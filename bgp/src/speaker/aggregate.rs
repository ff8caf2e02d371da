//! Aggregates (RFC 4271 §9.2.2.2): a prefix that we originate for as long as there is a route to
//! something in it.
//!
//! An aggregate has an empty AS_PATH, ATOMIC_AGGREGATE and us as AGGREGATOR: AS_SET, which would tell
//! what it is made of, is a thing of the past (RFC 9774).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Output, Speaker};
use crate::rib::attribute::Block;
use crate::rib::path::LOCAL;
use crate::rib::prefix::PrefixId;
use crate::wire::{self, Family, Prefix};

/// The path identifier of an aggregate, so that the same prefix may be originated besides.
const IDENTIFIER: u32 = 1;

/// What eBGP peers hear of the routes in an aggregate. iBGP peers hear of all: within the AS packets
/// have to find their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Specifics {
    /// As of any route.
    Told,
    /// Nothing: the aggregate stands for them.
    Hidden,
}

/// The routes that each aggregate is made of.
#[derive(Debug, Default)]
pub(super) struct Aggregates(BTreeMap<Prefix, BTreeSet<PrefixId>>);

impl Aggregates {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Speaker {
    /// Takes over the configured aggregates.
    pub(super) fn follow_aggregates(&mut self) {
        let wanted = &self.config.aggregates;
        let gone: Vec<Prefix> = self
            .aggregates
            .0
            .keys()
            .filter(|prefix| !wanted.contains_key(prefix))
            .copied()
            .collect();
        let new: Vec<Prefix> = wanted
            .keys()
            .filter(|prefix| !self.aggregates.0.contains_key(prefix))
            .copied()
            .collect();
        for aggregate in gone {
            let parts = self.aggregates.0.remove(&aggregate).unwrap_or_default();
            if !parts.is_empty() {
                self.dissolve(aggregate);
            }
        }
        for aggregate in new {
            let ids = self.rib.prefixes.ids(aggregate.family(), 0);
            let is_part = |id: &PrefixId| {
                self.rib.prefixes.prefix(*id).is_part_of(aggregate) && self.rib.best(*id).is_some()
            };
            let parts: BTreeSet<PrefixId> = ids.filter(is_part).collect();
            let formed = !parts.is_empty();
            self.aggregates.0.insert(aggregate, parts);
            if formed {
                self.form(aggregate);
            }
        }
    }

    /// The best path to a prefix has changed, which may make or break aggregates.
    pub(super) fn contribute(&mut self, id: PrefixId) {
        let prefix = self.rib.prefixes.prefix(id);
        let there = self.rib.best(id).is_some();
        let (mut formed, mut dissolved) = (Vec::new(), Vec::new());
        for (aggregate, parts) in &mut self.aggregates.0 {
            if !prefix.is_part_of(*aggregate) {
                continue;
            }
            let before = parts.is_empty();
            let _ = if there { parts.insert(id) } else { parts.remove(&id) };
            match (before, parts.is_empty()) {
                (true, false) => formed.push(*aggregate),
                (false, true) => dissolved.push(*aggregate),
                (true, true) | (false, false) => {}
            }
        }
        formed.into_iter().for_each(|aggregate| self.form(aggregate));
        dissolved.into_iter().for_each(|aggregate| self.dissolve(aggregate));
    }

    /// Forms all anew: who we are has changed, and they say it.
    pub(super) fn form_again(&mut self) {
        let formed = self.aggregates.0.iter().filter(|(_, parts)| !parts.is_empty());
        let formed: Vec<Prefix> = formed.map(|(aggregate, _)| *aggregate).collect();
        formed.into_iter().for_each(|aggregate| self.form(aggregate));
    }

    fn form(&mut self, aggregate: Prefix) {
        let raw = wire::aggregated(self.config.own_as().public(), self.config.router_id);
        let attr = self.rib.attributes.intern(Block::made(None, &raw));
        self.rib.announce(LOCAL, IDENTIFIER, aggregate, attr, Ok(attr));
        self.rib.attributes.release(attr);
        self.outputs.push_back(Output::AggregateFormed { prefix: aggregate });
    }

    fn dissolve(&mut self, aggregate: Prefix) {
        self.rib.withdraw(LOCAL, IDENTIFIER, aggregate);
        self.outputs.push_back(Output::AggregateGone { prefix: aggregate });
    }

    /// The aggregates that stand for all that is in them.
    pub(super) fn summaries(&self) -> Arc<[Prefix]> {
        let all = self.config.aggregates.iter();
        all.filter(|(_, specifics)| **specifics == Specifics::Hidden).map(|(p, _)| *p).collect()
    }

    /// Sees to it that both default routes have a place in the table, for a peer that is told them
    /// whether there are any or not.
    pub(super) fn prepare_default_routes(&mut self) {
        for family in Family::ALL {
            self.rib.prefixes.find_or_insert(Prefix::default_of(family));
        }
    }
}
