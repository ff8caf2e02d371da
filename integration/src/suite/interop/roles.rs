//! What two ASes are to each other (RFC 9234), and what passes where nobody said what may (RFC 8212).

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::transit::{FAR, FAR_AS, NEAR, NEAR_AS, Transit, annotate};
use crate::probe::LONG;
use crate::router::{Announcement, Daemon, Presence, Program};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[Test::new(
    "interop: BIRD and FRR, roles that fit and that do not, routes that may only go down, and no policy",
    roles,
)
.limit(90)];

const NODE_AS: u32 = 64_513;
/// Who marked a route that has leaked.
const OTHER_AS: u32 = 64_499;

const PLAIN: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];
/// Has the mark of [`OTHER_AS`].
const FOREIGN: &str = "198.18.0.0/24";
/// Has the mark of the router that tells it.
const MARKED: &str = "198.18.1.0/24";

/// What is wrong with the role that a peer says, or does not say (RFC 9234 §4.2).
const MISMATCH: [u8; 2] = [2, 11];

fn roles(bench: &Bench) -> Result<()> {
    let mut transit = Transit::create(bench, 1, |spec| {
        annotate(spec, &NEAR, "role", "customer");
        annotate(spec, &FAR, "role", "provider strict");
    })?;
    let near = silent_provider(&transit)?;
    let far = transit.far(Program::Frr, FAR_AS, |neighbor| {
        neighbor.own_words = vec!["local-role customer strict-mode"];
    })?;
    transit.lab.start_agents()?;
    transit.wait_up(&[&*near, &*far])?;
    goes_down(&transit, &*far)?;
    drop(near);
    let near = named_provider(&mut transit, &*far)?;
    drop(far);
    not_up_nor_aside(&mut transit)?;
    drop(near);
    refused(&mut transit)?;
    leaks(&mut transit)?;
    without_policy(&mut transit)
}

fn plain() -> Result<Vec<Announcement>> {
    PLAIN.iter().map(|prefix| Ok(Announcement::plain(prefix.parse()?))).collect()
}

/// A provider that knows nothing of roles.
fn silent_provider(transit: &Transit) -> Result<Box<dyn Daemon>> {
    let mut near = transit.near(Program::Bird, |_| {})?;
    near.announce(&plain()?)?;
    Ok(near)
}

/// Waits until a router has a prefix with this mark.
fn wait_mark(
    transit: &Transit,
    router: &dyn Daemon,
    prefix: &str,
    mark: Option<u32>,
) -> Result<()> {
    let net = prefix.parse()?;
    let mut seen = Vec::new();
    until(LONG, &format!("{prefix} has the mark {mark:?}"), || {
        seen = router.learned()?.remove(&net).unwrap_or_default();
        Ok(seen.len() == 1 && seen[0].only_to_customer == mark)
    })
    .with_context(|| format!("{seen:?}\n{}", transit.log()))
    .map(drop)
}

/// What the silent provider told is marked by us in its name, and what is our own in ours.
fn goes_down(transit: &Transit, far: &dyn Daemon) -> Result<()> {
    for prefix in PLAIN {
        wait_mark(transit, far, prefix, Some(NEAR_AS))?;
    }
    for prefix in &transit.lab.spec.nodes[0].pod_cidrs {
        wait_mark(transit, far, prefix, Some(NODE_AS))?;
    }
    Ok(())
}

/// A provider that says that it is one, and demands the same of us.
fn named_provider(transit: &mut Transit, far: &dyn Daemon) -> Result<Box<dyn Daemon>> {
    for name in NEAR {
        transit.annotate(name, "role", "customer strict")?;
    }
    let mut near = transit.near(Program::Bird, |neighbor| {
        neighbor.own_words = vec!["local role provider", "require roles yes"];
    })?;
    near.announce(&plain()?)?;
    transit.wait_up(&[&*near])?;
    for prefix in PLAIN {
        wait_mark(transit, far, prefix, Some(NEAR_AS))?;
    }
    // Our own routes go up without a mark.
    wait_mark(transit, &*near, &transit.lab.spec.nodes[0].pod_cidrs[0], None)?;
    Ok(near)
}

/// Neither another provider nor a peer is told what our provider told.
fn not_up_nor_aside(transit: &mut Transit) -> Result<()> {
    let cases = [
        ("customer strict", "local-role provider strict-mode", None),
        ("peer strict", "local-role peer strict-mode", Some(NODE_AS)),
    ];
    let own = transit.lab.spec.nodes[0].pod_cidrs.clone();
    for (ours, theirs, mark) in cases {
        for name in FAR {
            transit.annotate(name, "role", ours)?;
        }
        let far = transit.far(Program::Frr, FAR_AS, |one| one.own_words = vec![theirs])?;
        transit.wait_up(&[&*far]).with_context(|| ours.to_owned())?;
        for prefix in &own {
            wait_mark(transit, &*far, prefix, mark).with_context(|| ours.to_owned())?;
        }
        // The node has them, and the router has all that it will get: what is told last came.
        for prefix in PLAIN {
            ensure!(!transit.paths(prefix)?.is_empty(), "the node has no {prefix}");
        }
        let more = "10.65.200.0/24";
        let all = [own.as_slice(), &[more.to_owned()]].concat();
        transit.edit("node1", |node| node["spec"]["podCIDRs"] = json!(all))?;
        far.wait_route(more, Presence::There, LONG)?;
        let table = far.learned()?;
        for prefix in PLAIN {
            let leaked = table.contains_key(&prefix.parse()?);
            ensure!(!leaked, "{ours}: {prefix} leaks: {table:?}");
        }
        transit.edit("node1", |node| node["spec"]["podCIDRs"] = json!(own))?;
        far.wait_route(more, Presence::Gone, LONG)?;
    }
    Ok(())
}

