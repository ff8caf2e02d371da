//! The tester: a process of its own that plays one scenario against a running daemon and prints
//! what it measured.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::measure::{self, Stretch};
use super::receiver::{Heard, Kinds, NONE};
use super::scenario::{self, DAEMON_AS, Play};
use super::sessions::Sessions;
use super::table::{Attributes, Table, attributes, path_length};
use super::wire::{self, Teller, fingerprint};

/// How long the daemon may take for one step.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// What the tester is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) play: Play,
    /// The daemon under test.
    pub(crate) pid: u32,
}

/// One measured row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) row: String,
    /// Why the run does not count.
    pub(crate) wrong: Option<String>,
    /// Seconds until the receivers held exactly the right.
    pub(crate) wall: f64,
    /// Processor seconds of the daemon until then.
    pub(crate) cpu: f64,
    /// The most resident memory of the daemon's life so far.
    pub(crate) peak_kib: u64,
    /// UPDATE messages and prefixes that one receiver heard.
    pub(crate) updates: u64,
    pub(crate) prefixes: u64,
    pub(crate) tester_cpu: f64,
    pub(crate) foreign: f64,
    /// What only this row has, by name and unit.
    pub(crate) more: BTreeMap<String, f64>,
}

/// Plays what standard input orders; prints figures, a line each, as soon as they are there.
pub(crate) fn run() -> Result<()> {
    let order: Order = serde_json::from_reader(std::io::stdin()).context("the order")?;
    let mut stage = Stage::new(order)?;
    let played = match order.play {
        Play::One => stage.one(),
        Play::Rivals => stage.rivals(),
        Play::Large | Play::LargeIpv6 => stage.large(order.play),
        Play::Crowd => stage.crowd(),
        Play::Mesh => stage.mesh(),
        Play::Churn => super::churn::play(&mut stage),
        Play::Audience => stage.audience(),
    };
    if let Err(error) = played {
        stage.print(&Figure {
            row: stage.row.clone(),
            wrong: Some(format!("{error:#}")),
            wall: 0.0,
            cpu: 0.0,
            peak_kib: measure::sample(order.pid).map_or(0, |sample| sample.peak_kib),
            updates: 0,
            prefixes: 0,
            tester_cpu: 0.0,
            foreign: 0.0,
            more: BTreeMap::new(),
        })?;
    }
    Ok(())
}

/// A play under way.
pub(crate) struct Stage {
    play: Play,
    pub(crate) sessions: Sessions,
    pub(crate) table: Rc<Table>,
    /// The row that is being measured, for an error.
    row: String,
}

impl Stage {
    fn new(order: Order) -> Result<Self> {
        let Order { play, pid } = order;
        let (prefixes, sets) = match play {
            Play::One | Play::Rivals | Play::Audience => scenario::TABLE,
            Play::Large | Play::LargeIpv6 | Play::Churn => scenario::LARGE_TABLE,
            Play::Crowd => scenario::SMALL_TABLE,
            Play::Mesh => (4, 1),
        };
        let shares = match play {
            Play::Crowd => scenario::CROWD,
            Play::Mesh => scenario::MESH,
            Play::One
            | Play::Rivals
            | Play::Large
            | Play::LargeIpv6
            | Play::Churn
            | Play::Audience => 1,
        };
        let table = Rc::new(Table::new(play.family(), shares, prefixes, sets));
        Ok(Self { play, sessions: Sessions::new(play, pid)?, table, row: String::new() })
    }

    fn print(&self, figure: &Figure) -> Result<()> {
        println!("{}", serde_json::to_string(figure)?);
        Ok(())
    }

    /// Names the row that the next steps are for.
    pub(crate) fn begin(&mut self, row: &str) {
        row.clone_into(&mut self.row);
    }

    pub(super) fn asn(&self, number: usize) -> u32 {
        self.play.peers()[number].asn
    }

    /// The UPDATEs with which a session tells these sets, whose attributes are `attributes(set)`.
    pub(crate) fn announcements(
        &self,
        teller: usize,
        sets: std::ops::Range<u32>,
        attributes: impl Fn(u32) -> Attributes,
    ) -> Rc<Vec<u8>> {
        let internal = self.asn(teller) == DAEMON_AS;
        let says = Teller {
            next_hop: self.sessions.all[teller].address,
            local_pref: internal.then_some(100),
        };
        let mut out = Vec::new();
        for set in sets {
            wire::announce(&mut out, &self.table, says, &attributes(set), self.table.members(set));
        }
        Rc::new(out)
    }

    /// Attributes as a receiver hears them: the daemon's own AS comes first.
    pub(crate) fn heard_as(mut attributes: Attributes) -> u64 {
        attributes.path.insert(0, DAEMON_AS);
        fingerprint(&attributes)
    }

    /// The attributes of a set from a sender, the same in all plays with one sender a set.
    pub(crate) fn told(&self, sender: usize, set: u32) -> Attributes {
        attributes(set, Some(self.asn(sender)), path_length(set))
    }

