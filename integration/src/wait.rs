//! Waiting for something to become true, with a limit and the time it took.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Asks `is_so` until it says yes; gives the time from the call to the yes. Errors count as no: what
/// is asked may not be up yet; the last one is told if the limit passes.
pub(crate) fn until(
    limit: Duration,
    goal: &str,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let answer = is_so();
        let took = start.elapsed();
        match answer {
            Ok(true) => return Ok(took),
            Ok(false) if took > limit => bail!("not within {limit:?}: {goal}"),
            Err(error) if took > limit => {
                return Err(error).with_context(|| format!("not within {limit:?}: {goal}"));
            }
            Ok(false) | Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
