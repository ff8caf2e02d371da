//! A cache of the RPKI as a row for the command line.

use ocicat_bgp::rpki::Stage;
use ocicat_bgp::speaker::CacheSnapshot;

use crate::api::bgp::CacheRow;

/// The row of a cache.
pub(super) fn row(cache: &CacheSnapshot) -> CacheRow {
    let state = match cache.stage {
        Stage::Down => "down",
        Stage::Loading => "loading",
        Stage::Current => "current",
        Stage::NoData => "no-data",
    };
    let [ipv4, ipv6] = cache.records;
    CacheRow {
        cache: cache.address.to_string(),
        state: state.to_owned(),
        since_seconds: cache.since.as_secs(),
        version: cache.version,
        session: cache.session_and_serial.map(|(session, _)| session),
        serial: cache.session_and_serial.map(|(_, serial)| serial),
        ipv4,
        ipv6,
        age_seconds: cache.age.map(|age| age.as_secs()),
        expires_seconds: cache.expires_in.map(|time| time.as_secs()),
        answers: cache.answers,
        last_error: cache.last_error.clone(),
    }
}
