//! The speaker in rows and words.

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use ocicat_bgp::rib::filter::{AnyCommunity, Filter, Otherwise};
use ocicat_bgp::speaker::{
    AddPath, AsOverride, Asked, AttributeSnapshot, DefaultRoute, Dial, EndedBy, Ineligible,
    LimitAction, LocalAs, LocalAsMode, MaxPaths, MessageCounts, NextHopMode, Password,
    PathSnapshot, PeerConfig, PeerName, PeerRestart, PeerSnapshot, Receive, Reflection,
    RemovePrivate, Signing, State, Step, TcpAo, Ttl, Verdict,
};
use ocicat_bgp::wire::iana::error;
use ocicat_bgp::wire::{Cease, FamilySet, Prefix};

use super::{community_text, duration_text, family_name, kind_name, verdict_text};
use crate::api::bgp::{Event, PeerView, RefreshView, RouteView};
use crate::api::{FamilyRow, Messages, PeerRow, RouteRow};
use crate::plan::peering::About;

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
        keepalive_seconds: negotiated.and_then(|n| n.keepalive).map(|time| time.as_secs()),
        timers: timers.collect(),
        last_error_code: last.and_then(|reason| reason.code),
        last_error_by: last.map(|reason| by(reason.by).to_owned()),
        connect_error: peer.connect_error.clone(),
        history: Vec::new(),
    }
}

/// The configuration of a peer that is in force, as names and values. Of a password there is no more than whether there
/// is one.
pub fn settings(config: &PeerConfig, about: &About) -> Vec<(String, String)> {
    let PeerConfig { port, remote_as, local_as, dial, hold_time, keepalive, .. } = config;
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let or = |value: Option<String>, otherwise: &str| value.unwrap_or_else(|| otherwise.to_owned());
    let rows = [
        ("connect to", format!("{} port {port}, {}", where_text(config), dial_text(*dial))),
        ("from", or(config.source.map(|ip| ip.to_string()), "any address")),
        ("peer's AS", remote_as.to_string()),
        ("our AS", or(local_as.map(local_as_text), "the node's")),
        ("ttl", ttl_text(config.ttl)),
        ("password", password_text(&config.password, config.signing)),
        ("families", families_text(config.families)),
        ("hold time", format!("{}s", hold_time.secs())),
        ("keepalive", or(keepalive.map(seconds), "a third of the hold time")),
        ("send hold time", or(config.send_hold.map(seconds), "twice the hold time, at least 480s")),
        ("connect retry", seconds(config.connect_retry)),
        ("graceful restart", restart_text(config.graceful_restart)),
        ("next hop", next_hop_text(config.next_hop).to_owned()),
        ("reflection", reflection_text(config.reflection).to_owned()),
        ("AS override", as_override_text(config.as_override).to_owned()),
        ("private AS numbers", private_text(config.remove_private).to_owned()),
        ("own AS allowed", format!("{} times", config.allow_own_as)),
        ("most prefixes", or(config.max_paths.map(max_paths_text), "no limit")),
        ("most told", or(config.max_advertised.map(|most| most.to_string()), "no limit")),
        ("role", or(config.role.map(|role| format!("we are its {}", role.role)), "none")),
        ("default route", default_route_text(config.default_route).to_owned()),
        ("several paths", add_path_text(config.add_path)),
        ("stale paths kept", or(config.long_lived.map(seconds), "for the restart time")),
        ("import", filter_text(&config.import, &about.rules.import)),
        ("export", filter_text(&config.export, &about.rules.export)),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where the peer is; of one that was not found yet, the link.
fn found_text(peer: &PeerSnapshot) -> String {
    match &peer.interface {
        Some(interface) if peer.address.is_unspecified() => format!("%{interface}"),
        Some(interface) => format!("{}%{interface}", peer.address),
        None => peer.address.to_string(),
    }
}

fn where_text(config: &PeerConfig) -> String {
    match &config.interface {
        Some(interface) if config.is_unnumbered() => format!("the router on {interface}"),
        Some(interface) => format!("{}%{interface}", config.address),
        None => config.address.to_string(),
    }
}

const fn default_route_text(what: DefaultRoute) -> &'static str {
    match what {
        DefaultRoute::Ordinary => "told as any other",
        DefaultRoute::Originated => "always told, by us",
    }
}

fn local_as_text(local_as: LocalAs) -> String {
    let how = match local_as.mode {
        LocalAsMode::Replace => "instead of the node's",
        LocalAsMode::NoPrepend => "before the node's",
        LocalAsMode::Prepend => "between the peer and the node's",
    };
    format!("{}, {how}", local_as.number)
}

fn as_override_text(as_override: AsOverride) -> &'static str {
    match as_override {
        AsOverride::Keep => "the peer's stays on its paths",
        AsOverride::Replace => "ours for the peer's",
    }
}

