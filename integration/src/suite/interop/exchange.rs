//! What two speakers tell each other: routes and what belongs to them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::matrix::{Case, MANY, Meeting, Transport};
use super::{CLIENT, has_route, wait_kernel};
use crate::object::Object;
use crate::probe::LONG;
use crate::router::bird::prefix;
use crate::router::{Announcement, Presence, Program, Route};
use crate::wait::until;

pub(super) const BOTH_WAYS: Case = Case {
    name: "routes go both ways in both families, with the right path and next hop",
    body: both_ways,
    cannot: &[],
};

pub(super) const COMMUNITIES: Case = Case {
    name: "communities of both sizes are carried both ways",
    body: communities,
    cannot: &[],
};

pub(super) const PREPENDED: Case = Case {
    name: "AS numbers that a BGPFilter prepends are in the path that the peer sees",
    body: prepended,
    cannot: &[],
};

pub(super) const REFRESH: Case = Case {
    name: "what the peer asks for again is sent again, and nothing flaps",
    body: refresh,
    cannot: &[(Program::GoBgp, "it keeps what it heard and sends no ROUTE-REFRESH")],
};

pub(super) const ASKED: Case = Case {
    name: "what `ocicat bgp refresh` asks for is told again, between marks where the peer speaks RFC 7313",
    body: asked_again,
    cannot: &[
        (Program::ExaBgp, "it has no table from which to tell again"),
        // In its log: "route refresh: AID IPv4 unicast not negotiated".
        (Program::OpenBgpd, "7.7 asks, but says of what it is asked that it was not negotiated"),
    ],
};

pub(super) const MANY_IN: Case = Case {
    name: "1,000 routes come into the kernel and leave it",
    body: many_in,
    cannot: &[(Program::GoBgp, "it takes routes one by one, and loses some of a table at once")],
};

pub(super) const MANY_OUT: Case = Case {
    name: "1,000 routes of ours reach the peer, are all there through a refresh, and are withdrawn",
    body: many_out,
    cannot: &[],
};

/// The peer's path to one of the node's pod networks.
fn path_of(meeting: &Meeting, cidr: &str) -> Result<Route> {
    let table = meeting.peer.learned()?;
    let paths = table.get(&cidr.parse()?).with_context(|| format!("no {cidr} in {table:?}"))?;
    paths.first().cloned().context("no path")
}

fn both_ways(meeting: &mut Meeting) -> Result<()> {
    meeting.wait_whole()?;
    let node = meeting.lab.spec.nodes[0].clone();
    for cidr in &node.pod_cidrs {
        let path = path_of(meeting, cidr)?;
        let external = meeting.terms.router_as != meeting.terms.node_as;
        let expected: &[u32] = if external { &[meeting.terms.node_as] } else { &[] };
        ensure!(path.as_path == expected, "{cidr}: AS path {:?}", path.as_path);
        if !external {
            // RFC 4271 §5.1.5: on every iBGP session.
            ensure!(path.local_pref == Some(100), "{cidr}: LOCAL_PREF {:?}", path.local_pref);
        }
        let ipv6 = cidr.contains(':') || meeting.terms.transport == Transport::Ipv6;
        let next_hop = if ipv6 { IpAddr::from(node.ipv6) } else { node.ipv4.into() };
        ensure!(path.next_hop == next_hop, "{cidr}: next hop {}", path.next_hop);
        // Its own network must not come back to it by way of the router.
        let family = if cidr.contains(':') { "-6" } else { "-4" };
        let own = meeting.lab.agents[0].netns().run("ip", &[family, "route", "show", cidr])?;
        ensure!(!own.contains("via"), "{own}");
    }
    Ok(())
}

