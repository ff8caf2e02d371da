//! Terms of a session that few routers ask for: long messages, AS numbers of two octets, identifiers
//! that are used twice, other ports, and who dials from where.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::json;

use super::super::{Bench, Test};
use super::transit::{FAR, NEAR, NEAR_AS, Transit, annotate};
use crate::probe::LONG;
use crate::router::{ANY_OTHER, Announcement, Config, Daemon, Presence, Program};
use crate::spec::Spec;
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD and FRR, long messages, AS numbers of two octets, an identifier used twice, who dials",
    terms,
)
.limit(90)];

/// None of these fits into two octets (RFC 6793).
const NODE_AS: u32 = 4_200_000_013;
const FAR_AS: u32 = 4_200_000_001;
const BEHIND_NEAR: u32 = 4_200_000_007;
const BEHIND_FAR: u32 = 4_200_000_009;
/// Where the near router listens for the session over IPv4.
const PORT: u16 = 1179;

const PLAIN: &str = "198.51.100.0/24";
const BACK: &str = "203.0.113.0/24";
const LONG_ONE: &str = "198.18.0.0/24";
/// Is short at first.
const GROWING: &str = "198.18.1.0/24";

/// Four octets each: more than a message of 4096 octets has room for (RFC 4271 §4.1).
const MANY: usize = 1500;

fn terms(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, prepare)?;
    let mut near = near(&transit, |_| {})?;
    let mut far = far_by_node_address(&transit)?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    dialled(&transit)?;
    two_octets(&transit, &mut *near, &mut *far)?;
    long_messages(&transit, &mut *near, &*far)?;
    drop(far);
    too_long(&mut transit, &mut *near)?;
    drop(near);
    identifiers(&mut transit)
}

fn prepare(spec: &mut Spec) {
    spec.nodes[0].as_number = NODE_AS;
    for object in &mut spec.objects {
        let name = object.name().to_owned();
        let object = &mut object.0;
        if object["kind"] == "Node" {
            let number = NODE_AS.to_string();
            object["metadata"]["annotations"]["projectcalico.org/ASNumber"] = json!(number);
        }
        if NEAR.contains(&name.as_str()) {
            object["spec"]["filters"] = json!(["everything"]);
        }
        if FAR.contains(&name.as_str()) {
            object["spec"]["asNumber"] = json!(FAR_AS);
        }
        if name == NEAR[0] {
            object["spec"]["peerIP"] = json!(format!("10.0.1.1:{PORT}"));
        }
        if name == FAR[0] {
            object["spec"]["sourceAddress"] = json!("UseNodeIP");
        }
    }
    annotate(spec, &NEAR[1..], "passive", "true");
    // FRR does not wait for us, so the session is up at once nevertheless.
    annotate(spec, &FAR, "delay-open", "20s");
}

/// A router of the last century that takes long messages nevertheless: it waits at another port for
/// the session over IPv4, and dials that over IPv6.
fn near(transit: &Transit, change: impl FnOnce(&mut Config)) -> Result<Box<dyn Daemon>> {
    transit.near_as(Program::Bird, |config| {
        for neighbor in &mut config.neighbors {
            // It has no room for our number in its configuration either.
            neighbor.as_number = ANY_OTHER;
            neighbor.own_words = vec!["enable as4 off", "enable extended messages on"];
        }
        config.neighbors[0].own_words.extend(["local port 1179", "passive yes"]);
        change(config);
    })
}

/// A router that knows the node by the address that is not on their link.
fn far_by_node_address(transit: &Transit) -> Result<Box<dyn Daemon>> {
    let node = transit.lab.spec.nodes[0].ipv4;
    transit.far.ip(&format!("route add {node}/32 via 10.1.1.10\n"))?;
    transit.far_as(Program::Frr, |config| {
        config.as_number = FAR_AS;
        config.neighbors[0].address = node.into();
        config.neighbors[0].own_words = vec!["ebgp-multihop 2"];
    })
}

/// Who has dialled whom, from which address, to which port.
fn dialled(transit: &Transit) -> Result<()> {
    let text = transit.lab.agents[0].netns().run("ss", &["-Htn", "state", "established"])?;
    let ends = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(2);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    let ends: Vec<(String, String)> = ends.collect();
    let is_there = |local: &str, remote: &str| {
        ends.iter().any(|(ours, theirs)| ours.starts_with(local) && theirs.starts_with(remote))
    };
    ensure!(is_there("10.0.1.10:", "10.0.1.1:1179"), "not dialled at port {PORT}: {text}");
    let waited = is_there("[fd00:10:1::10]:179", "[fd00:10:1::1]:");
    ensure!(waited, "a passive node has dialled: {text}");
    ensure!(is_there("10.0.1.10:", "10.1.1.1:"), "not from the node's address: {text}");
    Ok(())
}

