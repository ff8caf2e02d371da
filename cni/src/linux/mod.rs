//! The edge: carries out [`Change`]s in the kernel, and verifies that what they made is still there.

mod apply;
mod netlink;
mod netns;
mod object;
mod rtnl;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use netlink::NetlinkError;
pub(crate) use netns::Netns;

use netlink::Netlink;
use object::Link;

use crate::endpoint::INTERFACE_PREFIX;
use crate::plan::{Change, Side};

/// The kernel as one attachment sees it: the node's namespace, which is the calling thread's, and the pod's.
pub(crate) struct Kernel {
    node: Netlink,
    pod: Netlink,
    netns: Netns,
    /// The pair that this very attachment has made. A newer sandbox of the pod may put another host interface in its
    /// place under the same name, which this attachment must not touch.
    created: Option<Pair>,
    /// What the operator should know although it is no error.
    pub(crate) notes: Vec<String>,
}

/// The indexes of both ends of a veth pair, each in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    node: u32,
    pod: u32,
}

/// Why a change could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// The kernel refused a request.
    #[error("{change}: {source}")]
    Netlink { change: Box<Change>, source: NetlinkError },
    /// A file below `/proc/sys`.
    #[error("{change}: {source}")]
    Sysctl { change: Box<Change>, source: io::Error },
    /// The kernel's state contradicts the change.
    #[error("{change}: {reason}")]
    Conflict { change: Box<Change>, reason: String },
}

impl Kernel {
    /// Opens a socket on each side.
    pub(crate) fn open(netns: Netns) -> io::Result<Self> {
        let node = Netlink::open()?;
        let pod = netns.enter(Netlink::open)?;
        Ok(Self { node, pod, netns, created: None, notes: Vec::new() })
    }

    /// The hardware address of one end of the attachment, as text.
    pub(crate) fn mac(&mut self, side: Side, name: &str) -> Result<Option<String>, NetlinkError> {
        let Some(index) = self.index(side, name)? else { return Ok(None) };
        let link = self.side(side).link_at(index)?;
        Ok(link.and_then(|link| link.mac).map(|mac| mac.to_string()))
    }

    /// The index of one end of the attachment.
    fn index(&mut self, side: Side, name: &str) -> Result<Option<u32>, NetlinkError> {
        match (side, self.created) {
            (Side::Node, Some(pair)) => Ok(Some(pair.node)),
            (Side::Pod, Some(pair)) => Ok(Some(pair.pod)),
            (Side::Node | Side::Pod, None) => {
                Ok(self.side(side).link(name)?.map(|link| link.index))
            }
        }
    }

    fn side(&mut self, side: Side) -> &mut Netlink {
        match side {
            Side::Node => &mut self.node,
            Side::Pod => &mut self.pod,
        }
    }

    fn sysctl<T>(&self, side: Side, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        // What is below /proc/sys/net depends on the namespace of the thread that opens it.
        match side {
            Side::Node => work(),
            Side::Pod => self.netns.enter(work),
        }
    }
}

fn sysctl_file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}

fn read_sysctl(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(sysctl_file(path))?.trim().to_owned())
}

/// The index of the node's interface of this name, if there is one.
pub(crate) fn host_link_index(name: &str) -> Result<Option<u32>, NetlinkError> {
    Ok(Netlink::open()?.link(name)?.map(|link| link.index))
}

/// Removes the node's interface of this index, if it is still there.
pub(crate) fn remove_host_link(index: u32) -> Result<(), NetlinkError> {
    Netlink::open()?.delete_link(index)
}

/// Removes the interface `ifname` of the pod if its other end is one of ours on this node.
///
/// For an attachment of which there is no record: the name of its host interface is not known, the pair is.
pub(crate) fn remove_pod_link(netns: &Netns, ifname: &str) -> Result<(), NetlinkError> {
    let Some(pod_end) = netns.enter(Netlink::open)?.link(ifname)? else { return Ok(()) };
    let Some(peer) = pod_end.peer else { return Ok(()) };
    let mut node = Netlink::open()?;
    let pairs =
        |link: &Link| link.name.starts_with(INTERFACE_PREFIX) && link.peer == Some(pod_end.index);
    if node.link_at(peer)?.as_ref().is_some_and(pairs) {
        node.delete_link(peer)?;
    }
    Ok(())
}
