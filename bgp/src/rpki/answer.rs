//! An answer of a cache on its way: nothing of it counts before its end (RFC 8210 §8.1).

use std::collections::{BTreeMap, BTreeSet};

use super::client::Fault;
use super::{Change, Vrp};
use crate::wire::iana::rpki_rtr::error;

/// The most records that are kept of a cache. All of the world's are some 700,000.
const RECORDS_MAX: usize = 2_000_000;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// What changed since the data that we have.
    Changes,
    /// Everything.
    Everything,
}

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    pub(super) session: u16,
    /// The last word on each record.
    told: BTreeMap<Vrp, Change>,
}

impl Answer {
    pub(super) const fn new(question: Question, session: u16) -> Self {
        Self { question, session, told: BTreeMap::new() }
    }

    /// Takes a record. `before` are those that we have.
    pub(super) fn take(
        &mut self,
        before: &BTreeSet<Vrp>,
        change: Change,
        vrp: Vrp,
    ) -> Result<(), Fault> {
        let holds = match (self.told.get(&vrp), self.question) {
            (Some(Change::Announced), _) => true,
            (Some(Change::Withdrawn), _) | (None, Question::Everything) => false,
            (None, Question::Changes) => before.contains(&vrp),
        };
        match (change, holds) {
            (Change::Announced, true) => {
                let text = format!("{vrp} is announced twice");
                return Err(Fault::of(error::DUPLICATE_ANNOUNCEMENT, text));
            }
            (Change::Withdrawn, false) => {
                let text = format!("{vrp} is withdrawn and was not announced");
                return Err(Fault::of(error::UNKNOWN_WITHDRAWAL, text));
            }
            (Change::Announced, false) | (Change::Withdrawn, true) => {}
        }
        self.told.insert(vrp, change);
        let kept = match self.question {
            Question::Everything => 0,
            Question::Changes => before.len(),
        };
        if kept + self.told.len() > RECORDS_MAX {
            let text = format!("more than {RECORDS_MAX} records");
            return Err(Fault::of(error::INTERNAL_ERROR, text));
        }
        Ok(())
    }

    /// The answer is complete: makes it true of `records`, and gives the difference.
    pub(super) fn complete(self, records: &mut BTreeSet<Vrp>) -> Vec<(Change, Vrp)> {
        let mut changes: Vec<(Change, Vrp)> = Vec::new();
        if self.question == Question::Everything {
            let gone = records.iter().filter(|vrp| self.told.get(vrp) != Some(&Change::Announced));
            changes.extend(gone.map(|vrp| (Change::Withdrawn, *vrp)));
        }
        for (vrp, change) in self.told {
            let differs = match change {
                Change::Announced => !records.contains(&vrp),
                Change::Withdrawn => self.question == Question::Changes && records.contains(&vrp),
            };
            if differs {
                changes.push((change, vrp));
            }
        }
        for (change, vrp) in &changes {
            match change {
                Change::Announced => records.insert(*vrp),
                Change::Withdrawn => records.remove(vrp),
            };
        }
        changes
    }
}
