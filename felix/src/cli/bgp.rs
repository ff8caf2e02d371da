//! `ocicat bgp`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use ocicat_felix::api::bgp::{
    CacheRow, DrainView, Event, PeerView, RefreshQuery, RefreshView, RouteQuery, RouteView, Stage,
    StationRow, Which,
};
use ocicat_felix::api::{BfdRow, PeerRow, Query, RouteRow};
use ocicat_felix::tables;

use super::ask::{PATIENCE, ask_within, connect, print, read};
use super::dump;
use super::{BgpCommand, Format, Output, RoutesArgs, WhichArgs};

pub(super) fn run(socket: &Path, command: BgpCommand) -> anyhow::Result<ExitCode> {
    match command {
        BgpCommand::Peers { watch, output } => {
            // To listen first: nothing that happens in between is lost.
            let events = watch.then(|| Events::open(socket)).transpose()?;
            let rows: Vec<PeerRow> = ask_within(socket, &Query::BgpPeers, PATIENCE)?;
            print(output, &rows, |rows| tables::peers(rows))?;
            follow(events, output, |event| match event {
                Event::SessionUp { .. } | Event::SessionDown { .. } | Event::Missed { .. } => true,
                Event::RouteChanged { .. } | Event::RouteWithdrawn { .. } => false,
            })
        }
        BgpCommand::Bfd { output } => {
            let rows: Vec<BfdRow> = ask_within(socket, &Query::BgpBfd, PATIENCE)?;
            print(output, &rows, |rows| tables::bfd(rows))?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Bmp { output } => {
            let rows: Vec<StationRow> = ask_within(socket, &Query::BgpBmp, PATIENCE)?;
            print(output, &rows, |rows| tables::bmp::stations(rows))?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Rpki { output } => {
            let rows: Vec<CacheRow> = ask_within(socket, &Query::BgpRpki, PATIENCE)?;
            print(output, &rows, |rows| tables::rpki::caches(rows))?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Peer { name, output } => {
            let view: PeerView = ask_within(socket, &Query::BgpPeer { name }, PATIENCE)?;
            print(output, &view, tables::bgp::peer)?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Routes(args) => routes(socket, args),
        BgpCommand::Route { prefix, why: _, output } => {
            let view: RouteView = ask_within(socket, &Query::BgpRoute { prefix }, PATIENCE)?;
            if view.paths.is_empty() {
                bail!("the speaker has no path to {}", view.prefix);
            }
            print(output, &view, tables::bgp::route)?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Refresh { peer, family, output } => {
            let query = RefreshQuery { peer, family };
            let view: RefreshView = ask_within(socket, &Query::BgpRefresh(query), PATIENCE)?;
            print(output, &view, tables::bgp::refresh)?;
            Ok(ExitCode::SUCCESS)
        }
        BgpCommand::Dump { family, file } => dump::run(socket, family, &file),
        BgpCommand::Drain { wait, output } => drain(socket, wait, output),
        BgpCommand::Undrain { output } => {
            let view: DrainView = ask_within(socket, &Query::BgpUndrain, PATIENCE)?;
            print(output, &view, drain_text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn routes(socket: &Path, args: RoutesArgs) -> anyhow::Result<ExitCode> {
    let events = args.watch.then(|| Events::open(socket)).transpose()?;
    let RoutesArgs { prefix, peer, which, output, .. } = args;
    let query = RouteQuery { prefix: prefix.clone(), peer: peer.clone(), which: which.chosen() };
    let rows: Vec<RouteRow> = ask_within(socket, &Query::BgpRoutes(query), PATIENCE)?;
    print(output, &rows, |rows| tables::routes(rows))?;
    if let (Some(prefix), true, None) = (&prefix, rows.is_empty(), &events) {
        bail!("the speaker has no such path to {prefix}");
    }
    let of_prefix = |it: &str| prefix.as_deref().is_none_or(|wanted| wanted == it);
    follow(events, output, |event| match event {
        Event::RouteChanged { prefix, paths, .. } => {
            let told = |wanted: &String| paths.iter().any(|(_, peer)| peer == wanted);
            of_prefix(prefix) && peer.as_ref().is_none_or(told)
        }
        Event::RouteWithdrawn { prefix, .. } => of_prefix(prefix),
        Event::Missed { .. } => true,
        Event::SessionUp { .. } | Event::SessionDown { .. } => false,
    })
}

impl WhichArgs {
    fn chosen(self) -> Which {
        let all = [
            (self.received, Which::Received),
            (self.accepted, Which::Accepted),
            (self.rejected, Which::Rejected),
            (self.advertised, Which::Advertised),
        ];
        all.into_iter().find(|(is_set, _)| *is_set).map_or(Which::All, |(_, which)| which)
    }
}

fn drain(socket: &Path, wait: Duration, output: Output) -> anyhow::Result<ExitCode> {
    let query = Query::BgpDrain { wait_seconds: wait.as_secs() };
    let view: DrainView = ask_within(socket, &query, wait + PATIENCE)?;
    print(output, &view, drain_text)?;
    Ok(ExitCode::SUCCESS)
}

fn drain_text(view: &DrainView) -> String {
    let stage = match view.stage {
        Stage::Serving => "peers are told our routes",
        Stage::Leaving => "peers are asked to choose other ways",
        Stage::Gone => "peers are told nothing; `ocicat bgp undrain` ends it",
    };
    match &view.by_node {
        None => format!("{stage}\n"),
        Some(why) => format!("{stage}, because {why}\n"),
    }
}

/// The agent's stream of events.
struct Events(BufReader<std::os::unix::net::UnixStream>);

impl Events {
    fn open(socket: &Path) -> anyhow::Result<Self> {
        let mut events = Self(BufReader::new(connect(socket, r#"{"method":"bgp-events"}"#)?));
        let mut greeting = String::new();
        events.0.read_line(&mut greeting)?;
        read::<String>(&greeting)?;
        Ok(events)
    }
}

/// Prints what happens, one line each, until the agent ends.
fn follow(
    events: Option<Events>,
    output: Output,
    wanted: impl Fn(&Event) -> bool,
) -> anyhow::Result<ExitCode> {
    let Some(events) = events else { return Ok(ExitCode::SUCCESS) };
    let mut out = std::io::stdout().lock();
    for line in events.0.lines() {
        let event: Event = read(&line?)?;
        if !wanted(&event) {
            continue;
        }
        let text = match output.output {
            Format::Json => serde_json::to_string(&event)?,
            Format::Table => tables::bgp::event(&event),
        };
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            other => other?,
        }
    }
    bail!("the agent has ended")
}
