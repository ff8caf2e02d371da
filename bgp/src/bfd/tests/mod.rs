//! Engines in virtual time: links with latency and loss, processes that restart.

mod link;
mod lonely;
mod pair;

use proptest::prelude::*;

proptest! {
    #[test]
    fn no_datagram_brings_the_engine_out_of_step(script in prop::collection::vec(any::<u8>(), 0..400)) {
        super::drive(&script);
    }
}
