//! A node that is a member of a confederation (RFC 5065), with other members and with routers outside.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, Transit, annotate, wait_route};
use crate::probe::LONG;
use crate::router::{Announcement, Confederation, Config, Daemon, Presence, Program, Route};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD and FRR, members of the node's confederation and outside: paths, preference, communities, loops",
    confederation,
)
.limit(90)];

const IDENTIFIER: u32 = 65_000;
const NODE_AS: u32 = 64_513;
/// The members at the node's two sides.
const NEAR_MEMBER: u32 = 65_002;
const FAR_MEMBER: u32 = 65_003;

const OF_NEAR: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];
const OF_FAR: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/48"];
/// May not leave the confederation (RFC 1997).
const NO_EXPORT: &str = "198.18.0.0/24";
/// May not leave the member.
const NO_EXPORT_SUBCONFED: &str = "198.18.1.0/24";
/// Has the confederation's number on its path.
const LOOP: &str = "198.18.2.0/24";
/// Told when all else was.
const LAST: &str = "198.18.3.0/24";

fn confederation(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        let value = format!("{IDENTIFIER} members {NODE_AS},{NEAR_MEMBER},{FAR_MEMBER}");
        annotate(spec, &["default"], "confederation", &value);
        for object in &mut spec.objects {
            let near = NEAR.contains(&object.name());
            if near || FAR.contains(&object.name()) {
                let number = if near { NEAR_MEMBER } else { FAR_MEMBER };
                object.0["spec"]["asNumber"] = json!(number);
                object.0["spec"]["filters"] = json!(["everything"]);
            }
        }
    })?;
    transit.lab.start_agents()?;
    members(&transit)?;
    for name in FAR {
        transit.edit(name, |peer| peer["spec"]["asNumber"] = json!(FAR_AS))?;
    }
    for (inside, outside) in [(Program::Bird, Program::Frr), (Program::Frr, Program::Bird)] {
        border(&transit, inside, outside)
            .with_context(|| format!("{inside} inside, {outside} outside"))?;
    }
    Ok(())
}

/// Makes a router a member.
fn join(config: &mut Config, as_number: u32) {
    config.as_number = as_number;
    config.confederation = Some(Confederation {
        identifier: IDENTIFIER,
        members: vec![NODE_AS, NEAR_MEMBER, FAR_MEMBER],
    });
}

/// The member at the near side, with all that it has to tell.
fn near(transit: &Transit, program: Program) -> Result<Box<dyn Daemon>> {
    let mut near = transit.near_as(program, |config| {
        join(config, NEAR_MEMBER);
        if program == Program::Bird {
            // It would keep what it has marked itself, and take no next hop that is not on its link.
            let words = ["interpret communities no", "multihop"];
            config.neighbors.iter_mut().for_each(|neighbor| neighbor.own_words = words.to_vec());
        }
    })?;
    let plain = |prefix: &str| -> Result<_> { Ok(Announcement::plain(prefix.parse()?)) };
    let mut all = OF_NEAR.map(plain).into_iter().collect::<Result<Vec<_>>>()?;
    for (prefix, community) in [(NO_EXPORT, "65535:65281"), (NO_EXPORT_SUBCONFED, "65535:65283")] {
        all.push(Announcement { communities: vec![community.to_owned()], ..plain(prefix)? });
    }
    near.announce(&all)?;
    Ok(near)
}

/// Waits until the node shows this path for a prefix.
fn wait_path(transit: &Transit, prefix: &str, path: &str, verdict: &str) -> Result<()> {
    until(LONG, &format!("the path of {prefix} is {path:?}, {verdict}"), || {
        let paths = transit.paths(prefix)?;
        Ok(paths.first().is_some_and(|one| one["asPath"] == path && one["verdict"] == verdict))
    })
    .with_context(|| format!("{:#?}", transit.paths(prefix)))
    .map(drop)
}

/// Tells one prefix more, so that what was told before it has come.
fn settle(near: &mut dyn Daemon, far: &dyn Daemon) -> Result<()> {
    near.announce(&[Announcement::plain(LAST.parse()?)])?;
    far.wait_route(LAST, Presence::There, LONG).map(drop)
}

