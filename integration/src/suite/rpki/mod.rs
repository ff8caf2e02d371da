//! Origin validation: what BIRD announces is judged as StayRTR tells, and again when that changes.

mod cache;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Bench, Test};
use crate::lab::Lab;
use crate::router::{Announcement, Daemon, Program};
use crate::spec::{Numbering, Spec, rack};
use crate::wait::until;
use cache::{Cache, Payload};

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "rpki: what StayRTR calls invalid is not used until it says otherwise, and no session notices",
        judged_again,
    )
    .limit(120),
    Test::new("rpki: a StayRTR that is killed and comes back with other data moves only what these concern", comes_back)
        .limit(120),
    Test::new("rpki: with mark or off invalid routes are used, and the change costs no session", policies)
        .limit(120),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// The AS of BIRD, which originates all of it.
const BIRD: u32 = 64_500;
/// Somebody else.
const OTHER: u32 = 64_999;
const VALID: &str = "198.51.100.0/24";
const DISPUTED: &str = "203.0.113.0/24";
const UNKNOWN: &str = "192.0.2.128/25";
const VALID_6: &str = "2001:db8:51::/48";
const DISPUTED_6: &str = "2001:db8:52::/48";

/// A node beside a BIRD with a session in each family, and a cache on the router.
#[derive(Debug)]
struct Validating {
    lab: Lab,
    cache: Cache,
    bird: Box<dyn Daemon>,
}

fn address() -> SocketAddr {
    SocketAddr::new(rack(1, Numbering::PerRack).nodes[0].gateway_ipv4().into(), 3323)
}

/// `policy` is the annotation that says what becomes of invalid routes.
fn spec(policy: Option<&str>) -> Spec {
    let mut spec = rack(1, Numbering::PerRack);
    for object in spec.objects.iter_mut().filter(|object| object.kind() == "BGPConfiguration") {
        let annotations = match policy {
            None => json!({ "bgp.ocicat.io/rpki": address().to_string() }),
            Some(policy) => json!({
                "bgp.ocicat.io/rpki": address().to_string(),
                "bgp.ocicat.io/origin-validation": policy,
            }),
        };
        object.0["metadata"]["annotations"] = annotations;
    }
    spec
}

/// What the cache says at first, with whoever may originate the disputed prefixes.
fn payloads(owner: u32) -> Vec<Payload> {
    [(VALID, BIRD), (VALID_6, BIRD), (DISPUTED, owner), (DISPUTED_6, owner)]
        .map(|(prefix, asn)| Payload { prefix, asn })
        .to_vec()
}

impl Validating {
    fn start(bench: &Bench) -> Result<Self> {
        let mut lab = bench.bare(spec(None))?;
        let directory = lab.run.directory();
        let cache =
            Cache::start(&lab.router, &directory.join("stayrtr"), address(), &payloads(OTHER))?;
        let bird =
            Program::Bird.start(&lab.router, &directory.join("bird"), &lab.router_config())?;
        lab.start_agents()?;
        bird.wait_established(Duration::from_secs(30)).with_context(|| lab.agents[0].log_tail())?;
        let mut validating = Self { lab, cache, bird };
        validating.wait_cache("current", |row| row["state"] == "current" && row["ipv4"] == 2)?;
        let route = |prefix: &str| Ok(Announcement::plain(prefix.parse()?));
        let all = [VALID, DISPUTED, UNKNOWN, VALID_6, DISPUTED_6];
        let routes: Vec<Announcement> = all.into_iter().map(route).collect::<Result<_>>()?;
        validating.bird.announce(&routes)?;
        Ok(validating)
    }

