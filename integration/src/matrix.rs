//! Who reaches whom: every pod and the client to every pod, on every port, in both families, expected
//! against probed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use comfy_table::{Cell, ContentArrangement, Table, presets};

use crate::lab::{End, Lab, PodFlow};
use crate::probe::{Flow, LONG, Outcome, Protocol, SHORT};

/// A port and its protocol, written `80/TCP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// What should get through: what a line allows and no line denies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    allowed: Vec<Line>,
    denied: Vec<Line>,
}

/// `shop/web -> shop/api 8080/TCP`; `*` stands for anything.
#[derive(Debug, Clone)]
struct Line {
    from: Pattern,
    to: Pattern,
    port: Option<u16>,
    protocol: Option<Protocol>,
}

/// `namespace/name`, `namespace/*`, `client` or `*`.
#[derive(Debug, Clone)]
struct Pattern(String);

/// One probed flow of a matrix.
#[derive(Debug, Clone, Copy)]
struct Entry {
    from: usize,
    to: usize,
    service: Service,
    target: IpAddr,
    expected: bool,
    outcome: Outcome,
}

/// A probed matrix.
#[derive(Debug)]
pub(crate) struct Matrix {
    sources: Vec<String>,
    targets: Vec<String>,
    entries: Vec<Entry>,
}

impl Expected {
    /// Everything gets through.
    pub(crate) fn everything() -> Self {
        let line = "* -> * *".parse().expect("the line is well-formed");
        Self { allowed: vec![line], denied: Vec::new() }
    }

    pub(crate) fn parse(allowed: &[String], denied: &[String]) -> Result<Self> {
        let lines = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<_>>();
        Ok(Self { allowed: lines(allowed)?, denied: lines(denied)? })
    }

    pub(crate) fn allows(&self, from: &str, to: &str, service: Service) -> bool {
        let says = |lines: &[Line]| lines.iter().any(|line| line.covers(from, to, service));
        says(&self.allowed) && !says(&self.denied)
    }
}

