//! The node daemon as a library: what the binary `ocicat` is made of.
//!
//! Read [`daemon`] first: one loop from events to kernel changes.
//!
//! | module | what |
//! |---|---|
//! | [`datastore`] | where objects come from: an API server, or a directory of YAML |
//! | [`world`] | the node's picture of the cluster |
//! | [`plan`] | from the world to rules, routes, peers, address translation; pure |
//! | [`nft`] | nftables as values, their difference, and their netlink form; pure |
//! | [`dataplane`] | where changes go: the kernel, or a memory |
//! | [`daemon`] | the loop that owns all of it |
//! | [`socket`], [`http`], [`api`] | the doors: plugin and command line, Prometheus, what is said there |

pub mod api;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod datastore;
pub mod explain;
pub mod http;
pub mod inventory;
pub mod metrics;
pub mod nft;
pub mod plan;
pub mod problem;
pub mod socket;
pub mod tables;
pub mod world;
