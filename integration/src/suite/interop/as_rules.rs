//! What a router sees of a path that passes the node: AS numbers, next hop, communities.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, Transit, wait_route};
use crate::probe::LONG;
use crate::router::{Announcement, Daemon, Program};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD and FRR, paths through a node: AS rules, next hops, communities, and a router that leaves",
    through,
)
.limit(90)];

const NODE_AS: u32 = 64_513;
/// A private number, which the usual one of the lab's router is not.
const NEAR_AS: u32 = 64_999;
/// Whom the node pretends to be.
const SHOWN_AS: u32 = 64_600;
/// Not a private one (RFC 6996).
const PUBLIC_AS: u32 = 3356;

const PLAIN: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];
/// Behind [`PUBLIC_AS`].
const PUBLIC: &str = "203.0.113.0/24";
/// Has the node's own AS number on its path.
const LOOP: &str = "198.18.0.0/24";
/// Of a router that is about to leave (RFC 8326).
const LEAVING: &str = "198.18.1.0/24";

fn through(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        spec.router.as_number = NEAR_AS;
        for object in spec.objects.iter_mut().filter(|object| NEAR.contains(&object.name())) {
            object.0["spec"]["asNumber"] = json!(NEAR_AS);
        }
    })?;
    let mut near = transit.near(Program::Bird, |_| {})?;
    let mut far = transit.far(Program::Frr, FAR_AS, |_| {})?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    near.announce(&announcements()?)?;
    carried(&transit, &*far)?;
    next_hops(&mut transit, &*far)?;
    private_numbers(&mut transit, &*far)?;
    own_number(&mut transit)?;
    leaving(&transit, &mut *far)?;
    drop(far);
    let far = shown_number(&mut transit)?;
    drop(far);
    same_number(&mut transit)
}

fn announcements() -> Result<Vec<Announcement>> {
    let plain = |prefix: &str| -> Result<_> { Ok(Announcement::plain(prefix.parse()?)) };
    let mut all = Vec::new();
    for prefix in PLAIN {
        all.push(Announcement {
            communities: vec!["64500:11".to_owned(), "64500:12".to_owned()],
            large_communities: vec!["64500:1:4200000000".to_owned()],
            route_targets: vec!["64500:7".to_owned()],
            ..plain(prefix)?
        });
    }
    all.push(Announcement { as_path: vec![PUBLIC_AS], ..plain(PUBLIC)? });
    all.push(Announcement { as_path: vec![NODE_AS], ..plain(LOOP)? });
    all.push(Announcement { communities: vec!["65535:0".to_owned()], ..plain(LEAVING)? });
    Ok(all)
}

fn wait_path(transit: &Transit, far: &dyn Daemon, prefix: &str, wanted: &[u32]) -> Result<()> {
    wait_route(transit, far, prefix, |route| route.as_path == wanted)
        .with_context(|| format!("wanted {wanted:?}"))
}

/// RFC 1997, 4360, 8092: what is optional and transitive goes on as it came.
fn carried(transit: &Transit, far: &dyn Daemon) -> Result<()> {
    for prefix in PLAIN {
        wait_route(transit, far, prefix, |route| {
            route.as_path == [NODE_AS, NEAR_AS]
                && route.communities == ["64500:11", "64500:12"]
                && route.large_communities == ["64500:1:4200000000"]
                && route.route_targets == ["64500:7"]
        })?;
    }
    Ok(())
}

fn next_hops(transit: &mut Transit, far: &dyn Daemon) -> Result<()> {
    let own = ["10.1.1.10", "fd00:11:1::10"].map(|text| text.parse().expect("an address"));
    let node = &transit.lab.spec.nodes[0];
    let others = [IpAddr::from(node.gateway_ipv4()), node.gateway_ipv6().into()];
    for (mode, wanted) in [("Self", own), ("Keep", others), ("Auto", own)] {
        for (index, prefix) in PLAIN.into_iter().enumerate() {
            transit.edit(FAR[index], |peer| peer["spec"]["nextHopMode"] = json!(mode))?;
            wait_route(transit, far, prefix, |route| route.next_hop == wanted[index])
                .with_context(|| format!("nextHopMode {mode}"))?;
        }
    }
    Ok(())
}

