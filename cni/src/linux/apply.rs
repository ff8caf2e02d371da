//! Making a change.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::netlink::NetlinkError;
use super::rtnl::Existing;
use super::{Kernel, KernelError, Pair, sysctl_file};
use crate::endpoint::INTERFACE_PREFIX;
use crate::plan::{Absent, Change, Mac, ROUTE_PROTOCOL, Route, Side, Sysctl};

/// How often a hardware address is set that the kernel does not take.
const MAC_ATTEMPTS: u32 = 20;
const MAC_PAUSE: Duration = Duration::from_millis(25);

/// What went wrong, without the change that it happened to.
enum Fault {
    Netlink(NetlinkError),
    Sysctl(io::Error),
    Conflict(String),
}

impl From<NetlinkError> for Fault {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

impl Kernel {
    /// Makes one change.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), KernelError> {
        self.make(change).map_err(|fault| {
            let change = Box::new(change.clone());
            match fault {
                Fault::Netlink(source) => KernelError::Netlink { change, source },
                Fault::Sysctl(source) => KernelError::Sysctl { change, source },
                Fault::Conflict(reason) => KernelError::Conflict { change, reason },
            }
        })
    }

    fn make(&mut self, change: &Change) -> Result<(), Fault> {
        match change {
            Change::RemoveStale(name) => self.remove_stale(name),
            Change::RemoveVeth(_) => match self.created {
                Some(pair) => Ok(self.node.delete_link(pair.node)?),
                None => Ok(()),
            },
            Change::AddVeth { host, pod, mtu } => self.add_veth(host, pod, *mtu),
            Change::SetMac(name, mac) => self.set_mac(name, *mac),
            Change::Sysctl(side, sysctl) => self.write_sysctl(*side, sysctl),
            Change::Up(side, name) => {
                let index = self.existing(*side, name)?;
                Ok(self.side(*side).set_up(index)?)
            }
            Change::AddAddress(side, name, address) => {
                let index = self.existing(*side, name)?;
                Ok(self.side(*side).add_address(index, *address)?)
            }
            Change::AddRoute(side, route) => self.add_route(*side, route),
            Change::AddNeighbour { device, address, mac } => {
                let index = self.existing(Side::Pod, device)?;
                Ok(self.pod.set_neighbour(index, *address, *mac)?)
            }
        }
    }

    fn existing(&mut self, side: Side, name: &str) -> Result<u32, Fault> {
        let gone = || Fault::Conflict(format!("the interface {name} has disappeared"));
        self.index(side, name)?.ok_or_else(gone)
    }

    fn remove_stale(&mut self, name: &str) -> Result<(), Fault> {
        let Some(link) = self.node.link(name)? else { return Ok(()) };
        self.notes.push(format!("removed {name}, which an old sandbox of this pod had left"));
        Ok(self.node.delete_link(link.index)?)
    }

    fn add_veth(&mut self, host: &str, pod: &str, mtu: u32) -> Result<(), Fault> {
        // CNI specification, "ADD": an interface of that name in the container is an error.
        if self.pod.link(pod)?.is_some() {
            return Err(Fault::Conflict(format!("the container already has an interface {pod}")));
        }
        self.node.add_veth(host, pod, self.netns.as_fd(), mtu)?;
        let made = self.node.link(host)?;
        self.created = made.and_then(|link| Some(Pair { node: link.index, pod: link.peer? }));
        Ok(())
    }

    /// The kernel at times ignores an address given at creation or set, without an error: set it, read it back.
    fn set_mac(&mut self, name: &str, mac: Mac) -> Result<(), Fault> {
        let index = self.existing(Side::Node, name)?;
        for _ in 0..MAC_ATTEMPTS {
            self.node.set_mac(index, mac)?;
            if self.node.link_at(index)?.and_then(|link| link.mac) == Some(mac) {
                return Ok(());
            }
            thread::sleep(MAC_PAUSE);
        }
        Err(Fault::Conflict("the kernel does not take the address".to_owned()))
    }

    fn write_sysctl(&self, side: Side, sysctl: &Sysctl) -> Result<(), Fault> {
        let write = || fs::write(sysctl_file(&sysctl.path), sysctl.value);
        match self.sysctl(side, write) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && sysctl.absent == Absent::Skip =>
            {
                Ok(())
            }
            other => other.map_err(Fault::Sysctl),
        }
    }

    fn add_route(&mut self, side: Side, route: &Route) -> Result<(), Fault> {
        let index = self.existing(side, &route.device)?;
        match self.side(side).add_route(index, route, Existing::Refuse) {
            Err(error) if error.is(Errno::EEXIST) => self.settle_route(side, route, index),
            other => Ok(other?),
        }
    }

    /// There is a route to the same prefix: the daemon's, which is as good as ours; a stale one of ours, which is
    /// replaced; or a stranger's, which is left alone.
    fn settle_route(&mut self, side: Side, route: &Route, index: u32) -> Result<(), Fault> {
        if side == Side::Pod {
            return Err(Fault::Conflict("the container already has that route".to_owned()));
        }
        let Some(found) = self.node.route_to(route.destination.addr())? else {
            return Err(Fault::Conflict("a route that admits no traffic is there".to_owned()));
        };
        if found.is(route, index) {
            return Ok(());
        }
        let device = match found.device {
            Some(other) => self.node.link_at(other)?.map(|link| link.name),
            None => None,
        };
        let shown = device.as_deref().unwrap_or("none");
        let owner = format!("dev {shown} proto {}", found.protocol);
        let ours = found.protocol == ROUTE_PROTOCOL
            || device.is_some_and(|name| name.starts_with(INTERFACE_PREFIX));
        if !ours {
            return Err(Fault::Conflict(format!("a route of someone else's is there ({owner})")));
        }
        self.notes.push(format!("replaced a stale route to {} ({owner})", route.destination));
        Ok(self.node.add_route(index, route, Existing::Replace)?)
    }
}
