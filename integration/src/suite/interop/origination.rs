//! What a node tells beside its own ranges: aggregates and default routes.

use anyhow::{Context as _, Result, ensure};

use super::super::{Bench, Test};
use super::{ESTABLISHED, has_route};
use crate::probe::LONG;
use crate::router::{Daemon, Presence, Program};
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD, aggregates stand for their parts, and a default route is told where it is asked for",
    aggregates_and_defaults,
)
.limit(90)];

const AGGREGATES: [&str; 2] = ["10.65.0.0/16", "fd00:65::/32"];
const DEFAULTS: [&str; 2] = ["0.0.0.0/0", "::/0"];

fn are(router: &dyn Daemon, prefixes: &[impl AsRef<str>], goal: Presence) -> Result<()> {
    for prefix in prefixes {
        router.wait_route(prefix.as_ref(), goal, LONG)?;
    }
    Ok(())
}

fn aggregates_and_defaults(bench: &Bench) -> Result<()> {
    let mut lab = bench.bare(rack(1, Numbering::PerRack))?;
    lab.start_agents()?;
    let bird =
        Program::Bird.start(&lab.router, &lab.directory().join("bird"), &lab.router_config())?;
    bird.wait_established(ESTABLISHED).with_context(|| lab.agents[0].log_tail())?;
    let parts = lab.spec.nodes[0].pod_cidrs.clone();
    are(&*bird, &parts, Presence::There)?;

    let configuration = "BGPConfiguration/default";
    lab.annotate(configuration, "aggregates", Some("10.65.0.0/16 summary-only, fd00:65::/32"))?;
    are(&*bird, &AGGREGATES, Presence::There)?;
    are(&*bird, &parts[..1], Presence::Gone)?;
    are(&*bird, &parts[1..], Presence::There)?;
    // What fits no part ends at the node, instead of going back to the router.
    for prefix in AGGREGATES {
        until(LONG, "the rest of the aggregate ends here", || has_route(&lab, 0, prefix))?;
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let route = lab.agents[0].netns().run("ip", &[family, "route", "show", prefix])?;
        ensure!(route.contains("blackhole"), "{route}");
    }
    lab.annotate(configuration, "aggregates", None)?;
    are(&*bird, &AGGREGATES, Presence::Gone)?;
    are(&*bird, &parts, Presence::There)?;
    for prefix in AGGREGATES {
        until(LONG, "nothing ends here", || Ok(!has_route(&lab, 0, prefix)?))?;
    }

    are(&*bird, &DEFAULTS, Presence::Gone)?;
    let mut default = |value| {
        ["BGPPeer/tor-r1", "BGPPeer/tor-r1-v6"]
            .into_iter()
            .try_for_each(|peer| lab.annotate(peer, "default-originate", value))
    };
    default(Some("true"))?;
    are(&*bird, &DEFAULTS, Presence::There)?;
    default(None)?;
    are(&*bird, &DEFAULTS, Presence::Gone)?;
    let peers: serde_json::Value = lab.agents[0].json(&["bgp", "peers"])?;
    let flaps = peers.as_array().into_iter().flatten().map(|peer| &peer["flaps"]);
    ensure!(flaps.clone().all(|flaps| *flaps == 0), "sessions were lost: {peers}");
    Ok(())
}
