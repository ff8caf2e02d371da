//! `ocicat-cni`.
fn main() {}
