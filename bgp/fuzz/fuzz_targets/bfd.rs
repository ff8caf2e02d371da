//! BFD: a datagram as it comes from the socket, and a script of them against an engine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::bfd;

fuzz_target!(|bytes: &[u8]| {
    bfd::reencode_is_stable(bytes);
    bfd::drive(bytes);
});