/// Waits until both people and programs are told of a role that does not fit.
fn wait_refusal(transit: &Transit, name: &str, by: &str, text: &str) -> Result<()> {
    transit.wait_peer(name, &format!("refused by {by}: {text}"), |peer| {
        let said = peer["lastError"].as_str().unwrap_or_default();
        peer["state"] != "Established"
            && peer["lastErrorCode"] == json!(MISMATCH)
            && peer["lastErrorBy"] == by
            && said.contains(text)
    })?;
    let shown = transit.lab.agents[0].ask(&["bgp", "peers"])?;
    ensure!(shown.contains(text), "{shown}");
    Ok(())
}

/// Roles that do not fit, said by one side or by both.
fn refused(transit: &mut Transit) -> Result<()> {
    for name in NEAR {
        transit.annotate(name, "role", "customer")?;
    }
    // BIRD connects, hears our OPEN first, and does not want it.
    let customer =
        transit.near(Program::Bird, |one| one.own_words = vec!["local role customer"])?;
    let both = |peer: &Value| peer["lastErrorCode"] == json!(MISMATCH);
    transit.wait_peer(NEAR[0], "two customers", both)?;
    let up = customer.sessions()?.iter().any(|session| session.established);
    ensure!(!up, "a session between two customers: {:?}", customer.sessions());
    drop(customer);
    // One that says nothing, where we are strict.
    transit.annotate(NEAR[0], "role", "customer strict")?;
    let silent = transit.near(Program::Bird, |_| {})?;
    wait_refusal(transit, NEAR[0], "us", "the peer does not say its role; we are its customer")?;
    drop(silent);
    // We say nothing, and the router is strict.
    for name in [NEAR[0], FAR[0], FAR[1]] {
        let none = json!({ "bgp.ocicat.io/connect-retry": "1s" });
        transit.edit(name, |peer| peer["metadata"]["annotations"] = none)?;
    }
    let strict = ["local role provider", "require roles yes"];
    let bird = transit.near(Program::Bird, |one| one.own_words = strict.to_vec())?;
    wait_refusal(transit, NEAR[0], "peer", "role mismatch")?;
    drop(bird);
    let strict = "local-role provider strict-mode";
    let _frr = transit.far(Program::Frr, FAR_AS, |one| one.own_words = vec![strict])?;
    wait_refusal(transit, FAR[0], "peer", "role mismatch")
}

/// What a customer or a peer must not have told us is not used, and the reason is shown.
fn leaks(transit: &mut Transit) -> Result<()> {
    for name in NEAR {
        transit.annotate(name, "role", "provider")?;
    }
    let mut near = transit.near(Program::Bird, |_| {})?;
    transit.wait_up(&[&*near])?;
    let marked = |prefix: &str, mark| -> Result<_> {
        Ok(Announcement { only_to_customer: Some(mark), ..Announcement::plain(prefix.parse()?) })
    };
    let mut all = plain()?;
    all.extend([marked(FOREIGN, OTHER_AS)?, marked(MARKED, NEAR_AS)?]);
    near.announce(&all)?;
    let cases =
        [("provider", LEAKED, LEAKED), ("peer", LEAKED, "best"), ("customer", "best", "best")];
    for (role, foreign, marked) in cases {
        transit.annotate(NEAR[0], "role", role)?;
        for (prefix, verdict) in [(FOREIGN, foreign), (MARKED, marked), (PLAIN[0], "best")] {
            wait_verdict(transit, prefix, verdict).with_context(|| format!("as {role}"))?;
        }
    }
    Ok(())
}

const LEAKED: &str = "rejected: leaked: meant for customers only";

fn wait_verdict(transit: &Transit, prefix: &str, verdict: &str) -> Result<()> {
    let verdict_of = |paths: &[Value]| -> String {
        let first = paths.first().and_then(|path| path["verdict"].as_str());
        first.unwrap_or_default().to_owned()
    };
    until(LONG, &format!("{prefix} is {verdict}"), || {
        Ok(verdict_of(&transit.paths(prefix)?).starts_with(verdict))
    })
    .with_context(|| format!("{:#?}\n{}", transit.paths(prefix), transit.log()))
    .map(drop)
}

/// RFC 8212, where it is asked for: what no rule speaks of passes in neither direction.
fn without_policy(transit: &mut Transit) -> Result<()> {
    let mut near = transit.near(Program::Bird, |_| {})?;
    near.announce(&plain()?)?;
    let far = transit.far(Program::Frr, FAR_AS, |_| {})?;
    transit.wait_up(&[&*near, &*far])?;
    let own = transit.lab.spec.nodes[0].pod_cidrs.clone();
    let passes = |transit: &Transit, goal: Presence| -> Result<()> {
        let verdict = if goal == Presence::There { "best" } else { NO_RULE };
        for prefix in PLAIN {
            wait_verdict(transit, prefix, verdict)?;
            far.wait_route(prefix, goal, LONG)?;
        }
        for prefix in &own {
            near.wait_route(prefix, goal, LONG)?;
            // The filter of this router has a rule for what it is told.
            far.wait_route(prefix, Presence::There, LONG)?;
        }
        Ok(())
    };
    passes(transit, Presence::There)?;
    require_policy(transit, "true")?;
    passes(transit, Presence::Gone)?;
    require_policy(transit, "false")?;
    passes(transit, Presence::There)
}

fn require_policy(transit: &mut Transit, value: &str) -> Result<()> {
    transit.lab.annotate("BGPConfiguration/default", "ebgp-requires-policy", Some(value))
}

const NO_RULE: &str = "rejected";