    /// Has sessions hear, each expecting nothing yet.
    pub(crate) fn listen(&mut self, numbers: std::ops::Range<usize>, kinds: &Rc<Kinds>) {
        let daemon = self.play.daemon();
        for session in &mut self.sessions.all[numbers] {
            session.heard = Some(Heard::new(Rc::clone(&self.table), Rc::clone(kinds), daemon));
        }
    }

    /// The number of the attributes of each prefix when every set is told as its own kind.
    pub(crate) fn full(&self) -> Vec<u32> {
        self.table.all().map(|prefix| self.table.set_of(prefix) + 1).collect()
    }

    pub(super) fn nothing(&self) -> Vec<u32> {
        vec![NONE; self.table.len()]
    }

    pub(crate) fn expect(&mut self, number: usize, target: Vec<u32>) {
        if let Some(heard) = &mut self.sessions.all[number].heard {
            heard.expect(target);
        }
    }

    /// One sender told each set of the table.
    pub(super) fn plain_kinds(&self, sender_of: impl Fn(u32) -> usize) -> Rc<Kinds> {
        let mut kinds = Kinds::default();
        for set in 0..self.table.sets() {
            kinds.insert(Self::heard_as(self.told(sender_of(set), set)), set + 1);
        }
        Rc::new(kinds)
    }

    /// Waits until all `receivers` hold exactly the right, lets the daemon come to rest, looks again
    /// and prints the row. The counts are those of the last receiver.
    pub(crate) fn converge(
        &mut self,
        row: &str,
        stretch: &Stretch,
        receivers: std::ops::Range<usize>,
    ) -> Result<()> {
        let before = self.counts(receivers.end - 1);
        self.converge_from(row, stretch, receivers, before)
    }

    fn counts(&self, number: usize) -> (u64, u64) {
        let heard = self.sessions.all[number].heard.as_ref();
        heard.map_or((0, 0), |heard| (heard.updates, heard.prefixes))
    }

    fn converge_from(
        &mut self,
        row: &str,
        stretch: &Stretch,
        receivers: std::ops::Range<usize>,
        before: (u64, u64),
    ) -> Result<()> {
        self.await_right(receivers.clone())?;
        let cost = stretch.end()?;
        self.sessions.settle()?;
        self.check_right(receivers.clone())?;
        let after = self.counts(receivers.end - 1);
        self.print(&Figure {
            row: row.to_owned(),
            wrong: None,
            wall: cost.wall,
            cpu: cost.cpu,
            peak_kib: measure::sample(self.sessions.pid)?.peak_kib,
            updates: after.0 - before.0,
            prefixes: after.1 - before.1,
            tester_cpu: cost.tester_cpu,
            foreign: cost.foreign,
            more: BTreeMap::new(),
        })
    }

    /// Prints a row of which only some numbers make sense.
    pub(crate) fn print_cost(
        &self,
        row: &str,
        cost: measure::Cost,
        more: BTreeMap<String, f64>,
    ) -> Result<()> {
        self.print(&Figure {
            row: row.to_owned(),
            wrong: None,
            wall: cost.wall,
            cpu: cost.cpu,
            peak_kib: measure::sample(self.sessions.pid)?.peak_kib,
            updates: 0,
            prefixes: 0,
            tester_cpu: cost.tester_cpu,
            foreign: cost.foreign,
            more,
        })
    }

    pub(crate) fn await_right(&mut self, receivers: std::ops::Range<usize>) -> Result<()> {
        let all = receivers.clone();
        let right = |sessions: &Sessions| {
            let mut heard = sessions.all[all.clone()].iter().filter_map(|s| s.heard.as_ref());
            heard.all(Heard::is_right)
        };
        if !self.sessions.run(LIMIT, right)? {
            self.check_right(receivers).with_context(|| format!("after {LIMIT:?}"))?;
        }
        Ok(())
    }

    pub(crate) fn check_right(&self, receivers: std::ops::Range<usize>) -> Result<()> {
        for number in receivers {
            if let Some(heard) = &self.sessions.all[number].heard {
                ensure!(heard.is_right(), "receiver {number}: {}", heard.complaint());
            }
        }
        Ok(())
    }

    /// One more receiver: from its session being up to its table being full.
    pub(super) fn late(&mut self, row: &str, number: usize, kinds: &Rc<Kinds>) -> Result<()> {
        self.begin(row);
        self.listen(number..number + 1, kinds);
        self.expect(number, self.full());
        let mut stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.dial([number])?;
        let up = |sessions: &Sessions| sessions.all[number].is_established();
        ensure!(self.sessions.run(LIMIT, up)?, "the late receiver did not come up");
        if let super::session::State::Established(since) = self.sessions.all[number].state {
            stretch.starts_at(since);
        }
        self.converge_from(row, &stretch, number..number + 1, (0, 0))
    }
}
