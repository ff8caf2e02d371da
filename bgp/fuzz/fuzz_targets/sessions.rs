//! A whole session in virtual time: connections, messages, timers, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ocicat_bgp::sim::drive(bytes));
