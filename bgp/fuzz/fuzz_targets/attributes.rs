//! The path attributes of an UPDATE: as they come, and with one of them drawn out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::wire::{self, Codec, Family, Nlri, Update, as_path};

fuzz_target!(|bytes: &[u8]| {
    let none = Nlri::empty(Family::Ipv4);
    let update = Update { withdrawn: none, attributes: bytes, announced: none };
    let stretched = wire::stretched(bytes);
    let long = Update { attributes: &stretched, ..update };
    for codec in Codec::samples() {
        wire::canonical_form_is_stable(&update, &codec);
        wire::canonical_form_is_stable(&long, &codec);
        as_path::reencode_is_stable(bytes, &codec);
    }
});