fn private_text(remove: RemovePrivate) -> &'static str {
    match remove {
        RemovePrivate::Keep => "stay",
        RemovePrivate::WhenAll => "go if there are no others",
        RemovePrivate::Remove => "go",
        RemovePrivate::Replace => "become ours",
    }
}

fn max_paths_text(max: MaxPaths) -> String {
    let then = match max.then {
        LimitAction::Warn => "a fault".to_owned(),
        LimitAction::Restart(wait) => format!("the session pauses for {}s", wait.as_secs()),
        LimitAction::StayDown => "the session stays down".to_owned(),
    };
    format!("{}; more: {then}", max.limit)
}

fn add_path_text(add_path: AddPath) -> String {
    let receive = match add_path.receive {
        Receive::One => "one is taken",
        Receive::Several => "several are taken",
    };
    let send = add_path.send.map_or("the best is told".to_owned(), |n| format!("{n} are told"));
    format!("{receive}, {send}")
}

fn dial_text(dial: Dial) -> &'static str {
    match dial {
        Dial::Both => "either side may dial",
        Dial::Passive => "the peer dials",
        Dial::Active => "we dial",
    }
}

fn ttl_text(ttl: Ttl) -> String {
    match ttl {
        Ttl::Direct => "on the link".to_owned(),
        Ttl::Multihop(hops) => format!("up to {hops} hops"),
        Ttl::Security(hops) => format!("at most {hops} hops, less is refused (RFC 5082)"),
    }
}

fn password_text(password: &Password, signing: Signing) -> String {
    match (password, signing) {
        (_, Signing::Unreadable) => "cannot be read: the session stays down".to_owned(),
        (Password::Missing, _) | (Password::None, Signing::TcpAo(_)) => {
            "missing: the session stays down".to_owned()
        }
        (Password::None, Signing::Md5) => "none".to_owned(),
        (Password::Key(_), Signing::Md5) => "TCP MD5".to_owned(),
        (Password::Key(_), Signing::TcpAo(TcpAo { send_id, receive_id, algorithm })) => {
            format!("TCP-AO {algorithm}, we send key {send_id} and receive key {receive_id}")
        }
    }
}

fn families_text(families: FamilySet) -> String {
    families.iter().map(family_name).collect::<Vec<_>>().join(" ")
}

fn restart_text(restart: PeerRestart) -> String {
    match restart {
        PeerRestart::Disabled => "off".to_owned(),
        PeerRestart::Enabled { time, stale } => {
            format!("restart {}s, stale routes {}s", time.as_secs(), stale.as_secs())
        }
    }
}

fn next_hop_text(mode: NextHopMode) -> &'static str {
    match mode {
        NextHopMode::Auto => "ourselves on eBGP, as heard on iBGP",
        NextHopMode::Own => "ourselves",
        NextHopMode::Keep => "as heard",
    }
}

fn reflection_text(reflection: Reflection) -> &'static str {
    match reflection {
        Reflection::NonClient => "not a client",
        Reflection::Client => "our client",
    }
}

