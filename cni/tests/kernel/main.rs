//! The commands in real network namespaces. Needs root; says so and passes without.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod add;
mod check;
mod del;
mod kill;
mod node;
mod refuse;

/// The pod CIDRs of a dual-stack node.
const DUAL: [&str; 2] = ["10.65.1.0/24", "fd00:65:1::/64"];
