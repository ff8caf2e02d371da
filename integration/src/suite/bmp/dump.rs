//! The table as an MRT file, read by `bgpdump`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{PATIENCE, PLAIN, PLAIN_6, PREPENDED, REJECTED, REJECTED_6, Watched, station};
use crate::netns::output;
use crate::setup::find;
use crate::suite::Bench;
use crate::wait::until;

/// A path as `bgpdump -m` prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    peer: String,
    asn: String,
    prefix: String,
    as_path: String,
    next_hop: String,
}

fn lines(file: &Path) -> Result<BTreeSet<Line>> {
    let mut bgpdump = Command::new(find("bgpdump").context("no bgpdump in PATH")?);
    let text = output(bgpdump.args(["-v", "-m"]).arg(file))?;
    let line = |line: &str| -> Result<Line> {
        let fields: Vec<&str> = line.split('|').collect();
        ensure!(fields.len() > 8 && fields[0] == "TABLE_DUMP2" && fields[2] == "B", "{line:?}");
        let [peer, asn, prefix, as_path, next_hop] =
            [3, 4, 5, 6, 8].map(|field| fields[field].to_owned());
        Ok(Line { peer, asn, prefix, as_path, next_hop })
    };
    text.lines().map(line).collect()
}

/// All that was heard is in the file as it was heard, and our own.
pub(super) fn mrt(bench: &Bench) -> Result<()> {
    let mut watched = Watched::start(bench, &station().to_string())?;
    watched.announce(&[PLAIN, REJECTED, PREPENDED, PLAIN_6, REJECTED_6])?;
    until(PATIENCE, "what passes the filter is accepted", || {
        Ok(watched.accepted_and_flaps()?.0 == 3)
    })?;
    let node = &watched.lab.spec.nodes[0];
    let [tor, tor6] = [node.gateway_ipv4().to_string(), node.gateway_ipv6().to_string()];
    let heard = |peer: &str, prefix: &str| Line {
        peer: peer.to_owned(),
        asn: "64500".to_owned(),
        prefix: prefix.to_owned(),
        as_path: "64500".to_owned(),
        next_hop: peer.to_owned(),
    };
    let own = |prefix: &str, next_hop: String| Line {
        peer: "0.0.0.0".to_owned(),
        asn: node.as_number.to_string(),
        prefix: prefix.to_owned(),
        as_path: String::new(),
        next_hop,
    };
    let ipv6 = BTreeSet::from([
        heard(&tor6, PLAIN_6),
        heard(&tor6, REJECTED_6),
        own(&node.pod_cidrs[1], node.ipv6.to_string()),
    ]);
    let ipv4 = [
        heard(&tor, PLAIN),
        heard(&tor, REJECTED),
        heard(&tor, PREPENDED),
        own(&node.pod_cidrs[0], node.ipv4.to_string()),
    ];
    let both: BTreeSet<Line> = ipv6.iter().cloned().chain(ipv4).collect();
    let file = watched.lab.run.directory().join("table.mrt");
    let path = file.to_str().context("a path of ours is text")?;
    let agent = &watched.lab.agents[0];
    agent.ask(&["bgp", "dump", path])?;
    let found = lines(&file)?;
    ensure!(found == both, "{found:#?}, not {both:#?}");
    agent.ask(&["bgp", "dump", "--family", "ipv6", path])?;
    let found = lines(&file)?;
    ensure!(found == ipv6, "{found:#?}, not {ipv6:#?}");
    let Err(error) = agent.ask(&["bgp", "dump", "/no/such/folder/table.mrt"]) else {
        bail!("a dump into a folder that does not exist");
    };
    ensure!(error.to_string().contains("/no/such/folder/table.mrt"), "{error}");
    Ok(())
}
