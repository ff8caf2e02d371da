//! A BGP speaker as a library.

pub mod wire;
