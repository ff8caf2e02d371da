//! A BGP speaker as a library.

#[cfg(feature = "tokio")]
pub mod net;
pub mod rib;
pub mod session;
pub mod sim;
pub mod speaker;
pub mod wire;
