//! Commands that ask the agent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ocicat_cni::daemon::{Refusal, Response};
use ocicat_felix::api::{BfdRow, CheckView, PeerRow, PlanView, PolicyView, Query, RouteRow};
use ocicat_felix::explain::Explanation;
use ocicat_felix::inventory::Inventory;
use ocicat_felix::tables;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DIFFERENT, Format, Output};

/// An agent that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

fn ask<T: DeserializeOwned>(socket: &Path, query: &Query) -> anyhow::Result<T> {
    let connected = UnixStream::connect(socket);
    let mut stream = connected.map_err(|error| {
        let socket = socket.display();
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            anyhow!("{socket}: only root may talk to the agent")
        } else {
            anyhow!("no agent answers on {socket}: {error}; start it with `ocicat agent`, or name its socket with --socket")
        }
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(query)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the agent did not answer")?;
    match serde_json::from_str::<Response<T>>(&answer)
        .context("the agent's answer makes no sense")?
    {
        Response::Result(result) => Ok(result),
        Response::Error(Refusal { message, .. }) => bail!("{message}"),
    }
}

/// Prints for people or for programs.
pub(super) fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match output.output {
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Table => text(value),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `ocicat bgp routes | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn peers(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let rows: Vec<PeerRow> = ask(socket, &Query::BgpPeers)?;
    print(output, &rows, |rows| tables::peers(rows))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn bfd(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let rows: Vec<BfdRow> = ask(socket, &Query::BgpBfd)?;
    print(output, &rows, |rows| tables::bfd(rows))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn routes(
    socket: &Path,
    prefix: Option<String>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<RouteRow> = ask(socket, &Query::BgpRoutes)?;
    if let Some(prefix) = &prefix {
        rows.retain(|row| row.prefix == *prefix);
    }
    print(output, &rows, |rows| tables::routes(rows))?;
    match prefix {
        Some(prefix) if rows.is_empty() => bail!("the speaker has no path to {prefix}"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

pub(super) fn policy(socket: &Path, pod: String, output: Output) -> anyhow::Result<ExitCode> {
    let view: PolicyView = ask(socket, &Query::PolicyShow { pod })?;
    print(output, &view, tables::policy)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn explain(socket: &Path, flow: String, output: Output) -> anyhow::Result<ExitCode> {
    let answers: Vec<Explanation> = ask(socket, &Query::Explain { flow })?;
    explained(&answers, output)
}

/// Prints explanations; the exit code says whether the flow goes through in every family.
pub(super) fn explained(answers: &Vec<Explanation>, output: Output) -> anyhow::Result<ExitCode> {
    print(output, answers, |answers| tables::explanations(answers))?;
    let allowed = answers.iter().all(|answer| answer.allowed);
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

pub(super) fn plan(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let view: PlanView = ask(socket, &Query::Plan)?;
    print(output, &view, |view| view.change.clone())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let mut view: CheckView = ask(socket, &Query::Check)?;
    if let Some(ours) = &view.inventory {
        view.failures.extend(second_opinion(ours));
    }
    print(output, &view, check_text)?;
    let well = view.in_sync && view.problems.is_empty() && view.failures.is_empty();
    Ok(if well && view.waiting.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// What the nft program sees otherwise than the agent, where that program is installed.
fn second_opinion(ours: &Inventory) -> Vec<String> {
    match Inventory::by_nft() {
        Ok(None) => Vec::new(),
        Ok(Some(nft)) => ours.differences(&nft),
        Err(error) => vec![error],
    }
}

fn check_text(view: &CheckView) -> String {
    let mut text = String::new();
    let mut list = |heading: &str, none: &str, lines: &[String]| {
        if lines.is_empty() {
            text.push_str(&format!("{none}\n"));
        } else {
            text.push_str(&format!("{heading}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    let difference: Vec<String> = view.difference.lines().map(str::to_owned).collect();
    let holds = match &view.inventory {
        None => "no kernel is programmed".to_owned(),
        Some(table) => format!(
            "the kernel holds what it should: {} chains, {} rules, {} sets and maps, {} elements",
            table.chains.len(),
            table.chains.values().sum::<usize>(),
            table.sets.len(),
            table.sets.values().sum::<usize>(),
        ),
    };
    list("the kernel differs from what should be there; being repaired:", &holds, &difference);
    let problems: Vec<String> = view.problems.iter().map(ToString::to_string).collect();
    list("in the input:", "nothing is wrong with the input", &problems);
    if !view.failures.is_empty() {
        list("could not be done:", "", &view.failures);
    }
    if !view.waiting.is_empty() {
        list("attached, but closed because the pod is not known:", "", &view.waiting);
    }
    text
}
