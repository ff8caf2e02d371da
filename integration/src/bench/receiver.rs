//! What one session of the tester has heard, and whether that is exactly what it should.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::table::Table;
use super::wire::parse_update;

/// No route.
pub(crate) const NONE: u32 = 0;
/// Whatever is heard is right: a speaker may tell a peer its own routes, or not.
pub(crate) const ANY: u32 = u32::MAX;
/// Attributes that nobody sent.
const UNKNOWN: u32 = u32::MAX - 1;

/// What can be told from each other: attributes by fingerprint, from 1 on.
#[derive(Debug, Default)]
pub(crate) struct Kinds(HashMap<u64, u32>);

impl Kinds {
    /// Gives the attributes with this fingerprint, as the receiver hears them, this number.
    pub(crate) fn insert(&mut self, fingerprint: u64, number: u32) {
        let before = self.0.insert(fingerprint, number);
        assert_eq!(before, None, "two attribute sets have one fingerprint");
    }
}

/// What a receiver holds.
#[derive(Debug)]
pub(crate) struct Heard {
    table: Rc<Table>,
    kinds: Rc<Kinds>,
    speaker: IpAddr,
    /// By prefix: the number of its attributes.
    held: Vec<u32>,
    target: Vec<u32>,
    /// Prefixes that are not as they should be.
    wrong: usize,
    /// Prefixes that nobody sent.
    strangers: usize,
    pub(crate) updates: u64,
    pub(crate) prefixes: u64,
    changes: Option<Changes>,
}

/// When changes were sent, and how long they took.
#[derive(Debug)]
struct Changes {
    sent: Vec<Option<Instant>>,
    took: Vec<Duration>,
}

impl Heard {
    /// Nothing is held, and nothing should be.
    pub(crate) fn new(table: Rc<Table>, kinds: Rc<Kinds>, speaker: IpAddr) -> Self {
        let nothing = vec![NONE; table.len()];
        Self {
            table,
            kinds,
            speaker,
            held: nothing.clone(),
            target: nothing,
            wrong: 0,
            strangers: 0,
            updates: 0,
            prefixes: 0,
            changes: None,
        }
    }

    /// Says what should be held from now on.
    pub(crate) fn expect(&mut self, target: Vec<u32>) {
        self.target = target;
        let pairs = self.held.iter().zip(&self.target);
        self.wrong = pairs.filter(|(held, target)| is_wrong(**held, **target)).count();
    }

    /// Says that one prefix was changed just now.
    pub(crate) fn expect_change(&mut self, prefix: u32, target: u32, now: Instant) {
        let at = prefix as usize;
        self.wrong -= usize::from(is_wrong(self.held[at], self.target[at]));
        self.target[at] = target;
        self.wrong += usize::from(is_wrong(self.held[at], target));
        let empty = || Changes { sent: vec![None; self.held.len()], took: Vec::new() };
        self.changes.get_or_insert_with(empty).sent[at] = Some(now);
    }

    /// How long each change took until it was heard.
    pub(crate) fn latencies(&mut self) -> Vec<Duration> {
        self.changes.take().map(|changes| changes.took).unwrap_or_default()
    }

    /// Whether exactly the right is held.
    pub(crate) const fn is_right(&self) -> bool {
        self.wrong == 0 && self.strangers == 0
    }

    /// What is wrong, in a few words.
    pub(crate) fn complaint(&self) -> String {
        let missing = self.held.iter().zip(&self.target).filter(|(h, t)| **h == NONE && **t != ANY);
        let missing = missing.filter(|(_, target)| **target != NONE).count();
        let unknown = self.held.iter().filter(|held| **held == UNKNOWN).count();
        format!(
            "{} prefixes wrong ({missing} missing, {unknown} with attributes that nobody sent), {} strangers",
            self.wrong, self.strangers
        )
    }

    /// Takes the body of an UPDATE.
    pub(crate) fn update(&mut self, body: &[u8], now: Instant) -> Result<(), &'static str> {
        let update = parse_update(body, self.table.family, self.speaker)?;
        // One that says nothing is the End-of-RIB.
        let says = !(update.withdrawn.is_empty() && update.announced.is_empty());
        self.updates += u64::from(says);
        self.each(update.withdrawn, NONE, now)?;
        if update.announced.is_empty() {
            return Ok(());
        }
        let kind = self.kinds.0.get(&update.fingerprint).copied().unwrap_or(UNKNOWN);
        self.each(update.announced, kind, now)
    }

    fn each(&mut self, mut nlri: &[u8], kind: u32, now: Instant) -> Result<(), &'static str> {
        let mut before = 0;
        while !nlri.is_empty() {
            self.prefixes += 1;
            let Some(prefix) = self.table.take(&mut nlri, before)? else {
                self.strangers += 1;
                continue;
            };
            before = prefix;
            let at = prefix as usize;
            let target = self.target[at];
            let before = std::mem::replace(&mut self.held[at], kind);
            self.wrong -= usize::from(is_wrong(before, target));
            self.wrong += usize::from(is_wrong(kind, target));
            if let Some(changes) = &mut self.changes
                && kind == target
                && let Some(sent) = changes.sent[at].take()
            {
                changes.took.push(now - sent);
            }
        }
        Ok(())
    }
}

const fn is_wrong(held: u32, target: u32) -> bool {
    held != target && target != ANY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::table::{Family, attributes};
    use crate::bench::wire::{self, Teller, fingerprint};

    fn bodies(stream: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = stream;
        let mut all = Vec::new();
        while let Some((_, body, length)) = wire::frame(rest).unwrap() {
            all.push(body.to_vec());
            rest = &rest[length..];
        }
        all
    }

    #[test]
    fn a_receiver_is_right_only_with_every_prefix_and_its_own_attributes() {
        let table = Rc::new(Table::new(Family::Ipv4, 1, 40, 4));
        let speaker: IpAddr = "10.99.255.254".parse().unwrap();
        let (good, bad) = (attributes(1, Some(64_600), 4), attributes(2, Some(64_600), 4));
        let mut kinds = Kinds::default();
        kinds.insert(fingerprint(&good), 1);
        let mut heard = Heard::new(Rc::clone(&table), Rc::new(kinds), speaker);
        heard.expect(vec![1; 40]);
        let mut take = |attributes, prefixes: std::ops::Range<u32>| {
            let mut stream = Vec::new();
            let teller = Teller { next_hop: speaker, local_pref: None };
            wire::announce(&mut stream, &table, teller, attributes, prefixes);
            for body in bodies(&stream) {
                heard.update(&body, Instant::now()).unwrap();
            }
            heard.is_right()
        };
        assert!(!take(&good, 1..40));
        assert!(!take(&bad, 0..1));
        assert!(take(&good, 0..1));
        assert!(!take(&bad, 7..8));
        heard.expect(vec![NONE; 40]);
        let mut stream = Vec::new();
        wire::withdraw(&mut stream, &table, 0..40);
        assert!(!heard.is_right());
        heard.update(&bodies(&stream)[0], Instant::now()).unwrap();
        assert!(heard.is_right());
    }
}
