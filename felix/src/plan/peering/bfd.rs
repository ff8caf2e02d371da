//! The annotation `bgp.ocicat.io/bfd` of a BGPPeer: whether BFD watches the path, and how fast.

use std::num::NonZeroU8;
use std::time::Duration;

use ocicat_bgp::bfd::{Interval, Reach, Timing};
use ocicat_bgp::speaker::PeerBfd;

/// Reads `on`, `off`, or `INTERVAL x MULTIPLIER` such as `50ms x 3`, for a peer on the node's link;
/// with the word `multihop` behind it for one behind routers. `on` is `300ms x 3`.
///
/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn parse(text: &str) -> Result<Option<PeerBfd>, String> {
    let (timing, reach) = match text.trim().strip_suffix("multihop") {
        Some(timing) => (timing.trim(), Reach::Multihop { min_ttl: 1 }),
        None => (text.trim(), Reach::SingleHop),
    };
    let timing = match timing {
        "off" => return Ok(None),
        "on" => Timing::default(),
        timing => {
            let wrong = || format!("{text:?} is neither on, off nor like \"50ms x 3\"");
            let (interval, multiplier) = timing.split_once('x').ok_or_else(wrong)?;
            let interval = milliseconds(interval.trim()).ok_or_else(wrong)?;
            let interval = Interval::try_from(interval).map_err(|error| error.to_string())?;
            let multiplier: NonZeroU8 = multiplier.trim().parse().map_err(|_| wrong())?;
            Timing::symmetric(interval, multiplier)
        }
    };
    Ok(Some(PeerBfd { timing, reach }))
}

/// `50ms` or `1s`.
fn milliseconds(text: &str) -> Option<Duration> {
    let number = |digits: &str| digits.trim_end().parse::<u32>().ok().map(u64::from);
    match text.strip_suffix("ms") {
        Some(digits) => number(digits).map(Duration::from_millis),
        None => number(text.strip_suffix('s')?).map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match parse(text) {
            Ok(None) => "none".to_owned(),
            Ok(Some(PeerBfd { timing: Timing { min_tx, min_rx, multiplier }, reach })) => {
                assert_eq!(min_tx, min_rx);
                format!("{:?} x {multiplier} {reach:?}", min_tx.duration())
            }
            Err(error) => format!("! {error}"),
        };
        assert_eq!(said, expected, "{text:?}");
    }

    #[test]
    fn a_rate_is_an_interval_and_how_many_packets_may_be_missed() {
        check("on", "300ms x 3 SingleHop");
        check("off", "none");
        check("50ms x 3", "50ms x 3 SingleHop");
        check(" 50 ms x3 ", "50ms x 3 SingleHop");
        check("1s x 5 multihop", "1s x 5 Multihop { min_ttl: 1 }");
        check("on multihop", "300ms x 3 Multihop { min_ttl: 1 }");
    }

    #[test]
    fn what_cannot_be_kept_or_read_is_said() {
        check("5ms x 3", "! 5ms is not between 10 ms and 60 s");
        for wrong in ["", "yes", "50 x 3", "50ms", "50ms x 0", "50ms x 256", "-1ms x 3", "fast"] {
            check(wrong, &format!("! {wrong:?} is neither on, off nor like \"50ms x 3\""));
        }
    }
}