fn filter_text(filter: &Filter, origins: &[String]) -> String {
    let otherwise = match filter.otherwise {
        Otherwise::Accept => "everything passes",
        Otherwise::AcceptOwn => "our own routes pass",
        Otherwise::Reject => "nothing passes",
    };
    let mut objects: Vec<&str> = origins
        .iter()
        .filter_map(|origin| origin.rsplit_once(' ').map(|(object, _)| object))
        .collect();
    objects.dedup();
    match filter.rules.len() {
        0 => otherwise.to_owned(),
        rules => format!("{rules} rules ({}), else {otherwise}", objects.join(", ")),
    }
}

/// A path as a row.
pub fn route_row(prefix: Prefix, path: &PathSnapshot, rule: Option<&str>) -> RouteRow {
    let verdict = match (path.verdict, rule) {
        (Verdict::Ineligible(Ineligible::Filtered), Some(rule)) => format!("rejected: {rule}"),
        (verdict, _) => verdict_text(verdict),
    };
    RouteRow {
        next_hop: path.next_hop.as_ref().map(|hop| hop.address.to_string()),
        peer: path.peer.as_ref().map(ToString::to_string),
        path_id: (path.path_id != 0).then_some(path.path_id),
        verdict,
        stale: path.stale,
        ..attributes_row(prefix, &path.attributes)
    }
}

/// A path that a peer is told.
pub fn told_row(prefix: Prefix, peer: &PeerName, attributes: &AttributeSnapshot) -> RouteRow {
    let verdict = "advertised".to_owned();
    RouteRow { peer: Some(peer.to_string()), verdict, ..attributes_row(prefix, attributes) }
}

fn attributes_row(prefix: Prefix, attributes: &AttributeSnapshot) -> RouteRow {
    RouteRow {
        prefix: prefix.to_string(),
        next_hop: None,
        peer: None,
        path_id: None,
        verdict: String::new(),
        as_path: attributes.as_path.clone(),
        local_pref: attributes.local_pref,
        med: attributes.med,
        communities: communities(attributes),
        stale: false,
    }
}

fn communities(attributes: &AttributeSnapshot) -> Vec<String> {
    let standard = attributes.communities.iter().map(|c| AnyCommunity::Standard(*c));
    let large = attributes.large_communities.iter().map(|c| AnyCommunity::Large(*c));
    standard.chain(large).map(community_text).collect()
}

/// What became of a path, in words.
pub fn why(path: &PathSnapshot, best: Option<&PathSnapshot>, rule: Option<&str>) -> String {
    match (path.verdict, best) {
        (Verdict::Best, _) if path.peer.is_none() => "the best: we originate it".to_owned(),
        (Verdict::Best, _) => "the best".to_owned(),
        (Verdict::Multipath, _) => {
            "as good as the best but for the last tie-breakers: used beside it".to_owned()
        }
        (Verdict::Lost(step), Some(best)) => lost(step, path, best),
        // While the choice waits for a restart, nothing is the best.
        (Verdict::Lost(step), None) => format!("not chosen: {step}"),
        (Verdict::Ineligible(why), _) => rejected(why, path, rule),
    }
}

/// RFC 4271 §9.1.2.2, with the two values that were compared.
fn lost(step: Step, path: &PathSnapshot, best: &PathSnapshot) -> String {
    let (mine, theirs) = (&path.attributes, &best.attributes);
    let than = |what: &str, mine: &dyn Display, theirs: &dyn Display| {
        format!("not chosen: {what} ({mine}, the best has {theirs})")
    };
    match step {
        Step::LocallyOriginated => "not chosen: we originate the prefix ourselves".to_owned(),
        Step::LongLivedStale => {
            "not chosen: its peer has been away for longer than its restart time".to_owned()
        }
        Step::LocalPref => {
            than("its local preference is lower", &mine.local_pref, &theirs.local_pref)
        }
        Step::AsPathLength => {
            let quoted = |path: &str| format!("\"{path}\"");
            than("its AS path is longer", &quoted(&mine.as_path), &quoted(&theirs.as_path))
        }
        Step::Origin => than("its origin is worse", &mine.origin, &theirs.origin),
        Step::Med => format!(
            "not chosen: its MED {} is higher than that of another path of the same neighbouring AS",
            mine.med.unwrap_or(0)
        ),
        Step::ExternalOverInternal => {
            "not chosen: it was heard over iBGP, the best over eBGP".to_owned()
        }
        Step::RouterId => than("its router id is higher", &path.router_id, &best.router_id),
        Step::ClusterListLength => "not chosen: it was reflected more often".to_owned(),
        Step::PeerAddress => {
            than("its peer's address is higher", &path.peer_address, &best.peer_address)
        }
        Step::PathIdentifier => "not chosen: its path identifier is higher".to_owned(),
    }
}

