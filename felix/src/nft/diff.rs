//! From what the kernel holds to what it should hold, in one transaction.
//!
//! The order makes one transaction enough: first everything lets go (rules, then elements, then sets,
//! then chains), then everything is made (chains, sets, rules, elements). Chains come before maps because
//! nft 1.0.6 sends a new interval map together with its elements, which need their chains.
//!
//! A chain whose rules are the same is not touched, so its counters live on.

use std::{cmp::Ordering, collections::BTreeSet};

use super::{
    key::Key,
    table::{Base, Chain, Element, Name, Rule, Set, SetKind, Table, Verdict},
    transaction::{Op, Reference, Transaction, refers_to},
};

/// The changes that make `mirror` equal to `desired`. Empty when nothing is to do; the work is one walk
/// over both tables, without allocation for what is equal.
pub fn diff(desired: &Table, mirror: &Table) -> Transaction {
    let plan = Plan::new(desired, mirror);
    let mut ops = Vec::new();
    if mirror.is_empty() && !desired.is_empty() {
        ops.push(Op::AddTable);
    }
    plan.flush_chains(&mut ops);
    plan.delete_elements(&mut ops);
    plan.delete_sets(&mut ops);
    plan.delete_chains(&mut ops);
    plan.add_chains(&mut ops);
    plan.add_sets(&mut ops);
    plan.add_rules(&mut ops);
    plan.add_elements(&mut ops);
    Transaction { table: desired.name.clone(), ops }
}

struct Plan<'a> {
    desired: &'a Table,
    mirror: &'a Table,
    /// Chains that keep their name but not their hook: deleted and made again.
    remade_chains: BTreeSet<&'a Name>,
    /// Sets that keep their name but not their type.
    remade_sets: BTreeSet<&'a Name>,
    /// Chains that stay and get other rules.
    rewritten: BTreeSet<&'a Name>,
}

impl<'a> Plan<'a> {
    fn new(desired: &'a Table, mirror: &'a Table) -> Self {
        let remade_chains = both(&desired.chains, &mirror.chains)
            .filter(|(_, goal, now)| place(goal.base) != place(now.base))
            .map(|(name, ..)| name)
            .collect();
        let remade_sets = both(&desired.sets, &mirror.sets)
            .filter(|(_, goal, now)| goal.of != now.of)
            .map(|(name, ..)| name)
            .collect();
        let rewritten = BTreeSet::new();
        let mut plan = Self { desired, mirror, remade_chains, remade_sets, rewritten };
        plan.rewritten = both(&desired.chains, &mirror.chains)
            .filter(|(name, goal, now)| {
                !plan.remade_chains.contains(name)
                    && (goal.rules != now.rules || now.rules.iter().any(|rule| plan.loses(rule)))
            })
            .map(|(name, ..)| name)
            .collect();
        plan
    }

    /// Whether the rule refers to something that is made again, so that it has to let go of it.
    fn loses(&self, rule: &Rule) -> bool {
        rule.statements.iter().filter_map(refers_to).any(|reference| match reference {
            Reference::Chain(name) => self.remade_chains.contains(name),
            Reference::Set(name) => self.remade_sets.contains(name),
        })
    }

    fn leads_to_remade(&self, verdict: Option<&Verdict>) -> bool {
        !self.remade_chains.is_empty()
            && verdict.and_then(Verdict::target).is_some_and(|to| self.remade_chains.contains(to))
    }

    fn chain_goes(&self, name: &Name) -> bool {
        !self.desired.chains.contains_key(name) || self.remade_chains.contains(name)
    }

    fn chain_comes(&self, name: &Name) -> bool {
        !self.mirror.chains.contains_key(name) || self.remade_chains.contains(name)
    }

    fn set_goes(&self, name: &Name) -> bool {
        !self.desired.sets.contains_key(name) || self.remade_sets.contains(name)
    }

    fn set_comes(&self, name: &Name) -> bool {
        !self.mirror.sets.contains_key(name) || self.remade_sets.contains(name)
    }

    fn flush_chains(&self, ops: &mut Vec<Op>) {
        for (name, chain) in &self.mirror.chains {
            let goes = self.chain_goes(name) || self.rewritten.contains(name);
            if goes && !chain.rules.is_empty() {
                ops.push(Op::FlushChain(name.clone()));
            }
        }
    }

