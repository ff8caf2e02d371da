//! `ocicat`.
fn main() {}
