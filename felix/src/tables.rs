//! How things are called and laid out for people.

pub mod bgp;
pub mod bmp;
pub mod rpki;

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use ocicat_bgp::rib::filter::AnyCommunity;
use ocicat_bgp::speaker::Verdict;
use ocicat_bgp::wire::Family;
use ocicat_bgp::wire::PeerKind;

use crate::api::{BfdRow, PeerRow, PolicyView, RouteRow};
use crate::dataplane::{RouteKind, Routes};
use crate::explain::Explanation;

/// `ipv4` or `ipv6`.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

/// `external`, `confederation` or `internal`.
pub fn kind_name(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::External => "external",
        PeerKind::Confederation => "confederation",
        PeerKind::Internal => "internal",
    }
}

/// What became of a path.
pub fn verdict_text(verdict: Verdict) -> String {
    match verdict {
        Verdict::Best => "best".to_owned(),
        Verdict::Multipath => "multipath".to_owned(),
        Verdict::Lost(step) => format!("lost: {step}"),
        Verdict::Ineligible(why) => format!("rejected: {why}"),
    }
}

/// `aa:nn` or `aa:nn:mm`.
pub fn community_text(community: AnyCommunity) -> String {
    match community {
        AnyCommunity::Standard(community) => community.to_string(),
        AnyCommunity::Large(community) => community.to_string(),
    }
}

/// How many routes there are of each kind.
pub fn routes_by_kind(routes: &Routes) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([("pod", 0), ("blackhole", 0), ("learned", 0)]);
    for route in routes.values() {
        let kind = match &route.kind {
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unicast(hops) if hops.iter().all(|hop| hop.gateway.is_none()) => "pod",
            RouteKind::Unicast(_) => "learned",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// `3d04h`, `2h05m`, `1m09s`, `42s`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Peers, one a line.
pub fn peers(rows: &[PeerRow]) -> String {
    let mut table = table([
        "PEER",
        "ADDRESS",
        "AS",
        "STATE",
        "FOR",
        "RECEIVED",
        "ACCEPTED",
        "TOLD",
        "FLAPS",
        "LAST ERROR",
    ]);
    let sum = |row: &PeerRow, of: fn(&crate::api::FamilyRow) -> u64| -> String {
        row.families.iter().map(|f| of(f).to_string()).collect::<Vec<_>>().join("+")
    };
    for row in rows {
        table.add_row([
            row.name.clone(),
            row.address.clone(),
            row.remote_as.map_or("any".to_owned(), |number| number.to_string()),
            row.state.clone(),
            duration_text(Duration::from_secs(row.since_seconds)),
            sum(row, |f| f.received),
            sum(row, |f| f.accepted),
            sum(row, |f| f.advertised),
            row.flaps.to_string(),
            row.last_error.clone().unwrap_or_default(),
        ]);
    }
    finish(&table)
}

/// Paths, one a line; the best of a prefix first.
pub fn routes(rows: &[RouteRow]) -> String {
    // Without caches the column would say nothing.
    let judged = rows.iter().any(|row| row.validity.is_some());
    let mut table = if judged {
        table(["PREFIX", "NEXT HOP", "FROM", "AS PATH", "PREF", "COMMUNITIES", "RPKI", "VERDICT"])
    } else {
        table(["PREFIX", "NEXT HOP", "FROM", "AS PATH", "PREF", "COMMUNITIES", "VERDICT"])
    };
    for row in rows {
        let stale = if row.stale { " (stale)" } else { "" };
        let validity = row.validity.clone().unwrap_or_else(|| "-".to_owned());
        let cells = [
            row.prefix.clone(),
            row.next_hop.clone().unwrap_or_else(|| "self".to_owned()),
            row.peer.clone().unwrap_or_else(|| "-".to_owned()),
            row.as_path.clone(),
            row.local_pref.to_string(),
            row.communities.join(" "),
        ];
        let more = [judged.then_some(validity), Some(format!("{}{stale}", row.verdict))];
        table.add_row(cells.into_iter().chain(more.into_iter().flatten()));
    }
    finish(&table)
}

/// BFD with the peers.
pub fn bfd(rows: &[BfdRow]) -> String {
    let mut table = table([
        "PEER",
        "ADDRESS",
        "STATE",
        "FOR",
        "SEND",
        "DETECT",
        "LONGEST GAP",
        "FLAPS",
        "LAST DOWN",
    ]);
    let time = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), milliseconds_text);
    for row in rows {
        let down = row.error.as_ref().or(row.last_down.as_ref());
        table.add_row([
            row.peer.clone(),
            row.address.clone(),
            row.state.clone(),
            duration_text(Duration::from_secs(row.since_seconds)),
            time(row.transmit_microseconds),
            time(row.detect_microseconds),
            milliseconds_text(row.longest_gap_microseconds),
            row.flaps.to_string(),
            down.cloned().unwrap_or_default(),
        ]);
    }
    finish(&table)
}

