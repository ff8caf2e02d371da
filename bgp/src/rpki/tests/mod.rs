mod table;
mod talk;
mod wire;

use super::Vrp;

/// `10.0.0.0/8-24 AS65001`, without a maximum length that of the prefix.
fn vrp(text: &str) -> Vrp {
    let (range, asn) = text.split_once(" AS").unwrap();
    let (prefix, max_length) = match range.split_once('-') {
        Some((prefix, max_length)) => (prefix, Some(max_length.parse().unwrap())),
        None => (range, None),
    };
    let prefix: crate::wire::Prefix = prefix.parse().unwrap();
    Vrp { prefix, max_length: max_length.unwrap_or(prefix.len()), asn: asn.parse().unwrap() }
}