impl Line {
    fn covers(&self, from: &str, to: &str, service: Service) -> bool {
        self.from.matches(from)
            && self.to.matches(to)
            && self.port.is_none_or(|port| port == service.port)
            && self.protocol.is_none_or(|protocol| protocol == service.protocol)
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.0,
        }
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts =
            text.split_once(" -> ").and_then(|(from, rest)| Some((from, rest.split_once(' ')?)));
        let (from, (to, service)) =
            parts.with_context(|| format!("{text:?} is no \"FROM -> TO PORT\""))?;
        let (port, protocol) = service.split_once('/').unwrap_or((service, "*"));
        let any = |word: &str| word == "*";
        Ok(Self {
            from: Pattern(from.to_owned()),
            to: Pattern(to.to_owned()),
            port: (!any(port))
                .then(|| port.parse())
                .transpose()
                .with_context(|| text.to_owned())?,
            protocol: (!any(protocol)).then(|| protocol.parse()).transpose()?,
        })
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, protocol) =
            text.split_once('/').with_context(|| format!("{text:?} is no PORT/PROTOCOL"))?;
        Ok(Self {
            port: port.parse().with_context(|| text.to_owned())?,
            protocol: protocol.parse()?,
        })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl Matrix {
    /// Probes all flows at once. Every pod must serve the lab's ports.
    pub(crate) fn probe(lab: &mut Lab, expected: &Expected) -> Result<Self> {
        let targets: Vec<String> = lab.pods.iter().map(crate::lab::Pod::full_name).collect();
        let mut sources = targets.clone();
        sources.push("client".to_owned());
        let mut entries = Vec::new();
        for (from, source) in sources.iter().enumerate() {
            for (to, name) in targets.iter().enumerate().filter(|(to, _)| *to != from) {
                for service in &lab.spec.services {
                    let expected = expected.allows(source, name, *service);
                    let entry = |target: &IpAddr| Entry {
                        from,
                        to,
                        service: *service,
                        target: *target,
                        expected,
                        outcome: Outcome::Dropped,
                    };
                    entries.extend(lab.pods[to].addresses.iter().map(entry));
                }
            }
        }
        let flows: Vec<PodFlow> = entries.iter().map(|entry| entry.flow(targets.len())).collect();
        for (entry, outcome) in entries.iter_mut().zip(lab.probe(&flows)?) {
            entry.outcome = outcome;
        }
        Ok(Self { sources, targets, entries })
    }

    /// How many flows were tried, and how many got through.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let reached = self.entries.iter().filter(|entry| entry.outcome == Outcome::Reached);
        (self.entries.len(), reached.count())
    }

    /// What differs from the expectation, a line each.
    pub(crate) fn differences(&self) -> Vec<String> {
        let wrong = self.entries.iter().filter(|entry| !entry.is_as_expected());
        wrong
            .map(|entry| {
                let (from, to) = (&self.sources[entry.from], &self.targets[entry.to]);
                let Entry { service, target, outcome, .. } = entry;
                let wanted = if entry.expected { "reached" } else { "dropped" };
                format!("{from} -> {to} ({target}) {service}: {outcome}, expected {wanted}")
            })
            .collect()
    }

    fn cell(&self, from: usize, to: usize, services: &[Service]) -> String {
        if from == to {
            return String::new();
        }
        let here: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.from == from && entry.to == to).collect();
        let wrong = if here.iter().all(|entry| entry.is_as_expected()) { "" } else { " !" };
        let open = |service: &&Service| {
            here.iter().any(|entry| entry.service == **service && entry.outcome == Outcome::Reached)
        };
        let open: Vec<String> =
            services.iter().filter(open).map(|service| service.port.to_string()).collect();
        let text = match open.len() {
            0 => "·".to_owned(),
            count if count == services.len() => "all".to_owned(),
            _ => open.join(" "),
        };
        format!("{text}{wrong}")
    }

    /// The matrix as a table: in each cell the ports that got through, `!` where something differs.
    pub(crate) fn table(&self, services: &[Service]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Disabled);
        let header = self.targets.iter().map(|name| name.replace('/', "\n"));
        table.set_header(std::iter::once("from \\ to".to_owned()).chain(header));
        for (from, source) in self.sources.iter().enumerate() {
            let cells = (0..self.targets.len()).map(|to| Cell::new(self.cell(from, to, services)));
            table.add_row(std::iter::once(Cell::new(source)).chain(cells));
        }
        table
    }
}

impl Entry {
    fn is_as_expected(&self) -> bool {
        match self.outcome {
            Outcome::Reached => self.expected,
            // "One way" is wrong either way: allowed flows are answered, others never arrive.
            Outcome::OneWay => false,
            Outcome::Dropped => !self.expected,
            // Policy drops; who refuses is a machine that should not have seen the packet.
            Outcome::Refused | Outcome::Unreachable => false,
        }
    }

    fn flow(&self, client: usize) -> PodFlow {
        let from = if self.from == client { End::Client } else { End::Pod(self.from) };
        let to = SocketAddr::new(self.target, self.service.port);
        let patience = if self.expected { LONG } else { SHORT };
        PodFlow { from, flow: Flow { to, protocol: self.service.protocol }, patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_flow_is_expected_if_a_line_allows_it_and_none_denies_it() {
        let allowed = lines(&["* -> shop/web 80/TCP", "shop/* -> shop/db *"]);
        let denied = lines(&["billing/worker -> shop/* */TCP"]);
        let expected = Expected::parse(&allowed, &denied).unwrap();
        let says = |from, to, service: &str| expected.allows(from, to, service.parse().unwrap());
        assert!(says("client", "shop/web", "80/TCP"));
        assert!(!says("client", "shop/web", "80/UDP"));
        assert!(says("shop/api", "shop/db", "53/UDP"));
        assert!(!says("client", "shop/db", "53/UDP"));
        assert!(!says("billing/worker", "shop/web", "80/TCP"));
    }

    #[test]
    fn a_line_without_an_arrow_or_with_a_port_out_of_range_is_refused() {
        assert!("shop/web shop/api 80/TCP".parse::<Line>().is_err());
        assert!("a -> b 80000/TCP".parse::<Line>().is_err());
        assert!("a -> b 80/HTTP".parse::<Line>().is_err());
    }
}
