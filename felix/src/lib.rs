//! The node daemon as a library: what the binary `ocicat` is made of.
//!
//! Read `daemon.rs` first: one loop from events to kernel changes.

pub mod dataplane;
pub mod datastore;
pub mod nft;
pub mod problem;