    fn delete_elements(&self, ops: &mut Vec<Op>) {
        for (name, goal, now) in both(&self.desired.sets, &self.mirror.sets) {
            if self.remade_sets.contains(name) {
                continue;
            }
            let mut keys = Vec::new();
            compare(goal, now, |key, goal, now| {
                if now.is_some() && (goal != now || self.leads_to_remade(now.flatten())) {
                    keys.push(key.clone());
                }
            });
            if !keys.is_empty() {
                ops.push(Op::DeleteElements(name.clone(), now.of, keys));
            }
        }
    }

    fn delete_sets(&self, ops: &mut Vec<Op>) {
        for (name, set) in self.mirror.sets.iter().filter(|(name, _)| self.set_goes(name)) {
            // Older kernels let go of the chains of a map only when its elements were deleted by themselves.
            if set.of.kind == SetKind::Verdicts && !set.elements.is_empty() {
                ops.push(Op::FlushSet(name.clone(), set.of));
            }
            ops.push(Op::DeleteSet(name.clone(), set.of));
        }
    }

    fn delete_chains(&self, ops: &mut Vec<Op>) {
        let goes = self.mirror.chains.keys().filter(|name| self.chain_goes(name));
        ops.extend(goes.map(|name| Op::DeleteChain(name.clone())));
    }

    fn add_chains(&self, ops: &mut Vec<Op>) {
        for (name, chain) in &self.desired.chains {
            let comes = self.chain_comes(name);
            if comes || self.mirror.chains.get(name).is_some_and(|now| now.base != chain.base) {
                ops.push(Op::AddChain(name.clone(), chain.base));
            }
        }
    }

    fn add_sets(&self, ops: &mut Vec<Op>) {
        let comes = self.desired.sets.iter().filter(|(name, _)| self.set_comes(name));
        ops.extend(comes.map(|(name, set)| Op::AddSet(name.clone(), set.of)));
    }

    fn add_rules(&self, ops: &mut Vec<Op>) {
        let to_fill = |name: &Name| self.chain_comes(name) || self.rewritten.contains(name);
        for (name, Chain { rules, .. }) in &self.desired.chains {
            if to_fill(name) {
                ops.extend(rules.iter().map(|rule| Op::AddRule(name.clone(), rule.clone())));
            }
        }
    }

    fn add_elements(&self, ops: &mut Vec<Op>) {
        let mut list = Vec::new();
        for (name, goal) in &self.desired.sets {
            let now = match self.mirror.sets.get(name).filter(|_| !self.set_comes(name)) {
                Some(now) => now,
                None if goal.elements.is_empty() => continue,
                None => {
                    list.extend(goal.elements.iter().map(|(key, v)| element(key, v.as_ref())));
                    ops.push(Op::AddElements(name.clone(), goal.of, std::mem::take(&mut list)));
                    continue;
                }
            };
            compare(goal, now, |key, goal, now| {
                if let Some(verdict) = goal
                    && (goal != now || self.leads_to_remade(verdict))
                {
                    list.push(element(key, verdict));
                }
            });
            if !list.is_empty() {
                ops.push(Op::AddElements(name.clone(), goal.of, std::mem::take(&mut list)));
            }
        }
    }
}

fn element(key: &Key, verdict: Option<&Verdict>) -> Element {
    Element { key: key.clone(), verdict: verdict.cloned() }
}

/// What a base chain cannot change while it lives.
fn place(base: Option<Base>) -> Option<(super::ChainType, super::Hook, i32)> {
    base.map(|base| (base.kind, base.hook, base.priority))
}

/// What is in both maps, in order.
fn both<'a, T>(
    goal: &'a std::collections::BTreeMap<Name, T>,
    now: &'a std::collections::BTreeMap<Name, T>,
) -> impl Iterator<Item = (&'a Name, &'a T, &'a T)> {
    goal.iter().filter_map(|(name, goal)| Some((name, goal, now.get(name)?)))
}

/// Walks two sets side by side and calls `each` for every key that is in either, with what both hold.
fn compare<'a>(
    goal: &'a Set,
    now: &'a Set,
    mut each: impl FnMut(&'a Key, Option<Option<&'a Verdict>>, Option<Option<&'a Verdict>>),
) {
    let (mut goal, mut now) = (goal.elements.iter().peekable(), now.elements.iter().peekable());
    loop {
        let order = match (goal.peek(), now.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let left = goal.next_if(|_| order.is_le());
        let right = now.next_if(|_| order.is_ge());
        let verdict = |(_, verdict): (&'a Key, &'a Option<Verdict>)| verdict.as_ref();
        if let Some((key, _)) = left.or(right) {
            each(key, left.map(verdict), right.map(verdict));
        }
    }
}
