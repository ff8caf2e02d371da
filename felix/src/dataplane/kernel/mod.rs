//! The kernel of this node, by netlink only: no program is ever executed.

mod nft;
mod socket;

pub use nft::Nft;
