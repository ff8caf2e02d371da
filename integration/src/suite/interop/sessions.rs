//! How sessions end, and that they come back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::exchange::pod_networks;
use super::matrix::{Case, Meeting};
use super::{CLIENT, ESTABLISHED, has_route, wait_kernel};
use crate::agent::Stop;
use crate::probe::LONG;
use crate::router::{Presence, Program, Restart};
use crate::wait::until;

pub(super) const FAREWELL: Case = Case {
    name: "the text of the peer's shutdown is shown, and the session comes back",
    body: farewell,
    cannot: &[(Program::ExaBgp, "it sends no text with its Cease")],
};

pub(super) const AGENT_KILLED: Case = Case {
    name: "an agent that is killed and starts again is spoken to again",
    body: agent_killed,
    cannot: &[],
};

pub(super) const PEER_KILLED: Case = Case {
    name: "the routes of a killed peer leave the kernel, and come back with it",
    body: peer_killed,
    cannot: &[],
};

pub(super) const SILENCE: Case = Case {
    name: "silence longer than the hold time ends the session, and it comes back",
    body: silence,
    cannot: &[],
};

pub(super) const TOO_MANY: Case = Case {
    name: "the peer's limit of prefixes is named as the reason of its Cease",
    body: too_many,
    cannot: &[(Program::ExaBgp, "it has no limit")],
};

pub(super) const TTL: Case = Case {
    name: "with ttlSecurity every packet of the session has a TTL of 255",
    body: ttl,
    cannot: &[],
};

/// The prefixes that a peer of [`TOO_MANY`] takes.
pub(super) const LIMIT: u32 = 1500;

/// Waits until the agent gives `text` as the reason why a session ended.
fn wait_reason(meeting: &Meeting, text: &str) -> Result<()> {
    let reasons = || -> Result<Vec<String>> {
        let rows = meeting.peer_rows()?;
        Ok(rows.iter().filter_map(|row| row["lastError"].as_str().map(str::to_owned)).collect())
    };
    until(LONG, &format!("{text:?} is the reason"), || {
        Ok(reasons()?.iter().any(|reason| reason.contains(text)))
    })
    .with_context(|| format!("{:?}", reasons()))?;
    Ok(())
}

fn farewell(meeting: &mut Meeting) -> Result<()> {
    let text = "rack 7 moves, back at 10";
    let neighbor = meeting.node_address();
    meeting.peer.shut_down(neighbor, text)?;
    wait_reason(meeting, text)?;
    wait_kernel(&meeting.lab, 0, CLIENT[0], Presence::Gone)?;
    // People see it too.
    let shown = meeting.lab.agents[0].ask(&["bgp", "peers"])?;
    ensure!(shown.contains(text), "{shown}");
    meeting.peer.bring_up(neighbor)?;
    meeting.announce_client()?;
    meeting.wait_whole()
}

fn agent_killed(meeting: &mut Meeting) -> Result<()> {
    meeting.lab.agents[0].stop(Stop::Kill)?;
    let cidr = meeting.lab.spec.nodes[0].pod_cidrs[0].clone();
    meeting.peer.wait_route(&cidr, Presence::Gone, LONG)?;
    meeting.lab.agents[0].start()?;
    meeting.wait_whole()
}

fn peer_killed(meeting: &mut Meeting) -> Result<()> {
    meeting.peer.kill()?;
    for network in CLIENT {
        wait_kernel(&meeting.lab, 0, network, Presence::Gone)?;
    }
    meeting.peer.restart(Restart::Cold)?;
    meeting.peer.wait_established(ESTABLISHED).with_context(|| meeting.agent_log())?;
    meeting.announce_client()?;
    meeting.wait_whole()
}

const MUTE: &str = "table inet mute { chain out { type filter hook output priority 0; \
    tcp dport 179 drop; tcp sport 179 drop; }; }";

fn silence(meeting: &mut Meeting) -> Result<()> {
    meeting.lab.router.run("nft", &[MUTE])?;
    // The router's hold time is 9 s: the lower of the two counts.
    let ended =
        until(Duration::from_secs(15), "the node drops the routes of a silent router", || {
            Ok(!has_route(&meeting.lab, 0, CLIENT[0])? && !has_route(&meeting.lab, 0, CLIENT[1])?)
        });
    let reason = wait_reason(meeting, "hold timer");
    meeting.lab.router.run("nft", &["delete table inet mute"])?;
    let took = ended?;
    reason?;
    ensure!(took > Duration::from_secs(5), "after {took:?}: not for silence");
    // Not asked of the peer: it may not yet know that its session is over.
    until(Duration::from_secs(40), "the routes are back", || {
        Ok(has_route(&meeting.lab, 0, CLIENT[0])? && has_route(&meeting.lab, 0, CLIENT[1])?)
    })
    .with_context(|| meeting.agent_log())?;
    meeting.wait_whole()
}

fn too_many(meeting: &mut Meeting) -> Result<()> {
    meeting.give_pod_networks(&pod_networks(LIMIT + 100))?;
    wait_reason(meeting, "maximum number of prefixes reached")?;
    meeting.give_pod_networks(&[])?;
    // Whether and when the peer comes back by itself is its own affair.
    meeting.peer.kill()?;
    meeting.peer.restart(Restart::Cold)?;
    meeting.peer.wait_established(ESTABLISHED).with_context(|| meeting.agent_log())?;
    meeting.announce_client()?;
    meeting.wait_whole()
}

const COUNT_TTL: &str = "table inet hops { chain in { type filter hook input priority 0; \
    tcp dport 179 ip ttl 255 counter; tcp sport 179 ip ttl 255 counter; \
    tcp dport 179 ip ttl != 255 counter; tcp sport 179 ip ttl != 255 counter; }; }";

fn ttl(meeting: &mut Meeting) -> Result<()> {
    meeting.lab.router.run("nft", &[COUNT_TTL])?;
    let counts = || -> Result<[u64; 2]> {
        let text = meeting.lab.router.run("nft", &["list", "table", "inet", "hops"])?;
        let mut counts = [0; 2];
        for line in text.lines().filter(|line| line.contains("counter packets")) {
            let after = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
            let count: u64 = after.context("no count")?.parse()?;
            counts[usize::from(line.contains("!= 255"))] += count;
        }
        Ok(counts)
    };
    // Keepalives come every three seconds.
    until(Duration::from_secs(8), "packets of the session come", || Ok(counts()?[0] >= 2))?;
    let [_, near] = counts()?;
    meeting.lab.router.run("nft", &["delete table inet hops"])?;
    ensure!(near == 0, "{near} packets with another TTL");
    Ok(())
}
