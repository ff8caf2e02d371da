//! A BFD session as a row for the command line.

use std::time::Duration;

use ocicat_bgp::bfd::{Fate, Reach, SessionSnapshot};

use crate::api::{BfdPackets, BfdRow};

/// The row of a session.
pub(super) fn row(session: &SessionSnapshot) -> BfdRow {
    let reach = match session.reach {
        Reach::SingleHop => "single-hop",
        Reach::Multihop { .. } => "multihop",
    };
    BfdRow {
        peer: session.name.to_string(),
        address: session.peer.to_string(),
        reach: reach.to_owned(),
        state: session.state.to_string(),
        since_seconds: session.since.as_secs(),
        remote_state: session.remote_state.to_string(),
        local_discriminator: session.local_discriminator.0.get(),
        remote_discriminator: session.remote_discriminator.map(|remote| remote.0.get()),
        transmit_microseconds: session.transmit_every.map(microseconds),
        detect_microseconds: session.detect_after.map(microseconds),
        multiplier: session.multiplier,
        remote_multiplier: session.remote_multiplier,
        control_plane_independent: session.fate == Fate::Independent,
        flaps: session.failures.total(),
        last_down: session.last_down.map(|(why, _)| why.to_string()),
        last_down_seconds: session.last_down.map(|(_, ago)| ago.as_secs()),
        longest_gap_microseconds: microseconds(session.longest_gap),
        packets: BfdPackets {
            sent: session.sent,
            received: session.received,
            discarded: session.discarded,
        },
        error: session.error.as_deref().map(str::to_owned),
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
