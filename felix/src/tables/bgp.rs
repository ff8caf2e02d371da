//! The speaker in rows and words.

mod routes;
mod settings;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use ocicat_bgp::speaker::{Asked, EndedBy, MessageCounts, PeerName, PeerSnapshot, State};
use ocicat_bgp::wire::Cease;
use ocicat_bgp::wire::iana::error;

use super::{duration_text, family_name, kind_name};
use crate::api::bgp::{Event, PeerView, RefreshView};
use crate::api::{FamilyRow, Messages, PeerRow};
pub use routes::{changes, route, route_row, told_row, why};
pub use settings::{Conditional, condition_rows, conditionals, settings};

/// What the daemon knows of a peer, and the speaker does not.
#[derive(Debug, Clone, Default)]
pub struct PeerBeside {
    /// What its session waits for.
    pub held: Option<String>,
    /// How long ago the last session or attempt ended.
    pub last_error_seconds: Option<u64>,
}

/// Why the peer's last session or attempt ended. That we took an earlier session down for a change of the configuration
/// explains nothing when no connection has come about since.
fn last_error(peer: &PeerSnapshot) -> Option<String> {
    let changed = (error::CEASE, Cease::OtherConfigurationChange.subcode());
    let last = peer.last_error.as_ref().filter(|last| last.code != Some(changed));
    let of_connection = peer.connect_error.as_ref().filter(|_| peer.state != State::Established);
    let text = last.map(ToString::to_string).or_else(|| of_connection.cloned());
    text.or_else(|| peer.last_error.as_ref().map(ToString::to_string))
}