/// `50ms`, `87.4ms`.
fn milliseconds_text(micros: u64) -> String {
    match (micros / 1000, micros % 1000 / 100) {
        (whole, 0) => format!("{whole}ms"),
        (whole, tenths) => format!("{whole}.{tenths}ms"),
    }
}

/// A pod's policy.
pub fn policy(view: &PolicyView) -> String {
    let list = |policies: &Option<Vec<String>>, verb: &str| match policies {
        None => format!("not policed: it may {verb} anything"),
        Some(policies) => format!("policed by {}", policies.join(", ")),
    };
    let place = match (&view.interface, view.enforced) {
        (Some(interface), Some(true)) => format!("{interface}, in the kernel"),
        (Some(interface), _) => format!("{interface}, not in the kernel yet: closed"),
        (None, _) => "on another node".to_owned(),
    };
    let mut text = format!(
        "pod        {}\naddresses  {}\ninterface  {place}\ningress    {}\negress     {}\n",
        view.pod,
        view.addresses.join(" "),
        list(&view.ingress, "receive"),
        list(&view.egress, "send"),
    );
    if !view.rules.is_empty() {
        let mut table = table(["DIRECTION", "PORTS", "PEERS"]);
        for rule in &view.rules {
            table.add_row([rule.direction.clone(), rule.ports.clone(), rule.peers.join(" ")]);
        }
        text.push('\n');
        text.push_str(&finish(&table));
    }
    text
}

/// Who decides about a flow.
pub fn explanations(answers: &[Explanation]) -> String {
    let mut text = String::new();
    for answer in answers {
        let verdict = |allowed| if allowed { "allowed" } else { "denied" };
        let Explanation { source, destination, traffic, allowed, egress, ingress } = answer;
        text.push_str(&format!(
            "{source} -> {destination} {traffic}: {}\n  egress   {:<8} {}\n  ingress  {:<8} {}\n",
            verdict(*allowed),
            verdict(egress.allowed),
            egress.reason,
            verdict(ingress.allowed),
            ingress.reason,
        ));
    }
    text
}

fn finish(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let text = |seconds| duration_text(Duration::from_secs(seconds));
        assert_eq!(
            [text(42), text(69), text(7500), text(273_600)],
            ["42s", "1m09s", "2h05m", "3d04h"]
        );
    }

    #[test]
    fn a_table_is_columns_and_no_lines() {
        let row = RouteRow {
            prefix: "10.65.2.0/24".to_owned(),
            next_hop: Some("172.16.1.1".to_owned()),
            peer: Some("tor".to_owned()),
            path_id: None,
            verdict: "best".to_owned(),
            as_path: "64500 64512".to_owned(),
            local_pref: 100,
            med: None,
            communities: vec!["64500:1".to_owned()],
            stale: false,
            validity: None,
        };
        let judged = RouteRow { validity: Some("valid".to_owned()), ..row.clone() };
        assert_eq!(
            routes(&[judged, row.clone()]),
            "\
PREFIX        NEXT HOP    FROM  AS PATH      PREF  COMMUNITIES  RPKI   VERDICT
10.65.2.0/24  172.16.1.1  tor   64500 64512  100   64500:1      valid  best
10.65.2.0/24  172.16.1.1  tor   64500 64512  100   64500:1      -      best
"
        );
        assert_eq!(
            routes(&[row]),
            "\
PREFIX        NEXT HOP    FROM  AS PATH      PREF  COMMUNITIES  VERDICT
10.65.2.0/24  172.16.1.1  tor   64500 64512  100   64500:1      best
"
        );
    }
}
