//! The configuration of a peer in words.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ocicat_bgp::rib::filter::{Condition, Filter, Otherwise};
use ocicat_bgp::speaker::{
    AddPath, AsOverride, DefaultRoute, Dial, Disclosure, Introduce, LimitAction, LocalAs,
    LocalAsMode, MaxPaths, NextHopMode, OriginValidation, Password, PeerConfig, PeerRestart,
    PeerSnapshot, Receive, Reflection, RemovePrivate, Signing, TcpAo, Ttl,
};
use ocicat_bgp::wire::{FamilySet, Prefix};

use crate::plan::peering::About;
use crate::tables::family_name;

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
        ("our AS", or(local_as.map(local_as_text), "the node's, or its confederation's")),
        ("ttl", ttl_text(config.ttl)),
        ("password", password_text(&config.password, config.signing)),
        (
            "largest segment",
            or(config.tcp_mss.map(|mss| format!("{mss} octets")), "as the link takes"),
        ),
        ("told of us", introduce_text(config.introduce).to_owned()),
        ("families", families_text(config.families)),
        ("hold time", format!("{}s", hold_time.secs())),
        ("keepalive", or(keepalive.map(seconds), "a third of the hold time")),
        ("send hold time", or(config.send_hold.map(seconds), "twice the hold time, at least 480s")),
        ("connect retry", seconds(config.connect_retry)),
        ("delay open", or(config.delay_open.map(seconds), "none: we speak at once")),
        ("graceful restart", restart_text(config.graceful_restart)),
        ("next hop", next_hop_text(config.next_hop).to_owned()),
        ("reflection", reflection_text(config.reflection).to_owned()),
        ("AS override", as_override_text(config.as_override).to_owned()),
        ("private AS numbers", private_text(config.remove_private).to_owned()),
        ("origin validation", origin_text(config.origin_validation).to_owned()),
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

/// A condition of an export filter, and the objects whose rules have it.
pub type Conditional = (Arc<Condition>, BTreeSet<String>);

/// The conditions of a peer's export filter.
pub fn conditionals(config: &PeerConfig, about: &About) -> Vec<Conditional> {
    let mut all: Vec<Conditional> = Vec::new();
    for (rule, origin) in config.export.rules.iter().zip(&about.rules.export) {
        let Some(condition) = &rule.condition else { continue };
        let at = all.iter().position(|(known, _)| known == condition).unwrap_or_else(|| {
            all.push((Arc::clone(condition), BTreeSet::new()));
            all.len() - 1
        });
        all[at].1.extend(object_of(origin).map(str::to_owned));
    }
    all
}

/// The same in words, and which of them hold.
pub fn condition_rows(all: &[Conditional], peer: &PeerSnapshot) -> Vec<(String, String)> {
    let row = |(condition, objects): &Conditional| {
        let held = peer.conditions.iter().find(|(known, _)| known == condition);
        let state = match held {
            Some((_, true)) => ": holds",
            Some((_, false)) => ": does not hold, its export rules are passed over",
            None => "",
        };
        let objects = objects.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let value = format!("{objects} {}{state}", condition_text(condition));
        ("export condition".to_owned(), value)
    };
    all.iter().map(row).collect()
}

fn condition_text(condition: &Condition) -> String {
    let list = |word: &str, prefixes: &BTreeSet<Prefix>| {
        let prefixes: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
        (!prefixes.is_empty()).then(|| format!("{word} {}", prefixes.join(" or ")))
    };
    let Condition { any_of, none_of } = condition;
    let parts = [list("while", any_of), list("unless", none_of)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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
        DefaultRoute::Leaving => "always told, by us, as one that is about to go",
    }
}

const fn introduce_text(Introduce { hostname, software }: Introduce) -> &'static str {
    match (hostname, software) {
        (Disclosure::Told, Disclosure::Told) => "the node's name, ocicat's version",
        (Disclosure::Told, Disclosure::Withheld) => "the node's name",
        (Disclosure::Withheld, Disclosure::Told) => "ocicat's version",
        (Disclosure::Withheld, Disclosure::Withheld) => "nothing that it need not know",
    }
}

const fn origin_text(policy: Option<OriginValidation>) -> &'static str {
    match policy {
        None => "with RPKI caches invalid paths are rejected on eBGP, not judged on iBGP",
        Some(OriginValidation::RejectInvalid) => "with RPKI caches invalid paths are rejected",
        Some(OriginValidation::Mark) => "with RPKI caches invalid paths get local preference 0",
        Some(OriginValidation::Off) => "off",
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
    let mut objects: Vec<&str> = origins.iter().filter_map(|origin| object_of(origin)).collect();
    objects.dedup();
    match filter.rules.len() {
        0 => otherwise.to_owned(),
        rules => format!("{rules} rules ({}), else {otherwise}", objects.join(", ")),
    }
}

/// The object that a rule is from.
fn object_of(origin: &str) -> Option<&str> {
    origin.rsplit_once(' ').map(|(object, _)| object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_named_with_both_halves() {
        let set = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let text = |any_of: &[&str], none_of: &[&str]| {
            condition_text(&Condition { any_of: set(any_of), none_of: set(none_of) })
        };
        assert_eq!(text(&["0.0.0.0/0"], &[]), "while 0.0.0.0/0");
        assert_eq!(
            text(&["::/0", "0.0.0.0/0"], &["192.0.2.0/24"]),
            "while 0.0.0.0/0 or ::/0, unless 192.0.2.0/24"
        );
    }
}