fn texts(row: &Value) -> Vec<&str> {
    row["communities"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn communities(meeting: &mut Meeting) -> Result<()> {
    let mut configuration = meeting.find("BGPConfiguration", "default")?.clone();
    let cidrs = meeting.lab.spec.nodes[0].pod_cidrs.clone();
    let told = |cidr: &String| json!({ "cidr": cidr, "communities": ["64512:7", "64512:70000:2"] });
    let advertisements: Vec<Value> = cidrs.iter().map(told).collect();
    configuration.0["spec"]["prefixAdvertisements"] = json!(advertisements);
    meeting.lab.store.put(&configuration)?;
    for cidr in &cidrs {
        until(LONG, &format!("the peer has the communities of {cidr}"), || {
            let path = path_of(meeting, cidr)?;
            Ok(path.communities == ["64512:7"] && path.large_communities == ["64512:70000:2"])
        })
        .with_context(|| format!("{:?}", path_of(meeting, cidr)))?;
    }
    let prefix = "198.51.100.0/24";
    let announcement = Announcement {
        communities: vec!["64500:11".to_owned(), "64500:12".to_owned()],
        large_communities: vec!["64500:1:4200000000".to_owned()],
        ..Announcement::plain(prefix.parse()?)
    };
    meeting.peer.announce(&[announcement])?;
    wait_kernel(&meeting.lab, 0, prefix, Presence::There)?;
    let rows = meeting.route_rows()?;
    let row = rows.iter().find(|row| row["prefix"] == prefix).context("not among the routes")?;
    ensure!(texts(row) == ["64500:11", "64500:12", "64500:1:4200000000"], "{row}");
    meeting.peer.withdraw(&[prefix.parse()?])?;
    wait_kernel(&meeting.lab, 0, prefix, Presence::Gone).map(drop)
}

fn prepended(meeting: &mut Meeting) -> Result<()> {
    let prepend = json!([{ "prependASPath": { "prefix": [meeting.terms.node_as, 64_999] } }]);
    let rule = |cidr: &str| json!([{ "cidr": cidr, "matchOperator": "In", "action": "Accept", "operations": prepend }]);
    let filter = Object(json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPFilter",
        "metadata": { "name": "prepend" },
        "spec": { "exportV4": rule("10.65.0.0/16"), "exportV6": rule("fd00:65::/32") },
    }));
    meeting.lab.store.put(&filter)?;
    let flaps = flaps(meeting)?;
    let mut peers = Vec::new();
    for name in ["tor-r1", "tor-r1-v6"] {
        let peer = meeting.find("BGPPeer", name)?.clone();
        let mut filtered = peer.clone();
        filtered.0["spec"]["filters"] = json!(["prepend"]);
        meeting.lab.store.put(&filtered)?;
        peers.push(peer);
    }
    let node_as = meeting.terms.node_as;
    for cidr in meeting.lab.spec.nodes[0].pod_cidrs.clone() {
        until(LONG, &format!("the path of {cidr} is longer"), || {
            Ok(path_of(meeting, &cidr)?.as_path == [node_as, node_as, 64_999])
        })
        .with_context(|| format!("{:?}", path_of(meeting, &cidr)))?;
    }
    for peer in peers {
        meeting.lab.store.put(&peer)?;
    }
    for cidr in meeting.lab.spec.nodes[0].pod_cidrs.clone() {
        until(LONG, &format!("the path of {cidr} is short again"), || {
            Ok(path_of(meeting, &cidr)?.as_path == [node_as])
        })?;
    }
    ensure!(self::flaps(meeting)? == flaps, "a changed filter cost a session");
    meeting.lab.store.remove(&filter)
}

/// Lost sessions since the agent's start.
fn flaps(meeting: &Meeting) -> Result<u64> {
    Ok(meeting.peer_rows()?.iter().filter_map(|row| row["flaps"].as_u64()).sum())
}

