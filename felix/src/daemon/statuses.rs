//! The status of CalicoNodeStatus objects that ask for our node: each is looked at once in its period, and written if
//! there is news. A node that nobody asks for does nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use ocicat_bgp::net::Handle;
use ocicat_bgp::wire::Family;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::{Daemon, Phase};
use crate::datastore::calico::status::{CalicoNodeStatus, CalicoNodeStatusSpec, Class, NodeStatus};
use crate::datastore::kubernetes::{StatusWrite, random};
use crate::datastore::{Key, Kind};
use crate::plan::peering::Abouts;
use crate::plan::routes::Leg;
use crate::plan::status::{self, AgentFacts, Facts, KnownLeg, ROUTES_MAX};
use crate::problem::Problem;
use crate::tables::family_name;
use crate::world::Node;

/// How long the first wait after a refused write is, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);

/// The objects that ask for our node, and where their statuses go.
pub(super) struct Statuses {
    writer: Option<mpsc::Sender<StatusWrite>>,
    booted: Timestamp,
    turns: BTreeMap<String, Turn>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    sender: mpsc::UnboundedSender<Outcome>,
}

/// When it is the turn of an object.
struct Turn {
    /// What was asked for then.
    spec: CalicoNodeStatusSpec,
    due: Instant,
    busy: bool,
    retry: Duration,
    /// Why it could not be written the last time.
    refused: Option<String>,
}

/// What became of a look at an object.
struct Outcome {
    name: String,
    /// Whether there was news, and could not be written.
    result: Result<(), String>,
}

impl Statuses {
    pub(super) fn new(writer: Option<mpsc::Sender<StatusWrite>>) -> Self {
        let (sender, outcomes) = mpsc::unbounded_channel();
        Self { writer, booted: Timestamp::now(), turns: BTreeMap::new(), outcomes, sender }
    }

    /// Follows the objects that are there; gives the names of those whose turn it is.
    fn due(&mut self, objects: &BTreeMap<String, CalicoNodeStatus>, now: Instant) -> Vec<String> {
        self.turns.retain(|name, _| objects.contains_key(name));
        let mut due = Vec::new();
        for (name, object) in objects {
            let Some(period) = status::period(&object.spec) else {
                self.turns.remove(name);
                continue;
            };
            let turn = self.turns.entry(name.clone()).or_insert_with(|| Turn::new(object, now));
            if turn.spec != object.spec && !turn.busy {
                *turn = Turn::new(object, now);
            }
            if !turn.busy && turn.due <= now {
                turn.busy = true;
                turn.due = now + period;
                due.push(name.clone());
            }
        }
        due
    }

    /// Takes in what became of a look.
    fn settle(&mut self, Outcome { name, result }: Outcome, now: Instant) {
        let Some(turn) = self.turns.get_mut(&name) else { return };
        turn.busy = false;
        match result {
            Ok(()) => {
                turn.retry = FIRST_RETRY;
                if turn.refused.take().is_some() {
                    info!(object = %key(&name), "the status can be written again");
                }
            }
            Err(why) => {
                // Half of the wait is different for each node.
                turn.due = now + turn.retry / 2 + turn.retry.mul_f64(0.5 * random());
                turn.retry = LAST_RETRY.min(turn.retry * 2);
                if turn.refused.as_ref() != Some(&why) {
                    warn!(object = %key(&name), why, "the status cannot be written; trying again");
                }
                turn.refused = Some(why);
            }
        }
    }

    /// The writes that fail, for `ocicat check`.
    fn failures(&self) -> Vec<String> {
        let failed = self.turns.iter().filter_map(|(name, turn)| {
            Some(format!("{}: status: {}", key(name), turn.refused.as_ref()?))
        });
        failed.collect()
    }
}

impl Turn {
    fn new(object: &CalicoNodeStatus, due: Instant) -> Self {
        Self { spec: object.spec.clone(), due, busy: false, retry: FIRST_RETRY, refused: None }
    }
}

fn key(name: &str) -> Key {
    Key::cluster(Kind::CalicoNodeStatus, name)
}

impl Daemon {
    /// Looks at the objects whose turn it is.
    pub(super) fn advance_statuses(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let now = Instant::now();
        while let Ok(outcome) = self.statuses.outcomes.try_recv() {
            self.statuses.settle(outcome, now);
        }
        self.report_statuses();
        let Some(writer) = self.statuses.writer.clone() else { return };
        for name in self.statuses.due(&self.world.node_statuses, now) {
            let Some(object) = self.world.node_statuses.get(&name) else { continue };
            let look = Look {
                name,
                classes: object.spec.classes.clone(),
                stored: object.status.clone(),
                agent: self.agent_facts(),
                legs: self.known_legs(&object.spec.classes),
                about: self.about.clone(),
            };
            let (speaker, writer) = (self.speaker.handle(), writer.clone());
            let outcomes = self.statuses.sender.clone();
            tokio::spawn(async move {
                let name = look.name.clone();
                let result = look.write(speaker, &writer).await;
                // The daemon may have stopped.
                let _ = outcomes.send(Outcome { name, result });
            });
        }
    }

