//! Leave and return: by command, or because the Node object asks for it.
//!
//! What was commanded outlives the daemon in a file. A daemon that starts on a node that has left does not announce itself
//! only to leave again.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocicat_cni::daemon::{RefusalCode, Response};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Daemon;
use super::endpoints::{answer, refuse};
use crate::api::Answer;
use crate::api::bgp::{DrainView, Stage};
use crate::plan::peering::Departure;
use crate::world::DRAIN;

/// How long peers have to choose other ways when the Node object asks for the leave.
const PATIENCE: Duration = Duration::from_secs(30);

type Reply = oneshot::Sender<serde_json::Value>;

/// Where the leave stands.
#[derive(Default)]
pub(super) struct Drain {
    commanded: bool,
    /// Since when peers know, and when they are told nothing any more.
    until: Option<Instant>,
    gone: bool,
    waiting: Vec<Reply>,
}

impl Drain {
    fn stage(&self) -> Stage {
        match (self.gone, self.until) {
            (true, _) => Stage::Gone,
            (false, Some(_)) => Stage::Leaving,
            (false, None) => Stage::Serving,
        }
    }

    /// What peers are to be told instead of the plan.
    pub(super) fn departure(&self) -> Option<Departure> {
        match self.stage() {
            Stage::Serving => None,
            Stage::Leaving => Some(Departure::Announced),
            Stage::Gone => Some(Departure::Done),
        }
    }
}

impl Daemon {
    fn drain_file(&self) -> PathBuf {
        self.config.state_dir.join("drained")
    }

    fn asked_by_node(&self) -> bool {
        self.world.own_node().is_some_and(|node| node.drain)
    }

    /// Before the first plan: whether we come up on a node that has left.
    pub(super) fn resume_drain(&mut self) {
        self.drain.commanded = self.drain_file().exists();
        self.drain.gone = self.drain.commanded || self.asked_by_node();
        if self.drain.gone {
            info!("this node has left its peers; `ocicat bgp undrain` brings it back");
        }
        self.count_drain();
    }

    /// The Node object may have changed.
    pub(super) fn follow_node_drain(&mut self) {
        match (self.asked_by_node() || self.drain.commanded, self.drain.stage()) {
            (true, Stage::Serving) => self.leave(PATIENCE),
            (false, Stage::Leaving | Stage::Gone) => self.come_back(),
            (true, Stage::Leaving | Stage::Gone) | (false, Stage::Serving) => {}
        }
    }

    pub(super) fn command_drain(&mut self, wait: Duration, reply: Reply) {
        if let Err(problem) = remember(&self.drain_file()) {
            return refuse(reply, RefusalCode::Failed, problem.to_string());
        }
        self.drain.commanded = true;
        match self.drain.stage() {
            Stage::Gone => self.answer_drain(reply),
            Stage::Leaving => self.drain.waiting.push(reply),
            Stage::Serving => {
                self.drain.waiting.push(reply);
                self.leave(wait);
            }
        }
    }

    pub(super) fn command_undrain(&mut self, reply: Reply) {
        match std::fs::remove_file(self.drain_file()) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                return refuse(reply, RefusalCode::Failed, problem.to_string());
            }
            _ => {}
        }
        self.drain.commanded = false;
        if !self.asked_by_node() && self.drain.stage() != Stage::Serving {
            self.come_back();
        }
        self.answer_drain(reply);
    }

    /// What only time brings.
    pub(super) fn advance_drain(&mut self) {
        if self.drain.until.is_some_and(|until| until <= Instant::now()) {
            self.drain.until = None;
            self.drain.gone = true;
            info!("peers are told nothing any more; sessions stay up");
            self.plan_departure();
            for reply in std::mem::take(&mut self.drain.waiting) {
                self.answer_drain(reply);
            }
        }
    }

    fn leave(&mut self, wait: Duration) {
        info!(wait = ?wait, "leaving: peers are asked to choose other ways (RFC 8326)");
        self.drain.until = Some(Instant::now() + wait);
        self.plan_departure();
    }

    fn come_back(&mut self) {
        info!("coming back: peers are told our routes again");
        self.drain.until = None;
        self.drain.gone = false;
        self.plan_departure();
        for reply in std::mem::take(&mut self.drain.waiting) {
            refuse(reply, RefusalCode::Failed, "the node was told to come back".to_owned());
        }
    }

    fn plan_departure(&mut self) {
        self.count_drain();
        if self.phase == super::Phase::Running {
            self.plan_peering();
        }
    }

    fn count_drain(&self) {
        self.metrics.drained.set(match self.drain.stage() {
            Stage::Serving => 0,
            Stage::Leaving => 1,
            Stage::Gone => 2,
        });
    }

    fn answer_drain(&self, reply: Reply) {
        let stage = self.drain.stage();
        let by_node = self.asked_by_node() && !self.drain.commanded;
        let by_node = by_node.then(|| format!("Node {} has {DRAIN}", self.world.name()));
        if by_node.is_some() {
            warn!(annotation = DRAIN, "the Node object asks for the leave");
        }
        answer(reply, &Response::Result(Answer::Drain(DrainView { stage, by_node })));
    }
}

fn remember(path: &std::path::Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, "`ocicat bgp drain` was commanded; `ocicat bgp undrain` ends it\n")
}
