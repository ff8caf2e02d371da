//! The plays, step by step; each step that is measured prints its row.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::measure::{self, Stretch};
use super::receiver::{ANY, Kinds};
use super::scenario::{self, Play};
use super::session::Window;
use super::sessions::Reading;
use super::table::{Attributes, attributes, mix};
use super::tester::{LIMIT, Stage};
use super::wire;

/// Sessions that come up at the same time: not more than every daemon lets wait to be accepted.
const AT_THE_DOOR: usize = 8;

impl Stage {
    pub(super) fn one(&mut self) -> Result<()> {
        self.begin("a");
        let kinds = self.plain_kinds(|_| 0);
        self.listen(1..2, &kinds);
        self.sessions.bring_up(0..2)?;
        self.sessions.settle()?;
        let table = self.announcements(0, 0..self.table.sets(), |set| self.told(0, set));
        self.expect(1, self.full());
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, Rc::clone(&table))?;
        self.converge("a", &stretch, 1..2)?;

        self.late("f", 2, &kinds)?;
        self.sessions.all[2].reset();
        self.sessions.settle()?;

        self.begin("e1");
        let mut withdrawal = Vec::new();
        wire::withdraw(&mut withdrawal, &self.table, self.table.all());
        self.expect(1, self.nothing());
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, Rc::new(withdrawal))?;
        self.converge("e1", &stretch, 1..2)?;

        self.begin("e2");
        self.expect(1, self.full());
        self.sessions.say(0, table)?;
        self.await_right(1..2)?;
        self.sessions.settle()?;
        self.expect(1, self.nothing());
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, Rc::new(wire::cease()))?;
        self.sessions.all[0].reset();
        self.converge("e2", &stretch, 1..2)
    }

    /// Ten senders; for each set one of them has a shorter path than all others.
    pub(super) fn rivals(&mut self) -> Result<()> {
        self.begin("b");
        let rivals = scenario::RIVALS;
        let receiver = rivals as usize;
        let sets = self.table.sets();
        let best =
            |set: u32| u32::try_from(mix(set.into()) % u64::from(rivals)).expect("below ten");
        let told = |sender: u32, set: u32| {
            let length = if best(set) == sender { 3 } else { 4 + mix(set.into()) % 3 };
            attributes(sender * sets + set, Some(self.asn(sender as usize)), length)
        };
        let mut kinds = Kinds::default();
        for (sender, set) in (0..rivals).flat_map(|sender| (0..sets).map(move |set| (sender, set)))
        {
            kinds.insert(Self::heard_as(told(sender, set)), sender * sets + set + 1);
        }
        let tables: Vec<_> = (0..rivals)
            .map(|sender| self.announcements(sender as usize, 0..sets, |set| told(sender, set)))
            .collect();
        let target = self.table.all().map(|prefix| {
            let set = self.table.set_of(prefix);
            best(set) * sets + set + 1
        });
        let target = target.collect();
        self.listen(receiver..receiver + 1, &Rc::new(kinds));
        self.sessions.bring_up(0..receiver + 1)?;
        self.sessions.settle()?;
        self.expect(receiver, target);
        let stretch = Stretch::begin(self.sessions.pid)?;
        for (sender, table) in tables.into_iter().enumerate() {
            self.sessions.say(sender, table)?;
        }
        self.converge("b", &stretch, receiver..receiver + 1)
    }

    pub(super) fn large(&mut self, play: Play) -> Result<()> {
        let row = if play == Play::LargeIpv6 { "i" } else { "c" };
        self.begin(row);
        let kinds = self.plain_kinds(|_| 0);
        self.listen(1..2, &kinds);
        self.sessions.bring_up(0..2)?;
        self.sessions.settle()?;
        let table = self.announcements(0, 0..self.table.sets(), |set| self.told(0, set));
        self.expect(1, self.full());
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, table)?;
        self.converge(row, &stretch, 1..2)?;
        if play == Play::Large { self.late("f, 800k", 2, &kinds) } else { Ok(()) }
    }

    /// 30 senders that hear of one another, and one receiver more.
    pub(super) fn crowd(&mut self) -> Result<()> {
        self.begin("d");
        let senders = scenario::CROWD as usize;
        let (_, sets) = scenario::SMALL_TABLE;
        let sender_of = |set: u32| (set / sets) as usize;
        let kinds = self.plain_kinds(sender_of);
        self.listen(0..senders + 1, &kinds);
        self.sessions.bring_up(0..senders + 1)?;
        self.sessions.settle()?;
        let mut tables = Vec::new();
        for (sender, share) in (0..senders).zip(0u32..) {
            let own = share * sets..(share + 1) * sets;
            tables.push(self.announcements(sender, own.clone(), |set| self.told(sender, set)));
            let mut target = self.full();
            own.flat_map(|set| self.table.members(set)).for_each(|p| target[p as usize] = ANY);
            self.expect(sender, target);
        }
        self.expect(senders, self.full());
        let stretch = Stretch::begin(self.sessions.pid)?;
        for (sender, table) in tables.into_iter().enumerate() {
            self.sessions.say(sender, table)?;
        }
        self.converge("d", &stretch, 0..senders + 1)?;
        self.late("f, 300k", senders + 1, &kinds)
    }

    /// 800 internal sessions, and an external one that hears of all.
    pub(super) fn mesh(&mut self) -> Result<()> {
        self.begin("g");
        let peers = scenario::MESH as usize;
        let told = |set: u32| attributes(set, None, 2);
        let internal = |set: u32| Attributes { path: Vec::new(), ..told(set) };
        // Every node has the empty path; communities tell them from each other.
        let tagged =
            |set: u32| Attributes { communities: vec![64_000 << 16 | set], ..internal(set) };
        let mut kinds = Kinds::default();
        for set in 0..self.table.sets() {
            kinds.insert(Self::heard_as(tagged(set)), set + 1);
        }
        self.listen(0..1, &Rc::new(kinds));
        self.sessions.bring_up(0..1)?;
        self.sessions.settle()?;
        self.expect(0, self.full());
        let tables: Vec<_> = (0..scenario::MESH)
            .map(|share| self.announcements(share as usize + 1, share..share + 1, tagged))
            .collect();
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.arrive(peers, &tables)?;
        self.await_right(0..1)?;
        let cost = stretch.end()?;
        self.sessions.settle()?;
        self.check_right(0..1)?;
        let rss = measure::sample(self.sessions.pid)?.rss_kib;
        #[expect(clippy::cast_precision_loss, reason = "KiB are far below 2^52")]
        let more = BTreeMap::from([("resident KiB".to_owned(), rss as f64)]);
        self.print_cost("g", cost, more)
    }

    /// Internal peers come up, some at a time, and each tells its table.
    fn arrive(&mut self, peers: usize, tables: &[Rc<Vec<u8>>]) -> Result<()> {
        let start = Instant::now();
        let mut waiting: Vec<usize> = Vec::new();
        let mut next = 1;
        while next <= peers || !waiting.is_empty() {
            ensure!(start.elapsed() < LIMIT, "{} sessions came up", next - 1 - waiting.len());
            while waiting.len() < AT_THE_DOOR && next <= peers {
                self.sessions.dial([next])?;
                waiting.push(next);
                next += 1;
            }
            self.sessions.turn(Duration::from_millis(20))?;
            let all = &self.sessions.all;
            let (up, rest): (Vec<usize>, Vec<usize>) =
                waiting.into_iter().partition(|number| all[*number].is_established());
            for number in up {
                self.sessions.say(number, Rc::clone(&tables[number - 1]))?;
            }
            waiting = rest;
        }
        Ok(())
    }

    /// 30 receivers are told a table; then again, with one that does not read.
    pub(super) fn audience(&mut self) -> Result<()> {
        self.begin("j, all read");
        let all = 1..scenario::AUDIENCE as usize + 1;
        let (slow, others) = (1, 2..all.end);
        let kinds = self.plain_kinds(|_| 0);
        self.listen(all.clone(), &kinds);
        self.sessions.bring_up(0..all.end)?;
        self.sessions.settle()?;
        let sets = self.table.sets();
        let table = self.announcements(0, 0..sets, |set| self.told(0, set));
        let mut withdrawal = Vec::new();
        wire::withdraw(&mut withdrawal, &self.table, self.table.all());
        all.clone().for_each(|number| self.expect(number, self.full()));
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, Rc::clone(&table))?;
        self.converge("j, all read", &stretch, all.clone())?;
        all.clone().for_each(|number| self.expect(number, self.nothing()));
        self.sessions.say(0, Rc::new(withdrawal))?;
        self.await_right(all.clone())?;

        self.begin("j, one stuck");
        self.sessions.all[slow].reset();
        self.sessions.all[slow].window = Window::Tiny;
        self.listen(slow..slow + 1, &kinds);
        self.sessions.bring_up(slow..slow + 1)?;
        self.sessions.settle()?;
        self.sessions.set_reading(slow, Reading::Off)?;
        all.clone().for_each(|number| self.expect(number, self.full()));
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.say(0, table)?;
        self.converge("j, one stuck", &stretch, others)?;
        let heard = self.sessions.all[slow].heard.as_ref();
        ensure!(heard.is_some_and(|heard| !heard.is_right()), "the stuck receiver was not stuck");
        self.begin("j, it reads on");
        let stretch = Stretch::begin(self.sessions.pid)?;
        self.sessions.set_reading(slow, Reading::On)?;
        self.converge("j, it reads on", &stretch, slow..slow + 1)
    }
}
