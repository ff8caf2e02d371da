//! A whole message, as it comes from the socket, in every agreed encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::wire::{self, Codec};

fuzz_target!(
    |bytes: &[u8]| Codec::samples().for_each(|codec| wire::reencode_is_stable(bytes, &codec))
);