/// How many ROUTE-REFRESH messages were `sent` or `received` so far.
fn refreshes(meeting: &Meeting, direction: &str) -> Result<u64> {
    let samples = meeting.lab.agents[0].metrics("ocicat_bgp_messages_total")?;
    let direction = format!("direction=\"{direction}\"");
    let those = samples
        .iter()
        .filter(|line| line.contains(&direction) && line.contains("type=\"route-refresh\""));
    Ok(those.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Whether both ends speak RFC 7313.
fn is_enhanced(row: &Value) -> bool {
    let all = row["capabilities"].as_array();
    all.is_some_and(|all| all.iter().any(|one| one == "enhanced-route-refresh"))
}

fn asked_again(meeting: &mut Meeting) -> Result<()> {
    let heard = |meeting: &Meeting| -> Result<u64> {
        let row = meeting.peer_row()?;
        row["messages"]["updatesReceived"].as_u64().context("no count of UPDATEs")
    };
    let row = meeting.peer_row()?;
    let name = row["name"].as_str().context("a peer without a name")?;
    let (updates, marks, lost) =
        (heard(meeting)?, refreshes(meeting, "received")?, flaps(meeting)?);
    let view: Value = meeting.lab.agents[0].json(&["bgp", "refresh", name])?;
    ensure!(view["families"] == json!(["ipv4"]), "{view}");
    ensure!(view["enhanced"] == is_enhanced(&row), "{view} {row}");
    let expected = matches!(meeting.program, Program::Bird | Program::Frr);
    ensure!(view["enhanced"] == expected, "{view}: not what {} speaks", meeting.program);
    let marks = marks + if expected { 2 } else { 0 };
    until(LONG, "everything is told again, with its marks", || {
        let there =
            has_route(&meeting.lab, 0, CLIENT[0])? && has_route(&meeting.lab, 0, CLIENT[1])?;
        ensure!(there, "a route was lost");
        Ok(heard(meeting)? > updates && refreshes(meeting, "received")? == marks)
    })
    .with_context(|| format!("{:?}", meeting.peer_row()))?;
    for network in CLIENT {
        ensure!(has_route(&meeting.lab, 0, network)?, "{network} was lost in the end");
    }
    let row = meeting.peer_row()?;
    ensure!(row["families"][0]["stale"] == 0, "not all was told again: {row}");
    ensure!(flaps(meeting)? == lost, "a session was lost");
    // Who cannot be asked is named, with the reason.
    let refused = meeting.lab.agents[0].ask(&["bgp", "refresh", name, "--family", "ipv6"]);
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains("does not carry ipv6-unicast"), "{said}");
    Ok(())
}

fn refresh(meeting: &mut Meeting) -> Result<()> {
    let counted = |meeting: &Meeting| refreshes(meeting, "received");
    let updates = |meeting: &Meeting| -> Result<u64> {
        let row = meeting.peer_row()?;
        row["messages"]["updatesSent"].as_u64().context("no count of UPDATEs")
    };
    let (asked, sent, lost) = (counted(meeting)?, updates(meeting)?, flaps(meeting)?);
    let marked = refreshes(meeting, "sent")?;
    let neighbor = meeting.node_address();
    meeting.peer.refresh(neighbor)?;
    until(LONG, "the agent was asked, and answered", || {
        Ok(counted(meeting)? > asked && updates(meeting)? > sent)
    })
    .with_context(|| format!("{:?}", meeting.peer_row()))?;
    if is_enhanced(&meeting.peer_row()?) {
        until(LONG, "the answer had a beginning and an end (RFC 7313)", || {
            Ok(refreshes(meeting, "sent")? >= marked + 2)
        })?;
    }
    // A peer that takes what it was not told again for gone would do so at the end.
    for _ in 0..10 {
        for cidr in &meeting.lab.spec.nodes[0].pod_cidrs {
            path_of(meeting, cidr)?;
        }
    }
    ensure!(flaps(meeting)? == lost, "a session was lost");
    Ok(())
}

fn many_in(meeting: &mut Meeting) -> Result<()> {
    let prefixes: Vec<IpNet> = (0..1000).map(prefix).collect();
    let routes: Vec<_> = prefixes.iter().copied().map(Announcement::plain).collect();
    let in_kernel = |meeting: &Meeting| -> Result<usize> {
        let text = meeting.lab.agents[0].netns().run("ip", &["-4", "route", "show"])?;
        Ok(text.lines().filter(|line| line.starts_with("20.")).count())
    };
    meeting.peer.announce(&routes)?;
    until(MANY, "1,000 routes are in the kernel", || Ok(in_kernel(meeting)? == 1000))
        .with_context(|| format!("{:?} are", in_kernel(meeting)))?;
    meeting.peer.withdraw(&prefixes)?;
    until(MANY, "none of them is in the kernel", || Ok(in_kernel(meeting)? == 0))
        .with_context(|| format!("{:?} are", in_kernel(meeting)))?;
    ensure!(has_route(&meeting.lab, 0, CLIENT[0])?, "another route went with them");
    Ok(())
}

/// So many networks for pods.
pub(super) fn pod_networks(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("10.{}.{}.0/24", 128 + number / 256, number % 256)).collect()
}

/// The peer asks for everything again; at no moment has it less.
fn all_through_a_refresh(
    meeting: &mut Meeting,
    count: impl Fn(&Meeting) -> Result<usize>,
) -> Result<()> {
    let marks = if is_enhanced(&meeting.peer_row()?) { 2 } else { 0 };
    let (asked, sent) = (refreshes(meeting, "received")?, refreshes(meeting, "sent")?);
    let neighbor = meeting.node_address();
    meeting.peer.refresh(neighbor)?;
    let (mut ended, mut least) = (None, usize::MAX);
    until(LONG, "a refresh has come to its end", || {
        least = least.min(count(meeting)?);
        let told = refreshes(meeting, "sent")? >= sent + marks;
        if refreshes(meeting, "received")? == asked || !told {
            return Ok(false);
        }
        // What was not told again goes after the end.
        Ok(ended.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(500))
    })?;
    ensure!(least == 1000, "in the middle of a refresh {least} routes were there");
    Ok(())
}

fn many_out(meeting: &mut Meeting) -> Result<()> {
    let networks = pod_networks(1000);
    let at_peer = |meeting: &Meeting| -> Result<usize> {
        let table = meeting.peer.learned()?;
        Ok(networks.iter().filter(|net| table.contains_key(&net.parse().expect("a net"))).count())
    };
    meeting.give_pod_networks(&networks)?;
    until(MANY, "the peer has 1,000 routes", || Ok(at_peer(meeting)? == 1000))
        .with_context(|| format!("it has {:?}", at_peer(meeting)))?;
    if !REFRESH.cannot.iter().any(|(program, _)| *program == meeting.program) {
        all_through_a_refresh(meeting, at_peer)?;
    }
    meeting.give_pod_networks(&[])?;
    until(MANY, "the peer has none of them", || Ok(at_peer(meeting)? == 0))
        .with_context(|| format!("it has {:?}", at_peer(meeting)))?;
    meeting.wait_whole()
}