    /// What keeps a wish from being fulfilled as it is.
    pub(super) fn report_statuses(&mut self) {
        let mut problems = Vec::new();
        for (name, object) in &self.world.node_statuses {
            let mut report = |field: &str, message: String| {
                problems.push(Problem::new(key(name), field, message));
            };
            let longest = status::LONGEST_PERIOD.as_secs();
            if let Some(seconds) = object.spec.update_period_seconds
                && u64::from(seconds) > longest
            {
                let message = format!("{seconds} is more than a day; {longest} is used");
                report("spec.updatePeriodSeconds", message);
            }
            if self.statuses.writer.is_none() {
                let message = "the datastore is a directory: there is nowhere to write it";
                report("status", message.to_owned());
            } else if object.spec.classes.contains(&Class::Routes) {
                for family in Family::ALL {
                    if self.routes.legs(family, ROUTES_MAX + 1, &self.ways).len() > ROUTES_MAX {
                        let message = format!(
                            "the node has more than {ROUTES_MAX} {} routes; its own and the first learned ones are written, `ocicat bgp routes` shows all",
                            family_name(family)
                        );
                        report("status.routes", message);
                    }
                }
            }
        }
        if self.plan_problems.get("status").map_or(!problems.is_empty(), |old| *old != problems) {
            self.set_plan_problems("status", problems);
        }
        match self.statuses.failures() {
            failures if failures.is_empty() => _ = self.failures.remove("status"),
            failures => _ = self.failures.insert("status", failures),
        }
    }

    fn agent_facts(&self) -> AgentFacts {
        let own = self.world.own_node();
        let families: BTreeSet<Family> = own
            .into_iter()
            .flat_map(Node::addresses)
            .map(|address| if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 })
            .collect();
        AgentFacts {
            ready: self.missing().is_empty() && self.speaker.handle().is_some(),
            booted: self.statuses.booted,
            configured: self.speaker.configured(),
            router_id: self.speaker.config().map(|config| config.router_id),
            families: families.into_iter().collect(),
        }
    }

    fn known_legs(&self, classes: &[Class]) -> Vec<KnownLeg> {
        if !classes.contains(&Class::Routes) {
            return Vec::new();
        }
        let legs = Family::ALL
            .into_iter()
            .flat_map(|family| self.routes.legs(family, ROUTES_MAX, &self.ways));
        let kernel = self.mirror.as_ref().map(|mirror| &mirror.routes);
        let has = |leg: &Leg| kernel.is_some_and(|routes| routes.contains_key(&leg.place));
        legs.map(|leg| KnownLeg { in_kernel: has(&leg), leg }).collect()
    }
}

/// One look at what an object is to say.
struct Look {
    name: String,
    classes: Vec<Class>,
    stored: Option<NodeStatus>,
    agent: AgentFacts,
    legs: Vec<KnownLeg>,
    about: Abouts,
}

impl Look {
    /// Asks the speaker's own thread for its peers, and has the status written if there is news.
    async fn write(
        self,
        speaker: Option<Handle>,
        writer: &mpsc::Sender<StatusWrite>,
    ) -> Result<(), String> {
        let peers = match speaker {
            Some(speaker) => speaker.peers().await.map_err(|stopped| stopped.to_string())?,
            None => Vec::new(),
        };
        let facts = Facts {
            now: Timestamp::now(),
            agent: &self.agent,
            peers: &peers,
            about: &self.about,
            legs: &self.legs,
        };
        let stored = self.stored.as_ref();
        let status = status::status(&self.classes, &facts, stored);
        if !status::is_news(&status, stored) {
            return Ok(());
        }
        debug!(object = %key(&self.name), "there is news for the status");
        let (done, written) = oneshot::channel();
        let gone = || "the API server's client has ended".to_owned();
        writer.send(StatusWrite { name: self.name, status, done }).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(seconds: u32) -> CalicoNodeStatus {
        let spec = CalicoNodeStatusSpec {
            node: "n1".to_owned(),
            classes: vec![Class::Bgp],
            update_period_seconds: Some(seconds),
        };
        CalicoNodeStatus { spec, ..CalicoNodeStatus::default() }
    }

    fn outcome(result: Result<(), &str>) -> Outcome {
        Outcome { name: "look".to_owned(), result: result.map_err(ToOwned::to_owned) }
    }

    #[test]
    fn an_object_is_looked_at_once_a_period_and_at_once_when_it_changes() {
        let mut statuses = Statuses::new(None);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut objects = BTreeMap::from([("look".to_owned(), object(10))]);
        assert_eq!(statuses.due(&objects, at(0)), ["look"]);
        assert!(statuses.due(&objects, at(20)).is_empty(), "the first look is not over");
        statuses.settle(outcome(Ok(())), at(1));
        assert!(statuses.due(&objects, at(9)).is_empty());
        assert_eq!(statuses.due(&objects, at(10)), ["look"]);
        statuses.settle(outcome(Ok(())), at(10));
        objects.insert("look".to_owned(), object(3600));
        assert_eq!(statuses.due(&objects, at(11)), ["look"]);
        statuses.settle(outcome(Ok(())), at(11));
        objects.insert("look".to_owned(), object(0));
        assert!(statuses.due(&objects, at(100_000)).is_empty(), "0 turns it off");
    }

    #[test]
    fn what_is_refused_is_tried_again_ever_more_rarely() {
        let mut statuses = Statuses::new(None);
        let objects = BTreeMap::from([("look".to_owned(), object(3600))]);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(statuses.due(&objects, now), ["look"]);
            statuses.settle(outcome(Err("403")), now);
            let wait = statuses.turns["look"].due - now;
            waits.push(wait);
            now += wait;
        }
        assert!(waits[0] <= FIRST_RETRY && waits[0] >= FIRST_RETRY / 2, "{waits:?}");
        assert!(waits[11] <= LAST_RETRY && waits[11] >= LAST_RETRY / 2, "{waits:?}");
        assert_eq!(statuses.failures(), ["CalicoNodeStatus look: status: 403"]);
        statuses.due(&objects, now);
        statuses.settle(outcome(Ok(())), now);
        assert_eq!(statuses.failures(), [""; 0]);
        assert!(statuses.due(&objects, now + LAST_RETRY).is_empty());
    }
}
