//! Monitoring stations in rows.

use std::time::Duration;

use super::{duration_text, finish, table};
use crate::api::bgp::StationRow;

/// Monitoring stations.
pub fn stations(rows: &[StationRow]) -> String {
    let mut table = table([
        "STATION",
        "STATE",
        "FOR",
        "TABLES",
        "MESSAGES",
        "WAITING",
        "RESYNCS",
        "TOO FAR BEHIND",
        "LAST ERROR",
    ]);
    for row in rows {
        table.add_row([
            row.station.clone(),
            row.state.clone(),
            duration_text(Duration::from_secs(row.since_seconds)),
            row.tables.join(" "),
            row.messages.to_string(),
            row.waiting.to_string(),
            row.dumps.to_string(),
            row.swamped.to_string(),
            row.last_error.clone().unwrap_or_default(),
        ]);
    }
    finish(&table)
}
