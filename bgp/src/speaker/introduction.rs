//! What speakers say in their OPENs of who they are: names for people, on which nothing depends.

use std::sync::Arc;

use crate::wire::{Capability, Open};

/// Who a speaker is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Its host name, with or without a domain (draft-walton-bgp-hostname-capability).
    pub hostname: Option<Arc<str>>,
    /// Name and version of its software (draft-abraitis-bgp-version-capability).
    pub software: Option<Arc<str>>,
}

/// What a peer is told of who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduce {
    /// Our host name, which routers show beside the session.
    pub hostname: Disclosure,
    /// Our software, of use to whoever looks for old versions, friend or foe.
    pub software: Disclosure,
}

impl Default for Introduce {
    fn default() -> Self {
        Self { hostname: Disclosure::Told, software: Disclosure::Withheld }
    }
}

/// Whether a peer is told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosure {
    /// It is.
    Told,
    /// It is not.
    Withheld,
}

/// Adds to our OPEN what the peer may know of us, as far as there is room: parameters of more than 255
/// octets need a form that not every speaker reads (RFC 9072).
pub(crate) fn introduce(open: &mut Open, who: &Introduction, how: Introduce) {
    let told = |text: &Option<Arc<str>>, disclosure| match disclosure {
        Disclosure::Told => text.clone(),
        Disclosure::Withheld => None,
    };
    let fqdn = told(&who.hostname, how.hostname).map(|name| {
        let (host, domain) = name.split_once('.').unwrap_or((&name, ""));
        Capability::Fqdn { host: host.to_owned(), domain: domain.to_owned() }
    });
    let software = told(&who.software, how.software);
    let software = software.map(|software| Capability::SoftwareVersion(software.to_string()));
    for capability in fqdn.into_iter().chain(software) {
        open.capabilities.push(capability);
        if !open.is_short() {
            open.capabilities.pop();
        }
    }
}

/// What the peer says of itself, in characters that do no harm on a terminal.
pub(crate) fn introduced(open: &Open) -> Introduction {
    let mut who = Introduction::default();
    for capability in &open.capabilities {
        if let Capability::Fqdn { host, domain } = capability {
            let name = [host.as_str(), domain].join(".");
            who.hostname = printable(name.trim_matches('.'));
        } else if let Capability::SoftwareVersion(version) = capability {
            who.software = printable(version.trim());
        }
    }
    who
}

fn printable(text: &str) -> Option<Arc<str>> {
    let harmless = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    (!text.is_empty()).then(|| text.chars().map(harmless).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::HoldTime;

    fn open(capabilities: Vec<Capability>) -> Open {
        let hold_time = HoldTime::from_secs(90).unwrap();
        Open { asn: 65001, hold_time, router_id: Ipv4Addr::LOCALHOST, capabilities }
    }

    fn who(hostname: &str, software: &str) -> Introduction {
        Introduction { hostname: Some(hostname.into()), software: Some(software.into()) }
    }

    const ALL: Introduce = Introduce { hostname: Disclosure::Told, software: Disclosure::Told };

    #[test]
    fn who_we_are_is_told_as_far_as_the_peer_may_know() {
        let node = who("node-1.rack.example.com", "ocicat/1");
        for (how, expected) in [
            (ALL, node.clone()),
            (Introduce::default(), Introduction { software: None, ..node.clone() }),
            (
                Introduce { hostname: Disclosure::Withheld, ..ALL },
                Introduction { hostname: None, ..node.clone() },
            ),
        ] {
            let mut open = open(vec![Capability::RouteRefresh]);
            introduce(&mut open, &node, how);
            assert_eq!(introduced(&open), expected);
            assert_eq!(open.capabilities[0], Capability::RouteRefresh);
        }
        let mut plain = open(Vec::new());
        introduce(&mut plain, &who("node-1", "x"), Introduce::default());
        let (host, domain) = ("node-1".to_owned(), String::new());
        assert_eq!(plain.capabilities, [Capability::Fqdn { host, domain }]);
        assert_eq!(introduced(&plain).hostname.as_deref(), Some("node-1"));
    }

    #[test]
    fn a_name_that_would_need_the_long_form_is_left_out() {
        let mut open = open(vec![Capability::RouteRefresh]);
        introduce(&mut open, &who(&"n".repeat(253), "ocicat/1"), ALL);
        let software = Capability::SoftwareVersion("ocicat/1".to_owned());
        assert_eq!(open.capabilities, [Capability::RouteRefresh, software]);
    }

    #[test]
    fn what_a_peer_calls_itself_cannot_command_a_terminal() {
        let host = "leaf\u{1b}[2J\u{202e}".to_owned();
        let version = "\u{7}FRRouting/8.4".to_owned();
        let open = open(vec![
            Capability::Fqdn { host, domain: String::new() },
            Capability::SoftwareVersion(version),
        ]);
        assert_eq!(introduced(&open), who("leaf?[2J?", "?FRRouting/8.4"));
    }
}