fn rejected(why: Ineligible, path: &PathSnapshot, rule: Option<&str>) -> String {
    match (why, rule) {
        (Ineligible::Filtered, Some(rule)) => format!("rejected by {rule}"),
        (Ineligible::Filtered, None) => {
            "rejected: no rule of the import filter accepts it".to_owned()
        }
        (Ineligible::AsLoop, _) => format!(
            "rejected: our own AS stands in its path \"{}\" (RFC 4271 §9.1.2)",
            path.attributes.as_path
        ),
        (Ineligible::ReflectionLoop, _) => {
            "rejected: it was reflected back to us (RFC 4456 §8)".to_owned()
        }
        (Ineligible::OwnNextHop, _) => "rejected: its next hop is this node".to_owned(),
        (Ineligible::RouteLeak, _) => {
            "rejected: it leaked, as it was meant for customers only (RFC 9234 §5)".to_owned()
        }
        (Ineligible::UnreachableNextHop, _) => format!(
            "not chosen: the kernel has no way to its next hop{}",
            path.next_hop.as_ref().map(|hop| format!(" {}", hop.address)).unwrap_or_default()
        ),
    }
}

/// What import changed, in words.
pub fn changes(path: &PathSnapshot) -> Vec<String> {
    let Some(before) = &path.received else { return Vec::new() };
    let after = &path.attributes;
    let med = |attributes: &AttributeSnapshot| {
        attributes.med.map_or_else(|| "none".to_owned(), |med| med.to_string())
    };
    [
        ("AS path", before.as_path.clone(), after.as_path.clone()),
        ("local preference", before.local_pref.to_string(), after.local_pref.to_string()),
        ("MED", med(before), med(after)),
        ("communities", communities(before).join(" "), communities(after).join(" ")),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| format!("{what}: {before:?} became {after:?}"))
    .collect()
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

/// Why a prefix goes where it goes.
pub fn route(view: &RouteView) -> String {
    let mut text = format!(
        "{}\n  wanted in the kernel: {}\n",
        view.prefix,
        view.kernel.as_deref().unwrap_or("no route of ours")
    );
    for path in &view.paths {
        let row = &path.row;
        let from = row.peer.as_deref().unwrap_or("ourselves");
        let from = row.path_id.map_or_else(|| from.to_owned(), |id| format!("{from} (path {id})"));
        let hop = row.next_hop.as_deref().unwrap_or("self");
        text.push_str(&format!(
            "  from {from}: next hop {hop}, AS path \"{}\", local preference {}, origin {}, MED {}{}\n    {}\n",
            row.as_path,
            row.local_pref,
            path.origin,
            row.med.map_or_else(|| "none".to_owned(), |med| med.to_string()),
            if row.communities.is_empty() { String::new() } else { format!(", communities {}", row.communities.join(" ")) },
            path.why,
        ));
        if let Some(rule) = path.rule.as_ref().filter(|rule| !path.why.contains(*rule)) {
            text.push_str(&format!("    accepted by {rule}\n"));
        }
        for changed in &path.changed {
            text.push_str(&format!("    import changed {changed}\n"));
        }
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
