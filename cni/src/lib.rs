//! The CNI plugin as a library: the container network interface of a pod, from the runtime's request to the
//! interface in the pod's network namespace.
//!
//! What the node daemon shares with the plugin comes first: the [`endpoint`] records in the node's state directory,
//! the [`node`] file that the daemon writes there, the [`store`] that both open, and the [`daemon`] protocol on the
//! Unix socket.

pub mod daemon;
pub mod endpoint;
pub mod node;

mod file;
