//! A BGP speaker as a library.

pub mod rib;
pub mod session;
pub mod sim;
pub mod speaker;
pub mod wire;
