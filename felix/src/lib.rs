//! The node daemon.

pub mod nft;