/// Two members talk through the node, each with a number of its own.
fn members(transit: &Transit) -> Result<()> {
    let mut near = near(transit, Program::Bird)?;
    let mut far = transit.far_as(Program::Frr, |config| join(config, FAR_MEMBER))?;
    let both = OF_FAR.map(|prefix| prefix.parse().map(Announcement::plain));
    far.announce(&both.into_iter().collect::<Result<Vec<_>, _>>()?)?;
    transit.wait_up(&[&*near, &*far])?;
    for name in NEAR.into_iter().chain(FAR) {
        transit.wait_peer(name, "a member", |peer| peer["kind"] == "confederation")?;
    }
    wait_path(transit, OF_NEAR[0], "(65002)", "best")?;
    wait_path(transit, OF_FAR[0], "(65003)", "best")?;
    let node = &transit.lab.spec.nodes[0];
    let hops = [IpAddr::from(node.gateway_ipv4()), node.gateway_ipv6().into()];
    for (prefix, hop) in OF_NEAR.into_iter().zip(hops) {
        wait_route(transit, &*far, prefix, |route| {
            route.members == [NODE_AS, NEAR_MEMBER]
                && route.as_path.is_empty()
                && route.local_pref == Some(100)
                && route.next_hop == hop
        })?;
    }
    for prefix in OF_FAR {
        wait_route(transit, &*near, prefix, |route| {
            route.members == [NODE_AS, FAR_MEMBER] && route.local_pref == Some(100)
        })?;
    }
    for cidr in &transit.lab.spec.nodes[0].pod_cidrs {
        wait_route(transit, &*far, cidr, |route| route.members == [NODE_AS])?;
    }
    far.wait_route(NO_EXPORT, Presence::There, LONG)?;
    settle(&mut *near, &*far)?;
    wait_path(transit, NO_EXPORT_SUBCONFED, "(65002)", "best")?;
    let table = far.learned()?;
    ensure!(!table.contains_key(&NO_EXPORT_SUBCONFED.parse()?), "left the member: {table:?}");
    Ok(())
}

/// What goes out and what comes in, between a member and a router that knows one AS.
fn border(transit: &Transit, inside: Program, outside: Program) -> Result<()> {
    let mut near = near(transit, inside)?;
    let mut far = transit.far(outside, FAR_AS, |neighbor| neighbor.as_number = IDENTIFIER)?;
    transit.wait_up(&[&*near, &*far])?;
    let both = OF_FAR.map(|prefix| prefix.parse().map(Announcement::plain));
    far.announce(&both.into_iter().collect::<Result<Vec<_>, _>>()?)?;
    let back = Announcement { as_path: vec![IDENTIFIER], ..Announcement::plain(LOOP.parse()?) };
    far.announce(&[back])?;
    for prefix in OF_NEAR.iter().copied().chain(pods(transit)) {
        wait_route(transit, &*far, prefix, |route| route.as_path == [IDENTIFIER])?;
    }
    let hops: [IpAddr; 2] =
        ["10.1.1.1", "fd00:11:1::1"].map(|text| text.parse().expect("an address"));
    for (prefix, hop) in OF_FAR.into_iter().zip(hops) {
        wait_route(transit, &*near, prefix, |route| {
            route.members == [NODE_AS]
                && route.as_path == [FAR_AS]
                && route.local_pref == Some(100)
                && route.next_hop == hop
        })?;
    }
    wait_path(transit, LOOP, "64501 65000", "rejected: own AS in the AS path")?;
    settle(&mut *near, &*far)?;
    wait_path(transit, NO_EXPORT, "(65002)", "best")?;
    let table = far.learned()?;
    ensure!(!table.contains_key(&NO_EXPORT.parse()?), "left the confederation: {table:?}");
    let leaks = |route: &Route| !route.members.is_empty() || route.as_path != [IDENTIFIER];
    ensure!(!table.values().flatten().any(leaks), "members are seen outside: {table:?}");
    Ok(())
}

fn pods(transit: &Transit) -> impl Iterator<Item = &str> {
    transit.lab.spec.nodes[0].pod_cidrs.iter().map(String::as_str)
}