    /// What the agent says of its only cache.
    fn row(&self) -> Result<Value> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "rpki"])?;
        rows.into_iter().next().context("no cache")
    }

    fn wait_cache(&self, goal: &str, is_so: impl Fn(&Value) -> bool) -> Result<Duration> {
        until(PATIENCE, &format!("the cache is {goal}"), || Ok(is_so(&self.row()?)))
            .with_context(|| format!("{:?}\n{}", self.row(), self.lab.agents[0].log_tail()))
    }

    /// Whether the node's kernel has a route to each of the prefixes.
    fn in_kernel(&self, prefixes: &[&str], wanted: bool) -> Result<bool> {
        for prefix in prefixes {
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            let routes =
                self.lab.agents[0].netns().run("ip", &[family, "route", "show", prefix])?;
            if routes.trim().is_empty() == wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait_kernel(&self, prefixes: &[&str], wanted: bool) -> Result<Duration> {
        let goal = format!("the kernel has {prefixes:?}: {wanted}");
        until(PATIENCE, &goal, || self.in_kernel(prefixes, wanted)).with_context(|| {
            let routes = self.lab.agents[0].ask(&["bgp", "routes"]);
            let (agent, cache) = (self.lab.agents[0].log_tail(), self.cache.log());
            format!("{routes:?}\n{:?}\n{agent}\n{cache}", self.row())
        })
    }

    /// What the agent says that a prefix is worth, and what became of its only path.
    fn judgement(&self, prefix: &str) -> Result<(String, String)> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "routes", prefix])?;
        let text = |field: &str| rows[0][field].as_str().unwrap_or_default().to_owned();
        ensure!(rows.len() == 1, "{rows:?}");
        Ok((text("validity"), text("verdict")))
    }

    fn flaps(&self) -> Result<u64> {
        let rows: Vec<Value> = self.lab.agents[0].json(&["bgp", "peers"])?;
        ensure!(rows.iter().all(|row| row["state"] == "Established"), "{rows:?}");
        Ok(rows.iter().filter_map(|row| row["flaps"].as_u64()).sum())
    }
}

fn judged_again(bench: &Bench) -> Result<()> {
    let validating = Validating::start(bench)?;
    validating.wait_kernel(&[VALID, UNKNOWN, VALID_6], true)?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], false)?;
    for (prefix, validity, verdict) in [
        (VALID, "valid", "best"),
        (UNKNOWN, "not-found", "best"),
        (VALID_6, "valid", "best"),
        (DISPUTED, "invalid", "rejected: RPKI invalid: its AS must not originate the prefix"),
        (DISPUTED_6, "invalid", "rejected: RPKI invalid: its AS must not originate the prefix"),
    ] {
        let judgement = validating.judgement(prefix)?;
        ensure!(judgement == (validity.to_owned(), verdict.to_owned()), "{prefix}: {judgement:?}");
    }
    let agent = &validating.lab.agents[0];
    let why = agent.ask(&["bgp", "route", DISPUTED, "--why"])?;
    for words in [", RPKI invalid\n", "rejected: RPKI invalid, its origin at the end of \"64500\""]
    {
        ensure!(why.contains(words), "no {words:?} in\n{why}");
    }
    let up = agent.metrics("ocicat_rpki_up")?;
    ensure!(up.len() == 1 && up[0].ends_with(" 1"), "{up:?}");
    let records = agent.metrics("ocicat_rpki_records")?;
    ensure!(records.len() == 2 && records.iter().all(|line| line.ends_with(" 2")), "{records:?}");
    let row = validating.row()?;
    ensure!(row["version"] == 1 && row["lastError"].is_null(), "{row}");

    validating.cache.say(&payloads(BIRD))?;
    let took = validating.wait_kernel(&[DISPUTED, DISPUTED_6], true)?;
    println!("     {took:?} from the cache's new file until the routes are in the kernel");
    ensure!(validating.judgement(DISPUTED)? == ("valid".to_owned(), "best".to_owned()));
    validating.cache.say(&payloads(OTHER))?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], false)?;
    ensure!(validating.in_kernel(&[VALID, UNKNOWN, VALID_6], true)?, "other routes went");
    ensure!(validating.flaps()? == 0, "a session was lost");
    let serial = validating.row()?["serial"].as_u64();
    ensure!(serial >= Some(2), "{serial:?}");
    Ok(())
}

