//! The path attributes of an UPDATE: as they come, or, of inputs that begin with 255, with one of them drawn out. That
//! takes a hundred times as long, so few inputs are to do it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::wire::{self, Codec, Family, Nlri, Update, as_path};

fuzz_target!(|bytes: &[u8]| {
    let none = Nlri::empty(Family::Ipv4);
    let stretched = match bytes {
        [u8::MAX, script @ ..] => Some(wire::stretched(script)),
        _ => None,
    };
    let attributes = stretched.as_deref().unwrap_or(bytes);
    let update = Update { withdrawn: none, attributes, announced: none };
    for codec in Codec::samples() {
        wire::canonical_form_is_stable(&update, &codec);
        as_path::reencode_is_stable(bytes, &codec);
    }
});
