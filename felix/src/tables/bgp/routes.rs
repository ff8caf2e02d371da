//! Paths and prefixes in rows and words.

use std::fmt::Display;

use ocicat_bgp::rib::filter::AnyCommunity;
use ocicat_bgp::speaker::{AttributeSnapshot, Ineligible, PathSnapshot, PeerName, Step, Verdict};
use ocicat_bgp::wire::Prefix;

use crate::api::RouteRow;
use crate::api::bgp::RouteView;
use crate::tables::{community_text, verdict_text};

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
        validity: path.validity.map(|validity| validity.to_string()),
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
        validity: None,
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
            "not chosen: it was heard within our AS, the best over eBGP".to_owned()
        }
        Step::ConfederationLength => {
            "not chosen: it came through more members of the confederation".to_owned()
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
        (Ineligible::OriginInvalid, _) => format!(
            "rejected: RPKI invalid, its origin at the end of \"{}\" must not originate the prefix (RFC 6811)",
            path.attributes.as_path
        ),
        (Ineligible::AttributeTooLong, _) => {
            "rejected: with what import adds an attribute has more than 65535 octets".to_owned()
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
            "  from {from}: next hop {hop}, AS path \"{}\", local preference {}, origin {}, MED {}{}{}\n    {}\n",
            row.as_path,
            row.local_pref,
            path.origin,
            row.med.map_or_else(|| "none".to_owned(), |med| med.to_string()),
            if row.communities.is_empty() { String::new() } else { format!(", communities {}", row.communities.join(" ")) },
            row.validity.as_ref().map(|validity| format!(", RPKI {validity}")).unwrap_or_default(),
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
