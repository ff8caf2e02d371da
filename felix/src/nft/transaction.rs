//! An atomic list of changes to one table, and its execution in memory by the kernel's own rules.

use std::collections::{HashMap, btree_map::Entry};

use super::{
    key::Key,
    statement::Statement,
    table::{Base, Chain, Element, Name, Rule, Set, SetType, Table, Verdict},
};

/// Changes to one table that happen together or not at all. Prints as the input of `nft -f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The table's name.
    pub table: Name,
    /// The changes in order.
    pub ops: Vec<Op>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `add table`; nothing happens when it exists.
    AddTable,
    /// `delete table`, with all that is in it.
    DeleteTable,
    /// `add chain`; on a base chain that exists, sets the policy.
    AddChain(Name, Option<Base>),
    /// `flush chain`: deletes its rules.
    FlushChain(Name),
    /// `delete chain`; nothing may lead to it.
    DeleteChain(Name),
    /// `add set` or `add map`.
    AddSet(Name, SetType),
    /// `flush set` or `flush map`: deletes its elements.
    FlushSet(Name, SetType),
    /// `delete set` or `delete map`; no rule may use it.
    DeleteSet(Name, SetType),
    /// `add rule`, behind those that are there.
    AddRule(Name, Rule),
    /// `add element`, all to one set.
    AddElements(Name, SetType, Vec<Element>),
    /// `delete element`, all from one set. The verdict is not compared.
    DeleteElements(Name, SetType, Vec<Key>),
}

/// The change that the table refused, by the kernel's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {op} of the transaction: {object} {why}")]
pub struct Refused {
    /// Index into [`Transaction::ops`].
    pub op: usize,
    /// The chain, set, or `set element` that it is about.
    pub object: String,
    /// The reason.
    pub why: Why,
}

/// Why a change is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not there (`ENOENT`).
    Missing,
    /// It is there, and different (`EEXIST`).
    Exists,
    /// Something still refers to it (`EBUSY`).
    InUse,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::Exists => "exists and is different",
            Self::InUse => "is still in use",
        })
    }
}

impl Transaction {
    /// A transaction that changes nothing yet.
    pub fn new(table: impl Into<Name>) -> Self {
        Self { table: table.into(), ops: Vec::new() }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Adds elements to a set or map. Nothing is recorded when there are none.
    pub fn add_elements(
        &mut self,
        set: impl Into<Name>,
        of: SetType,
        elements: impl IntoIterator<Item = Element>,
    ) -> &mut Self {
        let elements: Vec<_> = elements.into_iter().collect();
        debug_assert!(elements.iter().all(|e| e.key.as_bytes().len() == of.key_len()));
        if !elements.is_empty() {
            self.ops.push(Op::AddElements(set.into(), of, elements));
        }
        self
    }

    /// Deletes elements of a set or map. Nothing is recorded when there are none.
    pub fn delete_elements(
        &mut self,
        set: impl Into<Name>,
        of: SetType,
        keys: impl IntoIterator<Item = Key>,
    ) -> &mut Self {
        let keys: Vec<_> = keys.into_iter().collect();
        debug_assert!(keys.iter().all(|key| key.as_bytes().len() == of.key_len()));
        if !keys.is_empty() {
            self.ops.push(Op::DeleteElements(set.into(), of, keys));
        }
        self
    }

    /// Removes the table and all that is in it; no error when it is not there.
    pub fn uninstall(table: impl Into<Name>) -> Self {
        Self { table: table.into(), ops: vec![Op::AddTable, Op::DeleteTable] }
    }

    /// Replaces whatever the kernel holds under this name, in one step: packets see the old table or the
    /// new one. For when the mirror cannot be trusted.
    pub fn rebuild(desired: &Table) -> Self {
        let fresh = super::diff(desired, &Table::new(desired.name.clone()));
        let mut ops = vec![Op::AddTable, Op::DeleteTable, Op::AddTable];
        ops.extend(fresh.ops.into_iter().filter(|op| *op != Op::AddTable));
        Self { table: desired.name.clone(), ops }
    }

    /// Executes the changes on a table in memory, by the kernel's rules.
    ///
    /// # Errors
    /// At the first change that the kernel would refuse. The changes before it stay done: who needs
    /// "all or nothing" works on a clone.
    pub fn apply_to(&self, table: &mut Table) -> Result<(), Refused> {
        let deletes = |op: &Op| matches!(op, Op::DeleteChain(_) | Op::DeleteSet(..));
        // Counting who refers to what walks the whole table: only when the answer is asked for.
        let uses = self.ops.iter().any(deletes).then(|| Uses::count(table));
        let mut run = Run { table, uses, op: 0 };
        for (index, op) in self.ops.iter().enumerate() {
            run.op = index;
            run.execute(op)?;
        }
        Ok(())
    }
}

/// What a statement refers to: chains and sets have separate name spaces.
#[derive(Clone, Copy)]
pub(super) enum Reference<'a> {
    Chain(&'a Name),
    Set(&'a Name),
}

/// The chain or set that a statement refers to.
pub(super) fn refers_to(statement: &Statement) -> Option<Reference<'_>> {
    match statement {
        Statement::Lookup { set: name, .. } | Statement::Vmap { map: name, .. } => {
            Some(Reference::Set(name))
        }
        Statement::Verdict(verdict) => verdict.target().map(Reference::Chain),
        Statement::Match(..)
        | Statement::Counter
        | Statement::Log { .. }
        | Statement::Masquerade(_)
        | Statement::Notrack
        | Statement::Foreign(_) => None,
    }
}

/// How many rules and elements refer to each chain and set.
#[derive(Default)]
struct Uses {
    chains: HashMap<Name, usize>,
    sets: HashMap<Name, usize>,
}

impl Uses {
    fn count(table: &Table) -> Self {
        let mut uses = Self::default();
        for rule in table.chains.values().flat_map(|chain| &chain.rules) {
            uses.rule(rule, 1);
        }
        for verdict in table.sets.values().flat_map(|set| set.elements.values()) {
            uses.verdict(verdict.as_ref(), 1);
        }
        uses
    }

