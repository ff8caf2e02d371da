//! Scenario h: a large table of which one in a hundred routes changes each second.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::measure::Stretch;
use super::receiver::Kinds;
use super::table::{Attributes, attributes, path_length};
use super::tester::Stage;
use super::wire::{self, Teller};

/// How long routes change.
const LASTS: Duration = Duration::from_secs(10);
/// How often some of them change.
const EVERY: Duration = Duration::from_millis(5);
/// Changed prefixes each time: 8,000 a second.
const AT_ONCE: u32 = 40;
/// Prefixes that change together: on the Internet an UPDATE has three in the mean.
const TOGETHER: u32 = 4;

/// The other attributes of a set: as if its origin had moved.
fn moved(stage: &Stage, set: u32) -> Attributes {
    let first = stage.told(0, set).path[0];
    attributes(stage.table.sets() + set, Some(first), path_length(set))
}

pub(super) fn play(stage: &mut Stage) -> Result<()> {
    stage.begin("h");
    let sets = stage.table.sets();
    let mut kinds = Kinds::default();
    for set in 0..sets {
        kinds.insert(Stage::heard_as(stage.told(0, set)), set + 1);
        kinds.insert(Stage::heard_as(moved(stage, set)), sets + set + 1);
    }
    stage.listen(1..2, &Rc::new(kinds));
    stage.sessions.bring_up(0..2)?;
    stage.expect(1, stage.full());
    let table = stage.announcements(0, 0..sets, |set| stage.told(0, set));
    stage.sessions.say(0, table)?;
    stage.await_right(1..2)?;
    stage.sessions.settle()?;

    let stretch = Stretch::begin(stage.sessions.pid)?;
    let start = Instant::now();
    let (mut ticks, mut set) = (0, 0);
    while start.elapsed() < LASTS {
        let due = start + EVERY * ticks;
        let now = Instant::now();
        if now < due {
            // The last millisecond is waited for by looking: epoll counts whole ones.
            let wait = (due - now).saturating_sub(Duration::from_millis(1));
            stage.sessions.turn(wait)?;
            continue;
        }
        ticks += 1;
        change(stage, &mut set)?;
    }
    let changes = f64::from(ticks) * f64::from(AT_ONCE) / start.elapsed().as_secs_f64();
    let cost = stretch.end()?;
    stage.await_right(1..2)?;
    stage.sessions.settle()?;
    stage.check_right(1..2)?;
    let heard = stage.sessions.all[1].heard.as_mut();
    let mut took = heard.map(super::receiver::Heard::latencies).unwrap_or_default();
    ensure!(!took.is_empty(), "no change was heard");
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let more = BTreeMap::from([
        ("p50 ms".to_owned(), at(50)),
        ("p99 ms".to_owned(), at(99)),
        ("max ms".to_owned(), at(100)),
        ("changes/s".to_owned(), changes),
    ]);
    stage.print_cost("h", cost, more)
}

/// Changes some prefixes, and goes on to the next sets.
fn change(stage: &mut Stage, set: &mut u32) -> Result<()> {
    let sets = stage.table.sets();
    let says = Teller { next_hop: stage.sessions.all[0].address, local_pref: None };
    let mut out = Vec::new();
    let mut changed = Vec::new();
    while changed.len() < AT_ONCE as usize {
        // A stride prime to the number of sets: each is met before any comes again.
        *set = (*set + 7_919) % sets;
        let members = stage.table.members(*set);
        let room = AT_ONCE - u32::try_from(changed.len())?;
        let end = members.end.min(members.start + TOGETHER.min(room));
        let some = members.start..end;
        wire::announce(&mut out, &stage.table, says, &moved(stage, *set), some.clone());
        changed.extend(some.map(|prefix| (prefix, sets + *set + 1)));
    }
    let now = Instant::now();
    if let Some(heard) = &mut stage.sessions.all[1].heard {
        for (prefix, target) in changed {
            heard.expect_change(prefix, target, now);
        }
    }
    stage.sessions.say(0, Rc::new(out))
}
