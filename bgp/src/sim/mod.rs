//! Whole speakers in one thread and in virtual time: links with latency that fail loudly or in
//! silence, connections that break, processes that restart. Ninety quiet seconds cost microseconds,
//! and a seed repeats a run exactly.
//!
//! The simulator plays the edge of each speaker: it dials, accepts, carries bytes in pieces of
//! random size, and keeps what the speaker says of routes and peers, for tests to look at.

mod fuzz;
mod network;
#[cfg(test)]
mod tests;

pub use fuzz::drive;
pub use network::{LINK, Node, Simulation};