fn private_numbers(transit: &mut Transit, far: &dyn Daemon) -> Result<()> {
    let cases: [(&str, &[u32], &[u32]); 4] = [
        ("when-all", &[NODE_AS], &[NODE_AS, NEAR_AS, PUBLIC_AS]),
        ("all", &[NODE_AS], &[NODE_AS, PUBLIC_AS]),
        ("replace", &[NODE_AS, NODE_AS], &[NODE_AS, NODE_AS, PUBLIC_AS]),
        ("no", &[NODE_AS, NEAR_AS], &[NODE_AS, NEAR_AS, PUBLIC_AS]),
    ];
    for (mode, private, mixed) in cases {
        transit.annotate(FAR[0], "remove-private-as", mode)?;
        wait_path(transit, far, PLAIN[0], private).with_context(|| mode.to_owned())?;
        wait_path(transit, far, PUBLIC, mixed).with_context(|| mode.to_owned())?;
    }
    Ok(())
}

/// A path with our own number is a loop, unless so many are allowed.
fn own_number(transit: &mut Transit) -> Result<()> {
    let first = |transit: &Transit| -> Result<Value> {
        transit.paths(LOOP)?.into_iter().next().context("not heard")
    };
    for (allowed, verdict) in [(0, "rejected: own AS in the AS path"), (1, "best")] {
        transit.edit(NEAR[0], |peer| peer["spec"]["numAllowedLocalASNumbers"] = json!(allowed))?;
        until(LONG, &format!("{LOOP} is {verdict}"), || Ok(first(transit)?["verdict"] == verdict))
            .with_context(|| format!("{:?}", first(transit)))?;
    }
    Ok(())
}

/// The router that leaves is the last choice, whatever the paths look like (RFC 8326 §4).
fn leaving(transit: &Transit, far: &mut dyn Daemon) -> Result<()> {
    let longer = Announcement {
        as_path: vec![PUBLIC_AS, PUBLIC_AS, PUBLIC_AS],
        ..Announcement::plain(LEAVING.parse()?)
    };
    far.announce(&[longer])?;
    until(LONG, "the longer path of the router that stays is the best", || {
        let paths = transit.paths(LEAVING)?;
        let [best, other] = paths.as_slice() else { return Ok(false) };
        Ok(best["peer"] == FAR[0] && other["peer"] == NEAR[0] && other["localPref"] == 0)
    })
    .with_context(|| format!("{:#?}", transit.paths(LEAVING)))
    .map(drop)
}

/// The node is another AS to the far router.
fn shown_number(transit: &mut Transit) -> Result<Box<dyn Daemon>> {
    let mut far = transit.far(Program::Frr, FAR_AS, |neighbor| neighbor.as_number = SHOWN_AS)?;
    let back = "198.18.2.0/24";
    let cases: [(&str, &[u32], &str); 3] = [
        ("replace", &[SHOWN_AS, NEAR_AS], "64501"),
        ("no-prepend", &[SHOWN_AS, NODE_AS, NEAR_AS], "64501"),
        ("prepend", &[SHOWN_AS, NODE_AS, NEAR_AS], "64600 64501"),
    ];
    for (mode, told, heard) in cases {
        for name in FAR {
            transit.edit(name, |peer| peer["spec"]["localASNumber"] = json!(SHOWN_AS))?;
            transit.annotate(name, "local-as-mode", mode)?;
        }
        transit.wait_up(&[&*far]).with_context(|| mode.to_owned())?;
        far.announce(&[Announcement::plain(back.parse()?)])?;
        wait_path(transit, &*far, PLAIN[0], told).with_context(|| mode.to_owned())?;
        until(LONG, &format!("{mode}: the path of {back} is {heard}"), || {
            Ok(transit.paths(back)?.first().is_some_and(|path| path["asPath"] == heard))
        })
        .with_context(|| format!("{:#?}", transit.paths(back)))?;
    }
    Ok(far)
}

/// Two sites with the same AS number, which would take each other's paths for loops.
fn same_number(transit: &mut Transit) -> Result<()> {
    for name in FAR {
        transit.edit(name, |peer| {
            peer["spec"]["asNumber"] = json!(NEAR_AS);
            peer["spec"]["localASNumber"] = Value::Null;
        })?;
    }
    let far = transit.far(Program::Frr, NEAR_AS, |_| {})?;
    transit.wait_up(&[&*far])?;
    let cidr = transit.lab.spec.nodes[0].pod_cidrs[0].clone();
    wait_path(transit, &*far, &cidr, &[NODE_AS])?;
    let table = far.learned()?;
    ensure!(!table.contains_key(&PLAIN[0].parse()?), "FRR took a loop: {table:?}");
    for name in FAR {
        transit.annotate(name, "as-override", "true")?;
    }
    wait_path(transit, &*far, PLAIN[0], &[NODE_AS, NODE_AS])
}
