//! Graceful restart (RFC 4724), both roles, under a flow of packets.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::{expect, expect_soon, pod};
use super::matrix::{Case, Meeting};
use super::{CLIENT, ESTABLISHED, has_route};
use crate::agent::Stop;
use crate::lab::Lab;
use crate::probe::{Outcome, Protocol, Stream};
use crate::router::{Program, Restart};
use crate::wait::until;

pub(super) const AGENT: Case = Case {
    name: "a restarting agent keeps its routes at a peer that helps, and loses no packet",
    body: agent_restarts,
    cannot: &[(Program::ExaBgp, "it has no table in which to keep a route")],
};

pub(super) const PEER: Case = Case {
    name: "a restarting peer's routes stay in the node until it is back, and no packet is lost",
    body: peer_restarts,
    cannot: &[
        (
            Program::OpenBgpd,
            "it helps others restart, and never says that it kept its own forwarding",
        ),
        (Program::ExaBgp, "it moves no packets"),
    ],
};

/// A steady flow in each family from the client to a pod, where the router moves packets.
fn streams(program: Program, lab: &mut Lab) -> Result<Vec<Stream>> {
    match program {
        Program::GoBgp | Program::Bird | Program::Frr => {}
        Program::OpenBgpd | Program::ExaBgp => return Ok(Vec::new()),
    }
    if lab.pods.is_empty() {
        lab.attach(pod("a", "node1"))?;
        lab.serve(&[(Protocol::Udp, 7)])?;
    }
    expect_soon(lab, &[("client", "a", "7/UDP", Outcome::Reached)])?;
    let targets = lab.pods[0].addresses.iter();
    targets.map(|address| Stream::start(&lab.client, (*address, 7).into(), 1000)).collect()
}

fn expect_lost_at_most(most: u32, streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        let report = stream.finish()?;
        ensure!(report.lost() <= most && report.sent > 1000, "{} lost: {report:?}", report.lost());
    }
    Ok(())
}

fn agent_restarts(meeting: &mut Meeting) -> Result<()> {
    for how in [Stop::Kill, Stop::Ask] {
        let flows = streams(meeting.program, &mut meeting.lab)?;
        let before = meeting.peer.learned()?.len();
        meeting.lab.agents[0].stop(how)?;
        std::thread::sleep(Duration::from_secs(1));
        let up = meeting.peer.sessions()?.iter().any(|session| session.established);
        ensure!(!up, "{how:?}: the peer has not noticed");
        let kept = meeting.peer.learned()?;
        ensure!(kept.len() == before, "{how:?}: the peer has {kept:?}");
        let says = matches!(meeting.program, Program::GoBgp | Program::Frr | Program::OpenBgpd);
        let stale = kept.values().flatten().all(|route| route.stale);
        ensure!(stale || !says, "{how:?}: not stale: {kept:?}");
        if !flows.is_empty() {
            let reached = [("client", "a", "7/UDP", Outcome::Reached)];
            expect(&mut meeting.lab, &reached).with_context(|| format!("{how:?}, meanwhile"))?;
        }
        meeting.lab.agents[0].start()?;
        meeting.peer.wait_established(ESTABLISHED).with_context(|| meeting.agent_log())?;
        until(ESTABLISHED, "the peer's paths are fresh again", || {
            let table = meeting.peer.learned()?;
            Ok(table.len() == before && table.values().flatten().all(|route| !route.stale))
        })
        .with_context(|| format!("{how:?}: {:?}", meeting.peer.learned()))?;
        // End-of-RIB removes what is not fresh.
        std::thread::sleep(Duration::from_secs(1));
        expect_lost_at_most(0, flows).with_context(|| format!("{how:?}"))?;
    }
    Ok(())
}

fn peer_restarts(meeting: &mut Meeting) -> Result<()> {
    let flows = streams(meeting.program, &mut meeting.lab)?;
    meeting.peer.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    for network in CLIENT {
        ensure!(has_route(&meeting.lab, 0, network)?, "{network} left the node");
    }
    meeting.peer.restart(Restart::Graceful)?;
    meeting.announce_client()?;
    meeting.wait_whole()?;
    std::thread::sleep(Duration::from_secs(2));
    for network in CLIENT {
        ensure!(has_route(&meeting.lab, 0, network)?, "{network} left the node in the end");
    }
    let most = match meeting.program {
        Program::GoBgp | Program::Bird | Program::OpenBgpd | Program::ExaBgp => 0,
        // zebra takes its own IPv6 route out of the router's kernel, and puts it back 50 ms later.
        Program::Frr => 300,
    };
    expect_lost_at_most(most, flows)
}
