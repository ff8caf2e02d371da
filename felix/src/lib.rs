//! The node daemon.

pub mod dataplane;
pub mod nft;