    fn add(&mut self, reference: Reference<'_>, by: isize) {
        let uses = match reference {
            Reference::Chain(name) => self.chains.entry(name.clone()).or_default(),
            Reference::Set(name) => self.sets.entry(name.clone()).or_default(),
        };
        *uses = uses.saturating_add_signed(by);
    }

    fn verdict(&mut self, verdict: Option<&Verdict>, by: isize) {
        if let Some(chain) = verdict.and_then(Verdict::target) {
            self.add(Reference::Chain(chain), by);
        }
    }

    fn rule(&mut self, rule: &Rule, by: isize) {
        for reference in rule.statements.iter().filter_map(refers_to) {
            self.add(reference, by);
        }
    }

    fn in_use(&self, reference: Reference<'_>) -> bool {
        let uses = match reference {
            Reference::Chain(name) => self.chains.get(name),
            Reference::Set(name) => self.sets.get(name),
        };
        uses.is_some_and(|uses| *uses > 0)
    }
}

struct Run<'a> {
    table: &'a mut Table,
    uses: Option<Uses>,
    op: usize,
}

impl Run<'_> {
    fn refuse(&self, object: impl Into<String>, why: Why) -> Refused {
        Refused { op: self.op, object: object.into(), why }
    }

    fn execute(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::AddTable => {}
            Op::DeleteTable => {
                self.table.chains.clear();
                self.table.sets.clear();
                self.uses = self.uses.as_ref().map(|_| Uses::default());
            }
            Op::AddChain(name, base) => self.add_chain(name, *base)?,
            Op::FlushChain(name) => self.flush_chain(name)?,
            Op::DeleteChain(name) => self.delete_chain(name)?,
            Op::AddSet(name, of) => self.add_set(name, *of)?,
            Op::FlushSet(name, _) => self.flush_set(name)?,
            Op::DeleteSet(name, _) => self.delete_set(name)?,
            Op::AddRule(chain, rule) => self.add_rule(chain, rule)?,
            Op::AddElements(set, _, elements) => self.add_elements(set, elements)?,
            Op::DeleteElements(set, _, keys) => self.delete_elements(set, keys)?,
        }
        Ok(())
    }

    fn in_use(&self, reference: Reference<'_>) -> bool {
        self.uses.as_ref().is_some_and(|uses| uses.in_use(reference))
    }

    fn chain(&mut self, name: &Name) -> Result<&mut Chain, Refused> {
        let missing = self.refuse(&**name, Why::Missing);
        self.table.chains.get_mut(name).ok_or(missing)
    }

    fn add_chain(&mut self, name: &Name, base: Option<Base>) -> Result<(), Refused> {
        let op = self.op;
        match self.table.chains.entry(name.clone()) {
            Entry::Vacant(place) => {
                place.insert(Chain { base, rules: Vec::new() });
            }
            Entry::Occupied(mut there) => {
                let placed = |base: Option<Base>| base.map(|b| (b.kind, b.hook, b.priority));
                if placed(there.get().base) != placed(base) {
                    return Err(Refused { op, object: name.to_string(), why: Why::Exists });
                }
                there.get_mut().base = base;
            }
        }
        Ok(())
    }

    fn flush_chain(&mut self, name: &Name) -> Result<(), Refused> {
        let rules = std::mem::take(&mut self.chain(name)?.rules);
        if let Some(uses) = &mut self.uses {
            rules.iter().for_each(|rule| uses.rule(rule, -1));
        }
        Ok(())
    }

    fn delete_chain(&mut self, name: &Name) -> Result<(), Refused> {
        if self.in_use(Reference::Chain(name)) {
            return Err(self.refuse(&**name, Why::InUse));
        }
        self.flush_chain(name)?;
        self.table.chains.remove(name);
        Ok(())
    }

    fn set(&mut self, name: &Name) -> Result<&mut Set, Refused> {
        let missing = self.refuse(&**name, Why::Missing);
        self.table.sets.get_mut(name).ok_or(missing)
    }

    fn add_set(&mut self, name: &Name, of: SetType) -> Result<(), Refused> {
        let op = self.op;
        match self.table.sets.entry(name.clone()) {
            Entry::Vacant(place) => {
                place.insert(Set::new(of));
            }
            Entry::Occupied(there) if there.get().of == of => {}
            Entry::Occupied(_) => {
                return Err(Refused { op, object: name.to_string(), why: Why::Exists });
            }
        }
        Ok(())
    }

    fn flush_set(&mut self, name: &Name) -> Result<(), Refused> {
        let elements = std::mem::take(&mut self.set(name)?.elements);
        if let Some(uses) = &mut self.uses {
            elements.values().for_each(|verdict| uses.verdict(verdict.as_ref(), -1));
        }
        Ok(())
    }

    fn delete_set(&mut self, name: &Name) -> Result<(), Refused> {
        if self.in_use(Reference::Set(name)) {
            return Err(self.refuse(&**name, Why::InUse));
        }
        self.flush_set(name)?;
        self.table.sets.remove(name);
        Ok(())
    }

    fn add_rule(&mut self, chain: &Name, rule: &Rule) -> Result<(), Refused> {
        self.chain(chain)?;
        for reference in rule.statements.iter().filter_map(refers_to) {
            let (name, there) = match reference {
                Reference::Chain(name) => (name, self.table.chains.contains_key(name)),
                Reference::Set(name) => (name, self.table.sets.contains_key(name)),
            };
            if !there {
                return Err(self.refuse(&**name, Why::Missing));
            }
        }
        self.chain(chain)?.rules.push(rule.clone());
        if let Some(uses) = &mut self.uses {
            uses.rule(rule, 1);
        }
        Ok(())
    }

    fn add_elements(&mut self, name: &Name, elements: &[Element]) -> Result<(), Refused> {
        for element in elements {
            if let Some(chain) = element.verdict.as_ref().and_then(Verdict::target)
                && !self.table.chains.contains_key(chain)
            {
                return Err(self.refuse(&**chain, Why::Missing));
            }
            let before =
                self.set(name)?.elements.insert(element.key.clone(), element.verdict.clone());
            match before {
                Some(verdict) if verdict != element.verdict => {
                    return Err(self.refuse(format!("{name} {:?}", element.key), Why::Exists));
                }
                Some(_) => {}
                None => {
                    if let Some(uses) = &mut self.uses {
                        uses.verdict(element.verdict.as_ref(), 1);
                    }
                }
            }
        }
        Ok(())
    }

    fn delete_elements(&mut self, name: &Name, keys: &[Key]) -> Result<(), Refused> {
        for key in keys {
            let Some(verdict) = self.set(name)?.elements.remove(key) else {
                return Err(self.refuse(format!("{name} {key:?}"), Why::Missing));
            };
            if let Some(uses) = &mut self.uses {
                uses.verdict(verdict.as_ref(), -1);
            }
        }
        Ok(())
    }
}
