//! A run of prefixes of either family, with and without path identifiers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::wire::{Family, PathIds, nlri};

fuzz_target!(|bytes: &[u8]| {
    for family in Family::ALL {
        nlri::reencode_is_stable(bytes, family, PathIds::Absent);
        nlri::reencode_is_stable(bytes, family, PathIds::Present);
    }
});
