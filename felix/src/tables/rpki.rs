//! Caches of the RPKI in rows.

use std::time::Duration;

use super::{duration_text, finish, table};
use crate::api::bgp::CacheRow;

/// Caches.
pub fn caches(rows: &[CacheRow]) -> String {
    let mut table =
        table(["CACHE", "STATE", "FOR", "SERIAL", "IPV4", "IPV6", "TOLD", "EXPIRES", "LAST ERROR"]);
    let seconds = |seconds| duration_text(Duration::from_secs(seconds));
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        table.add_row([
            row.cache.clone(),
            row.state.clone(),
            seconds(row.since_seconds),
            or_none(row.serial.map(|serial| serial.to_string())),
            row.ipv4.to_string(),
            row.ipv6.to_string(),
            row.age_seconds.map_or("never".to_owned(), |age| format!("{} ago", seconds(age))),
            or_none(row.expires_seconds.map(|time| format!("in {}", seconds(time)))),
            row.last_error.clone().unwrap_or_default(),
        ]);
    }
    finish(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_a_line() {
        let up = CacheRow {
            cache: "192.0.2.1:323".to_owned(),
            state: "current".to_owned(),
            since_seconds: 69,
            version: Some(1),
            session: Some(5),
            serial: Some(7),
            ipv4: 3,
            ipv6: 2,
            age_seconds: Some(9),
            expires_seconds: Some(7191),
            answers: 1,
            last_error: None,
        };
        let down = CacheRow {
            cache: "[2001:db8::1]:323".to_owned(),
            state: "down".to_owned(),
            serial: None,
            ipv4: 0,
            ipv6: 0,
            age_seconds: None,
            expires_seconds: None,
            last_error: Some("cannot connect".to_owned()),
            ..up.clone()
        };
        assert_eq!(
            caches(&[up, down]),
            "\
CACHE              STATE    FOR    SERIAL  IPV4  IPV6  TOLD    EXPIRES   LAST ERROR
192.0.2.1:323      current  1m09s  7       3     2     9s ago  in 1h59m
[2001:db8::1]:323  down     1m09s  -       0     0     never   -         cannot connect
"
        );
    }
}
