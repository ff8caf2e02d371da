//! Route origin validation: which AS may originate which prefix, as caches of the RPKI tell it.
//!
//! | | RFC | |
//! |---|---|---|
//! | PDUs | 8210 §5, 6810 §5 | [`pdu`] |
//! | the talk with a cache | 8210 §8 | [`Client`] |
//! | what a prefix and its origin are worth | 6811 §2 | [`Vrps`], [`Origins`] |
//!
//! No I/O and no clock. Connections and timers are a matter of `speaker::rpki`, what becomes of a path
//! one of `rib::validation`.

mod answer;
mod client;
mod fuzz;
mod origins;
pub mod pdu;
mod vrps;

#[cfg(test)]
mod tests;

pub use client::{Client, Ending, Known, Outcome, Redial, Stage};
pub use fuzz::{drive, reencode_is_stable};
pub use origins::{Affected, News, Origins};
pub use pdu::{Change, Pdu, Timing, Version};
pub use vrps::{Validity, Vrp, Vrps};
