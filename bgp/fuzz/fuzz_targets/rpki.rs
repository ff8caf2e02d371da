//! The RPKI to Router protocol: a PDU as it comes, and a script of them to a client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::rpki;

fuzz_target!(|bytes: &[u8]| {
    rpki::reencode_is_stable(bytes);
    rpki::drive(bytes);
});