/// A peer as a row.
pub fn peer_row(peer: &PeerSnapshot, beside: Option<&PeerBeside>) -> PeerRow {
    let total = |counts: &MessageCounts| {
        counts.open + counts.update + counts.notification + counts.keepalive + counts.route_refresh
    };
    let negotiated = peer.negotiated.as_ref();
    let held = beside.and_then(|beside| beside.held.clone());
    let held = held.filter(|_| peer.state != State::Established);
    PeerRow {
        name: peer.name.to_string(),
        address: found_text(peer),
        remote_as: peer.remote_as,
        kind: kind_name(peer.kind).to_owned(),
        state: peer.state.to_string(),
        since_seconds: peer.since.as_secs(),
        flaps: peer.flaps,
        last_error: held.or_else(|| last_error(peer)),
        last_error_seconds: beside.and_then(|beside| beside.last_error_seconds),
        families: peer
            .families
            .iter()
            .map(|family| FamilyRow {
                family: family_name(family.family).to_owned(),
                received: family.received,
                accepted: family.accepted,
                rejected: family.received.saturating_sub(family.accepted),
                stale: family.stale,
                advertised: family.advertised,
            })
            .collect(),
        hold_seconds: negotiated.map(|negotiated| negotiated.hold_time.secs()),
        capabilities: negotiated
            .map(|negotiated| negotiated.capabilities.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        messages: Messages {
            received: total(&peer.received),
            sent: total(&peer.sent),
            updates_received: peer.received.update,
            updates_sent: peer.sent.update,
        },
        faults: peer.faults,
        last_fault: peer.last_fault.clone(),
    }
}

/// What a peer was asked to tell again.
pub fn refresh_view(peer: &PeerName, asked: Asked) -> RefreshView {
    RefreshView {
        peer: peer.to_string(),
        families: asked.families.iter().map(|family| family_name(family).to_owned()).collect(),
        enhanced: asked.enhanced,
    }
}

/// What a peer was asked to tell again, in words.
pub fn refresh(view: &RefreshView) -> String {
    let families = view.families.join(" and ");
    let then = if view.enhanced {
        "what it does not name again is taken out at the end (RFC 7313)"
    } else {
        "it marks no end, so nothing is taken out (RFC 2918)"
    };
    format!("{} was asked to tell {families} again; {then}\n", view.peer)
}

/// All that the speaker knows of a peer.
pub fn peer_view(peer: &PeerSnapshot, beside: Option<&PeerBeside>) -> PeerView {
    let negotiated = peer.negotiated.as_ref();
    let last = peer.last_error.as_ref();
    let by = |by| match by {
        EndedBy::Us => "us",
        EndedBy::Peer => "peer",
        EndedBy::Transport => "transport",
    };
    let timers = peer.timers.iter().map(|(name, left)| ((*name).to_owned(), left.as_secs()));
    PeerView {
        row: peer_row(peer, beside),
        origin: String::new(),
        settings: Vec::new(),
        router_id: negotiated.map(|negotiated| negotiated.router_id.to_string()),
        hostname: negotiated.and_then(|n| n.who.hostname.as_deref()).map(str::to_owned),
        software: negotiated.and_then(|n| n.who.software.as_deref()).map(str::to_owned),
        keepalive_seconds: negotiated.and_then(|n| n.keepalive).map(|time| time.as_secs()),
        timers: timers.collect(),
        last_error_code: last.and_then(|reason| reason.code),
        last_error_by: last.map(|reason| by(reason.by).to_owned()),
        connect_error: peer.connect_error.clone(),
        history: Vec::new(),
    }
}

/// Where the peer is; of one that was not found yet, the link.
pub(crate) fn found_text(peer: &PeerSnapshot) -> String {
    match &peer.interface {
        Some(interface) if peer.address.is_unspecified() => format!("%{interface}"),
        Some(interface) => format!("{}%{interface}", peer.address),
        None => peer.address.to_string(),
    }
}

/// Everything about a peer.
pub fn peer(view: &PeerView) -> String {
    let row = &view.row;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<18}{value}\n"));
    line("peer", &format!("{}, by {}", row.name, view.origin));
    let time = duration_text(Duration::from_secs(row.since_seconds));
    line("state", &format!("{} for {time}, {} flaps", row.state, row.flaps));
    if let Some(reason) = &row.last_error {
        let ago = row.last_error_seconds.map(|ago| duration_text(Duration::from_secs(ago)));
        let code = view.last_error_code.map(|(code, sub)| format!(" (NOTIFICATION {code}/{sub})"));
        let by = view.last_error_by.as_ref().map(|by| format!(", by {by}"));
        let ago = ago.map(|ago| format!(", {ago} ago"));
        let rest = [code, by, ago].into_iter().flatten().collect::<String>();
        line("last error", &format!("{reason}{rest}"));
    }
    if let Some(error) = &view.connect_error {
        line("cannot connect", error);
    }
    let names = [&view.hostname, &view.software].into_iter().flatten();
    let names = names.map(String::as_str).collect::<Vec<_>>().join(", ");
    if !names.is_empty() {
        line("calls itself", &names);
    }
    if let Some(router_id) = &view.router_id {
        let hold = row.hold_seconds.unwrap_or(0);
        let keepalive = view.keepalive_seconds.map_or_else(|| "no".to_owned(), |s| format!("{s}s"));
        line("negotiated", &format!("router id {router_id}, hold {hold}s, keepalive {keepalive}"));
        line("capabilities", &row.capabilities.join(" "));
    }
    let timers: Vec<String> =
        view.timers.iter().map(|(name, left)| format!("{name} in {left}s")).collect();
    line("timers", &timers.join(", "));
    for family in &row.families {
        line(
            &family.family,
            &format!(
                "received {}, accepted {}, rejected {}, stale {}, advertised {}",
                family.received, family.accepted, family.rejected, family.stale, family.advertised
            ),
        );
    }
    let messages = &row.messages;
    line(
        "messages",
        &format!(
            "received {} ({} updates), sent {} ({} updates)",
            messages.received, messages.updates_received, messages.sent, messages.updates_sent
        ),
    );
    line(
        "faulty updates",
        &format!(
            "{}{}",
            row.faults,
            row.last_fault.as_ref().map_or_else(String::new, |fault| format!(", last: {fault}"))
        ),
    );
    for (name, value) in &view.settings {
        line(name, value);
    }
    for happened in &view.history {
        line("", &event(happened));
    }
    text
}

/// Something that happened, on a line, with its time in UTC.
pub fn event(event: &Event) -> String {
    match event {
        Event::SessionUp { at, peer } => format!("{} session up: {peer}", time_text(*at)),
        Event::SessionDown { at, peer, was, reason, code } => {
            let code = code.map_or_else(String::new, |(code, sub)| format!(" ({code}/{sub})"));
            format!("{} session down: {peer}, was {was}: {reason}{code}", time_text(*at))
        }
        Event::RouteChanged { at, prefix, paths } => {
            let hops: Vec<String> =
                paths.iter().map(|(hop, peer)| format!("via {hop} ({peer})")).collect();
            format!("{} route: {prefix} {}", time_text(*at), hops.join(" "))
        }
        Event::RouteWithdrawn { at, prefix } => {
            format!("{} route gone: {prefix}", time_text(*at))
        }
        Event::Missed { events } => format!("{events} events were missed: this reader is too slow"),
    }
}

/// Seconds since 1970 as RFC 3339 has them; the number itself where there is no such date.
fn time_text(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_time_and_reason() {
        let down = Event::SessionDown {
            at: 1_700_000_000,
            peer: "tor".to_owned(),
            was: "Established".to_owned(),
            reason: "the hold time is over".to_owned(),
            code: Some((4, 0)),
        };
        assert_eq!(
            event(&down),
            "2023-11-14T22:13:20Z session down: tor, was Established: the hold time is over (4/0)"
        );
    }
}
