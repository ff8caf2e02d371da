//! A monitoring station as a row for the command line.

use ocicat_bgp::speaker::{StationSnapshot, StationState};

use crate::api::bgp::StationRow;
use crate::plan::peering;

/// The row of a station.
pub(super) fn row(station: &StationSnapshot) -> StationRow {
    let state = match station.state {
        StationState::Down => "down",
        StationState::Telling => "telling",
        StationState::Current => "current",
    };
    let tables = peering::table_names(station.config.tables);
    StationRow {
        station: station.address.to_string(),
        tables: tables.into_iter().map(str::to_owned).collect(),
        statistics_seconds: station.config.statistics.map(|time| time.as_secs()),
        state: state.to_owned(),
        since_seconds: station.since.as_secs(),
        messages: station.messages,
        octets: station.octets,
        waiting: u64::try_from(station.waiting).unwrap_or(u64::MAX),
        dumps: station.dumps,
        swamped: station.swamped,
        last_error: station.last_error.clone(),
    }
}
