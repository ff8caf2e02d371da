//! An answer of a cache on its way: nothing of it counts before its end (RFC 8210 §8.1).

use std::collections::BTreeMap;

use super::client::Fault;
use super::origins::{Affected, News};
use super::{Change, Vrp, Vrps};
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
    pub(super) session: u16,
    told: Told,
}

/// What it has told until now.
#[derive(Debug)]
enum Told {
    /// The last word on each record.
    Changes(BTreeMap<Vrp, Change>),
    /// The table that will take the place of the one that we have. It is built as the answer comes, so
    /// that its end is no more work than any other moment.
    Everything(Vrps),
}

impl Answer {
    pub(super) fn new(question: Question, session: u16) -> Self {
        let told = match question {
            Question::Changes => Told::Changes(BTreeMap::new()),
            Question::Everything => Told::Everything(Vrps::default()),
        };
        Self { session, told }
    }

    pub(super) const fn question(&self) -> Question {
        match self.told {
            Told::Changes(_) => Question::Changes,
            Told::Everything(_) => Question::Everything,
        }
    }

    /// Takes a record. `have` are those that count until the end.
    pub(super) fn take(&mut self, have: &Vrps, change: Change, vrp: Vrp) -> Result<(), Fault> {
        let (is_news, held) = match &mut self.told {
            Told::Everything(new) => {
                let is_news = match change {
                    Change::Announced => new.insert(vrp),
                    Change::Withdrawn => new.remove(vrp),
                };
                (is_news, new.len())
            }
            Told::Changes(told) => {
                let holds = match told.get(&vrp) {
                    Some(last) => *last == Change::Announced,
                    None => have.contains(vrp),
                };
                told.insert(vrp, change);
                (holds != (change == Change::Announced), have.len() + told.len())
            }
        };
        let (code, text) = match change {
            _ if held > RECORDS_MAX => {
                (error::INTERNAL_ERROR, format!("more than {RECORDS_MAX} records"))
            }
            _ if is_news => return Ok(()),
            Change::Announced => {
                (error::DUPLICATE_ANNOUNCEMENT, format!("{vrp} is announced twice"))
            }
            Change::Withdrawn => {
                (error::UNKNOWN_WITHDRAWAL, format!("{vrp} is withdrawn and was not announced"))
            }
        };
        Err(Fault::of(code, text))
    }

    /// The answer is complete: makes it true of what we have.
    pub(super) fn complete(self, have: &mut Vrps) -> News {
        match self.told {
            Told::Everything(new) => News::Replaced(std::mem::replace(have, new)),
            Told::Changes(told) => {
                let mut affected = Affected::default();
                for (vrp, change) in told {
                    let differs = match change {
                        Change::Announced => have.insert(vrp),
                        Change::Withdrawn => have.remove(vrp),
                    };
                    if differs {
                        affected.insert(vrp.prefix);
                    }
                }
                News::Changed(affected)
            }
        }
    }
}