/// RFC 6793 §4.2: what two octets have no room for goes beside the path, and comes out right.
fn two_octets(transit: &Transit, near: &mut dyn Daemon, far: &mut dyn Daemon) -> Result<()> {
    let behind = |prefix: &str, number| -> Result<_> {
        Ok(Announcement { as_path: vec![number], ..Announcement::plain(prefix.parse()?) })
    };
    near.announce(&[behind(PLAIN, BEHIND_NEAR)?])?;
    far.announce(&[behind(BACK, BEHIND_FAR)?])?;
    let shown = format!("{NEAR_AS} {BEHIND_NEAR}");
    until(LONG, &format!("the node's path of {PLAIN} is {shown}"), || {
        Ok(transit.paths(PLAIN)?.first().is_some_and(|path| path["asPath"] == shown.as_str()))
    })
    .with_context(|| format!("{:#?}", transit.paths(PLAIN)))?;
    wait_path(transit, far, PLAIN, &[NODE_AS, NEAR_AS, BEHIND_NEAR])?;
    wait_path(transit, near, BACK, &[NODE_AS, FAR_AS, BEHIND_FAR])
}

fn wait_path(transit: &Transit, router: &dyn Daemon, prefix: &str, wanted: &[u32]) -> Result<()> {
    let net: IpNet = prefix.parse()?;
    let mut seen = Vec::new();
    until(LONG, &format!("the router's path for {prefix} is {wanted:?}"), || {
        seen = router.learned()?.remove(&net).unwrap_or_default();
        Ok(seen.iter().any(|route| route.as_path == wanted))
    })
    .with_context(|| format!("{seen:?}\n{}", transit.log()))
    .map(drop)
}

fn with_communities(prefix: &str, count: usize) -> Result<Announcement> {
    let communities = (1..=count).map(|number| format!("64500:{number}")).collect();
    Ok(Announcement { communities, ..Announcement::plain(prefix.parse()?) })
}

/// RFC 8654, from one router to the other.
fn long_messages(transit: &Transit, near: &mut dyn Daemon, far: &dyn Daemon) -> Result<()> {
    near.announce(&[with_communities(LONG_ONE, MANY)?, with_communities(GROWING, 1)?])?;
    let net: IpNet = LONG_ONE.parse()?;
    let mut seen = 0;
    until(LONG, "all communities get through", || {
        let table = far.learned()?;
        let first = table.get(&net).and_then(|routes| routes.first());
        seen = first.map_or(0, |route| route.communities.len());
        Ok(seen == MANY)
    })
    .with_context(|| format!("{seen} of {MANY}; {:?}\n{}", transit.paths(LONG_ONE), transit.log()))
    .map(drop)
}

/// A router without RFC 8654 is not told what does not fit, and what fits no longer is taken back.
fn too_long(transit: &mut Transit, near: &mut dyn Daemon) -> Result<()> {
    transit.edit(FAR[0], |peer| peer["spec"]["sourceAddress"] = json!("None"))?;
    let far = transit.far(Program::Bird, FAR_AS, |_| {})?;
    transit.wait_up(&[&*far])?;
    far.wait_route(GROWING, Presence::There, LONG).with_context(|| transit.log())?;
    let flaps = FAR.map(|name| transit.peer(name).map(|peer| peer["flaps"].clone()).ok());
    near.announce(&[with_communities(GROWING, MANY)?])?;
    far.wait_route(GROWING, Presence::Gone, LONG)?;
    ensure!(!far.learned()?.contains_key(&LONG_ONE.parse()?), "a message of 4096 octets has it");
    near.announce(&[with_communities(GROWING, 2)?])?;
    far.wait_route(GROWING, Presence::There, LONG)?;
    let after = FAR.map(|name| transit.peer(name).map(|peer| peer["flaps"].clone()).ok());
    ensure!(flaps == after, "it cost a session: {flaps:?}, {after:?}");
    Ok(())
}

/// RFC 6286: our own identifier is as good as any other in another AS, and refused in ours.
fn identifiers(transit: &mut Transit) -> Result<()> {
    let ours: Ipv4Addr = transit.lab.spec.nodes[0].ipv4;
    let near = near(transit, |config| config.router_id = ours)?;
    transit.wait_up(&[&*near])?;
    for name in FAR {
        transit.edit(name, |peer| peer["spec"]["asNumber"] = json!(NODE_AS))?;
    }
    let far = transit.far_as(Program::Frr, |config| {
        config.as_number = NODE_AS;
        config.router_id = ours;
    })?;
    transit.wait_peer(FAR[0], "the identifier is refused", |peer| {
        peer["state"] != "Established" && peer["lastErrorCode"] == json!([2, 3])
    })?;
    drop(far);
    let far = transit.far(Program::Frr, NODE_AS, |_| {})?;
    transit.wait_up(&[&*near, &*far])?;
    let id = transit.peer(NEAR[0])?["routerId"].clone();
    ensure!(id == IpAddr::from(ours).to_string().as_str(), "the router's identifier: {id}");
    Ok(())
}
