//! The CNI plugin as a library: the container network interface of a pod, from the runtime's request to the interface
//! in the pod's network namespace.
//!
//! What the node daemon shares with the plugin: the [`endpoint`] records in the node's state directory, the [`node`]
//! file that the daemon writes there, the [`store`] that both open, and the [`daemon`] protocol on the Unix socket.
//!
//! What is pure: [`spec`] (requests and results as the specification has them), [`ipam`] (which address is next) and
//! [`plan`] (the steps of an ADD as values). The edge carries the steps out; [`run`] ties them to the commands.
//!
//! Every way to fail is closed: ADD succeeds only when the daemon says that the pod's policy is in the kernel.

pub mod add;
pub mod daemon;
pub mod endpoint;
pub mod ipam;
pub mod node;
pub mod plan;
pub mod spec;
pub mod store;

mod check;
mod del;
mod file;
mod linux;
mod reserve;
mod run;
mod status;

pub use run::{Reply, run};
