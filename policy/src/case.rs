//! The expectations in the cases that tests and labs share: `tests/cases/README.md` describes them.
//!
//! A case is read by whoever has a YAML reader; here is the shape of its own document and the
//! meaning of its tables.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use crate::model::{PodKey, Traffic, Transport};

/// One step of a case: the objects that follow it are put on top of what the steps before left, and
/// then the expectations hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// `ocicat.dev/test`.
    pub api_version: String,
    /// `Case`.
    pub kind: String,
    /// What the step shows, in one sentence.
    pub description: String,
    /// Objects to remove first, such as `Pod shop/web`, `Namespace shop`, `NetworkPolicy shop/deny`.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Tables of who reaches whom, each under the traffic that it speaks of.
    pub expect: Vec<BTreeMap<String, String>>,
    /// Every problem that is reported, as it is displayed.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Somebody who sends or receives in a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Station {
    /// A pod of the case.
    Pod(PodKey),
    /// A machine outside of the cluster.
    Client,
}

impl Station {
    /// The addresses of [`Station::Client`].
    pub const CLIENT: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10)),
    ];
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Client => f.write_str("client"),
        }
    }
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

impl Family {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// What a cell of a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `yes`: the traffic arrives.
    Arrives,
    /// `no`: it does not.
    Dropped,
}

/// One cell of a table: something to try, and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who sends.
    pub source: Station,
    /// Who should receive.
    pub destination: Station,
    /// What is sent.
    pub traffic: Traffic,
    /// Over which protocol; skip it where either side has no address of that family.
    pub family: Family,
    /// What must come of it.
    pub expected: Expected,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, traffic, family, .. } = self;
        write!(f, "{source} -> {destination} {traffic} {family}")
    }
}

/// A table that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A part of a heading is not `TCP 80`, `UDP 53 v4`, `ICMP v6` or the like.
    #[error("{0:?} is not traffic: <TCP|UDP|SCTP> <port> or ICMP, then v4, v6 or nothing")]
    Heading(String),
    /// A name that is neither `client` nor `namespace/pod`.
    #[error("{0:?} is neither client nor namespace/pod")]
    Station(String),
    /// A row that does not have one cell for each column.
    #[error("the row of {0} has {1} cells for {2} columns")]
    Row(String, usize, usize),
    /// A cell that is none of the three.
    #[error("{0:?} is not yes, no or -")]
    Cell(String),
}

impl Case {
    /// The cells of every table, except those that say `-`.
    ///
    /// # Errors
    /// The first thing in a table that cannot be read.
    pub fn probes(&self) -> Result<Vec<Probe>, Malformed> {
        let mut probes = Vec::new();
        for (heading, table) in self.expect.iter().flatten() {
            let cells = parse_table(table)?;
            for (traffic, family) in parse_heading(heading)? {
                probes.extend(cells.iter().cloned().map(|(source, destination, expected)| Probe {
                    source,
                    destination,
                    traffic,
                    family,
                    expected,
                }));
            }
        }
        Ok(probes)
    }
}

/// One kind of traffic or several between commas, each in one family or in both.
fn parse_heading(heading: &str) -> Result<Vec<(Traffic, Family)>, Malformed> {
    let mut traffics = Vec::new();
    for part in heading.split(',') {
        let malformed = || Malformed::Heading(part.trim().to_owned());
        let words: Vec<&str> = part.split_whitespace().collect();
        let (words, families) = match words.as_slice() {
            [words @ .., "v4"] => (words, &[Family::V4][..]),
            [words @ .., "v6"] => (words, &[Family::V6][..]),
            words => (words, &Family::BOTH[..]),
        };
        let traffic = match words {
            ["ICMP"] => Traffic::Other,
            [protocol, port] => {
                let transport = Transport::ALL.into_iter().find(|t| t.to_string() == *protocol);
                let port = port.parse().map_err(|_| malformed())?;
                Traffic::Port(transport.ok_or_else(malformed)?, port)
            }
            _ => return Err(malformed()),
        };
        traffics.extend(families.iter().map(|family| (traffic, *family)));
    }
    Ok(traffics)
}

/// A corner, the destinations; then in each line a source and its cells.
fn parse_table(table: &str) -> Result<Vec<(Station, Station, Expected)>, Malformed> {
    let mut lines = table.lines().map(str::split_whitespace);
    let header = lines.next().into_iter().flatten().skip(1);
    let columns: Vec<Station> = header.map(parse_station).collect::<Result<_, _>>()?;
    let mut cells = Vec::new();
    for mut line in lines {
        let Some(name) = line.next() else { continue };
        let source = parse_station(name)?;
        let row: Vec<&str> = line.collect();
        if row.len() != columns.len() {
            return Err(Malformed::Row(name.to_owned(), row.len(), columns.len()));
        }
        for (destination, cell) in columns.iter().zip(row) {
            let expected = match cell {
                "yes" => Expected::Arrives,
                "no" => Expected::Dropped,
                "-" => continue,
                _ => return Err(Malformed::Cell(cell.to_owned())),
            };
            cells.push((source.clone(), destination.clone(), expected));
        }
    }
    Ok(cells)
}

fn parse_station(name: &str) -> Result<Station, Malformed> {
    match name.split_once('/') {
        Some((namespace, pod)) => Ok(Station::Pod(PodKey::new(namespace, pod))),
        None if name == "client" => Ok(Station::Client),
        None => Err(Malformed::Station(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(heading: &str, table: &str) -> Result<Vec<String>, Malformed> {
        let case = Case {
            api_version: "ocicat.dev/test".to_owned(),
            kind: "Case".to_owned(),
            description: String::new(),
            remove: Vec::new(),
            expect: vec![[(heading.to_owned(), table.to_owned())].into()],
            problems: Vec::new(),
        };
        let show = |probe: &Probe| format!("{probe} {:?}", probe.expected);
        Ok(case.probes()?.iter().map(show).collect())
    }

    #[test]
    fn each_cell_is_a_probe_in_each_family() {
        let table = ".  a/x  client\na/x  -  yes\nclient  no  -\n";
        assert_eq!(
            probes("UDP 53", table).unwrap(),
            [
                "a/x -> client UDP 53 v4 Arrives",
                "client -> a/x UDP 53 v4 Dropped",
                "a/x -> client UDP 53 v6 Arrives",
                "client -> a/x UDP 53 v6 Dropped",
            ]
        );
        assert_eq!(
            probes("ICMP v6, TCP 80 v4", ". a/x\nclient yes").unwrap(),
            ["client -> a/x another protocol v6 Arrives", "client -> a/x TCP 80 v4 Arrives"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let heading = |text: &str| Malformed::Heading(text.to_owned());
        assert_eq!(probes("TCP", ". a/x"), Err(heading("TCP")));
        assert_eq!(probes("tcp 80", ". a/x"), Err(heading("tcp 80")));
        assert_eq!(probes("TCP 80", ". web"), Err(Malformed::Station("web".to_owned())));
        assert_eq!(probes("TCP 80", ". a/x\na/x"), Err(Malformed::Row("a/x".to_owned(), 0, 1)));
        assert_eq!(probes("TCP 80", ". a/x\na/x ok"), Err(Malformed::Cell("ok".to_owned())));
    }
}
