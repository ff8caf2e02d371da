//! Several paths for one prefix (RFC 7911): a router tells the agent all that it knows, and so does
//! the agent the next router.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, NEAR_AS, Transit, annotate};
use crate::probe::LONG;
use crate::progress::format_duration;
use crate::router::{Daemon, Neighbor, Program};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: GoBGP, BIRD, FRR, OpenBGPD, several paths for a prefix go through a node (ADD-PATH)",
    several_paths,
)
.limit(120)];

pub(super) const CANNOT: &[(Program, &str)] =
    &[(Program::ExaBgp, "it has no table, so it passes nothing on")];

const PROGRAMS: [Program; 4] = [Program::Bird, Program::Frr, Program::GoBgp, Program::OpenBgpd];

/// The networks that node2 and node3 both have.
const SHARED: [&str; 2] = ["10.99.0.0/24", "fd00:99::/64"];

/// What comes to node1 from node2 and node3 by way of the first router.
const BOTH: [[u32; 2]; 2] = [[NEAR_AS, 64_514], [NEAR_AS, 64_515]];

fn set_networks(node: &mut Value, more: &[&str]) {
    let networks = node["spec"]["podCIDRs"].as_array().cloned().unwrap_or_default();
    let own = networks.into_iter().filter(|net| !SHARED.iter().any(|shared| net == shared));
    let mut all: Vec<Value> = own.collect();
    all.extend(more.iter().map(|net| json!(net)));
    node["spec"]["podCIDRs"] = json!(all);
}

fn several_paths(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 3, |spec| {
        for object in &mut spec.objects {
            if matches!(object.name(), "node2" | "node3") {
                set_networks(&mut object.0, &SHARED);
            }
        }
        annotate(spec, &NEAR, "add-path-receive", "true");
        annotate(spec, &FAR, "add-path-send", "4");
    })?;
    transit.lab.start_agents()?;
    for program in PROGRAMS {
        let start = std::time::Instant::now();
        cross(&mut transit, program).with_context(|| format!("{program}"))?;
        println!("     - {:>8} {program}", format_duration(start.elapsed()));
    }
    Ok(())
}

fn cross(transit: &mut Transit, program: Program) -> Result<()> {
    let several = |neighbor: &mut Neighbor| neighbor.add_path = true;
    let near = transit.near(program, several)?;
    let far = transit.far(program, FAR_AS, several)?;
    transit.wait_up(&[&*near, &*far])?;
    wait_paths(transit, &*far, &BOTH)?;
    // What one node takes back leaves the other's path where it is.
    transit.edit("node3", |node| set_networks(node, &[]))?;
    wait_paths(transit, &*far, &BOTH[..1])?;
    transit.edit("node3", |node| set_networks(node, &SHARED))?;
    wait_paths(transit, &*far, &BOTH)?;
    transit.edit("node2", |node| set_networks(node, &[]))?;
    wait_paths(transit, &*far, &BOTH[1..])?;
    transit.edit("node2", |node| set_networks(node, &SHARED))?;
    wait_paths(transit, &*far, &BOTH)
}

/// Waits until the node and the router behind it have exactly these paths for each shared network.
fn wait_paths(transit: &Transit, far: &dyn Daemon, wanted: &[[u32; 2]]) -> Result<()> {
    let texts: BTreeSet<String> = wanted.iter().map(|[a, b]| format!("{a} {b}")).collect();
    for (prefix, peer) in SHARED.into_iter().zip(NEAR) {
        let mut paths = Vec::new();
        until(LONG, &format!("the node has the paths {texts:?} for {prefix}"), || {
            paths = transit.paths(prefix)?;
            paths.retain(|path| path["peer"] == peer);
            let seen: BTreeSet<_> =
                paths.iter().filter_map(|path| path["asPath"].as_str()).collect();
            Ok(seen.into_iter().eq(texts.iter()) && paths.len() == wanted.len())
        })
        .with_context(|| format!("{paths:#?}\n{}", transit.log()))?;
        let ids: BTreeSet<_> = paths.iter().filter_map(|path| path["pathId"].as_u64()).collect();
        ensure!(ids.len() == wanted.len(), "{prefix}: not an identifier each: {paths:#?}");
        let net: IpNet = prefix.parse()?;
        let node_as = transit.lab.spec.nodes[0].as_number;
        let longer: BTreeSet<Vec<u32>> =
            wanted.iter().map(|path| [&[node_as], path.as_slice()].concat()).collect();
        let mut routes = Vec::new();
        until(LONG, &format!("the far router has the paths {longer:?} for {prefix}"), || {
            routes = far.learned()?.remove(&net).unwrap_or_default();
            let seen: BTreeSet<_> = routes.iter().map(|route| route.as_path.clone()).collect();
            Ok(seen == longer && routes.len() == wanted.len())
        })
        .with_context(|| format!("{routes:#?}\n{}", transit.log()))?;
        let ids: Vec<u32> = routes.iter().filter_map(|route| route.path_id).collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        ensure!(distinct.len() == ids.len(), "{prefix}: an identifier twice: {routes:#?}");
    }
    Ok(())
}
