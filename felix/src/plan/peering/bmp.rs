//! The annotation `bmp`: monitoring stations, and what each is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ocicat_bgp::bmp::Table;
use ocicat_bgp::speaker::{Monitoring, StationConfig, TableSet};

use crate::world::Node;

/// Stations by address.
pub(super) type Stations = BTreeMap<SocketAddr, StationConfig>;

/// The words for tables.
const TABLES: [(&str, Table); 4] = [
    ("pre-policy", Table::PrePolicy),
    ("post-policy", Table::PostPolicy),
    ("adj-rib-out", Table::AdjRibOut),
    ("loc-rib", Table::LocRib),
];

/// The names of tables, as the annotation has them.
pub fn names(tables: TableSet) -> Vec<&'static str> {
    TABLES.iter().filter(|(_, table)| tables.contains(*table)).map(|(name, _)| *name).collect()
}

/// What the speaker of a node is to say, and to whom.
pub(super) fn monitoring(own: &Node, stations: &Stations) -> Monitoring {
    Monitoring {
        name: own.name.as_str().into(),
        description: concat!("Ocicat ", env!("CARGO_PKG_VERSION")).into(),
        stations: stations.clone(),
    }
}

/// `ADDRESS:PORT [TABLE ...] [statistics=TIME]`, several separated by commas.
pub(super) fn parse(text: &str) -> Result<Stations, String> {
    let mut stations = Stations::new();
    for part in text.split(',') {
        let mut words = part.split_whitespace();
        let word = words.next().unwrap_or_default();
        let address = super::endpoint(word, text)?;
        let config = station(text, words)?;
        if stations.insert(address, config).is_some() {
            return Err(format!("{address} stands twice in {text:?}"));
        }
    }
    Ok(stations)
}

fn station<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Result<StationConfig, String> {
    let mut config = StationConfig::default();
    let mut tables = Vec::new();
    for word in words {
        if let Some((_, table)) = TABLES.iter().find(|(name, _)| *name == word) {
            tables.push(*table);
        } else if let Some(time) = word.strip_prefix("statistics=") {
            config.statistics = match time {
                "off" => None,
                time => Some(super::duration(time)?).filter(|time| !time.is_zero()),
            };
        } else {
            let known = TABLES.map(|(name, _)| name).join(", ");
            return Err(format!("{word:?} in {text:?} is not one of {known} or statistics=TIME"));
        }
    }
    if !tables.is_empty() {
        config.tables = tables.into_iter().collect();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_station_is_told_what_its_words_say() {
        let stations =
            parse("192.0.2.1:5000,  [2001:db8::1]:1790 adj-rib-out loc-rib statistics=10s")
                .unwrap();
        let [(first, one), (second, two)] = &stations.into_iter().collect::<Vec<_>>()[..] else {
            panic!("two stations")
        };
        assert_eq!(
            [first.to_string(), second.to_string()],
            ["192.0.2.1:5000", "[2001:db8::1]:1790"]
        );
        assert_eq!(*one, StationConfig::default());
        assert_eq!(names(one.tables), ["pre-policy", "post-policy", "loc-rib"]);
        assert_eq!(names(two.tables), ["adj-rib-out", "loc-rib"]);
        assert_eq!(two.statistics, Some(Duration::from_secs(10)));
        let silent = parse("192.0.2.1:5000 statistics=off").unwrap();
        assert!(silent.values().all(|station| station.statistics.is_none()));
    }

    #[test]
    fn what_cannot_be_read_is_quoted() {
        for (text, word) in [
            ("", "\"\""),
            ("192.0.2.1", "\"192.0.2.1\""),
            ("collector:5000", "\"collector:5000\""),
            ("192.0.2.1:0", "\"192.0.2.1:0\""),
            ("[::]:5000", "\"[::]:5000\""),
            ("192.0.2.1:5000 everything", "\"everything\""),
            ("192.0.2.1:5000 statistics=soon", "\"soon\""),
            ("192.0.2.1:5000, 192.0.2.1:5000 loc-rib", "192.0.2.1:5000 stands twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