/// What happens to routes, one JSON object a line, in a file.
fn watch(lab: &Lab) -> Result<(Child, std::path::PathBuf)> {
    let agent = &lab.agents[0];
    let file = lab.run.directory().join("events");
    let mut watch = Command::new(&agent.binaries().ocicat);
    watch.arg("--socket").arg(agent.socket()).args(["bgp", "routes", "--watch", "-o", "json"]);
    watch.stdin(Stdio::null()).stdout(File::create(&file)?).stderr(Stdio::null());
    let child = agent.netns().spawn(&mut watch)?;
    // The list stands before the first event, in one line.
    until(PATIENCE, "the list is there", || Ok(fs::read_to_string(&file)?.contains('\n')))?;
    Ok((child, file))
}

/// The prefixes of the events.
fn moved(file: &std::path::Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let whole = text.rsplit_once('\n').unwrap_or_default().0;
    let events = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_prefix = |event: Value| {
        Some(event.get("event")?.as_str()?.to_owned() + " " + event["prefix"].as_str()?)
    };
    Ok(events.filter_map(of_prefix).collect())
}

fn comes_back(bench: &Bench) -> Result<()> {
    let mut validating = Validating::start(bench)?;
    validating.wait_kernel(&[VALID, UNKNOWN, VALID_6], true)?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], false)?;
    let (mut watcher, events) = watch(&validating.lab)?;
    validating.cache.kill()?;
    validating.wait_cache("down", |row| row["state"] == "down")?;
    let row = validating.row()?;
    let expires = row["expiresSeconds"].as_u64();
    ensure!(row["ipv4"] == 2 && row["ipv6"] == 2 && expires > Some(0), "{row}");
    ensure!(validating.judgement(DISPUTED)?.0 == "invalid", "what it told is forgotten");

    // A new life has another session, and here other data.
    let mut other = payloads(OTHER);
    other[2].asn = BIRD;
    validating.cache.restart(&validating.lab.router, &other)?;
    let took = validating.wait_kernel(&[DISPUTED], true)?;
    println!("     {took:?} from its start until its data count");
    validating.wait_cache("current", |row| row["state"] == "current")?;
    ensure!(validating.judgement(DISPUTED_6)?.0 == "invalid");
    ensure!(validating.in_kernel(&[VALID, UNKNOWN, VALID_6], true)?, "other routes went");
    let expected = format!("route-changed {DISPUTED}");
    until(PATIENCE, "the change is told", || Ok(moved(&events)?.contains(&expected)))?;
    watcher.kill()?;
    watcher.wait()?;
    let moved = moved(&events)?;
    ensure!(moved == [expected], "other routes moved: {moved:?}");
    ensure!(validating.flaps()? == 0, "a session was lost");
    let log = fs::read_to_string(validating.lab.agents[0].log())?;
    for line in ["no connection with the RPKI cache", "the RPKI cache has told all that it has"] {
        ensure!(log.contains(line), "no {line:?} in the log");
    }
    Ok(())
}

fn policies(bench: &Bench) -> Result<()> {
    let validating = Validating::start(bench)?;
    validating.wait_kernel(&[VALID, UNKNOWN, VALID_6], true)?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], false)?;
    let set = |policy: Option<&str>| {
        let spec = spec(policy);
        let object = spec.objects.iter().find(|object| object.kind() == "BGPConfiguration");
        validating.lab.store.put(object.context("no BGPConfiguration")?)
    };
    let preference = |wanted: u64| {
        until(PATIENCE, &format!("the preference is {wanted}"), || {
            let rows: Vec<Value> = validating.lab.agents[0].json(&["bgp", "routes", DISPUTED])?;
            Ok(rows[0]["localPref"] == wanted)
        })
    };
    set(Some("mark"))?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], true)?;
    preference(0)?;
    set(Some("off"))?;
    preference(100)?;
    ensure!(validating.judgement(DISPUTED)? == ("invalid".to_owned(), "best".to_owned()));
    set(Some("reject-invalid"))?;
    validating.wait_kernel(&[DISPUTED, DISPUTED_6], false)?;
    ensure!(validating.flaps()? == 0, "a session was lost");
    Ok(())
}
