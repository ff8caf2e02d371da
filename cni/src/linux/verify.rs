//! Whether what a change made is still there.

use std::io;

use super::netlink::NetlinkError;
use super::object::Link;
use super::{Kernel, read_sysctl};
use crate::plan::{Absent, Change, Route, Side, Sysctl};

/// What is damaged, in words; `None` if nothing is.
type Damage = Option<String>;

impl Kernel {
    /// Looks whether `change` still holds. What is not there is damage, not an error.
    pub(crate) fn verify(&mut self, change: &Change) -> Result<Damage, NetlinkError> {
        match change {
            // What was removed was another interface.
            Change::RemoveStale(_) | Change::RemoveVeth(_) => Ok(None),
            Change::AddVeth { host, pod, .. } => self.verify_pair(host, pod),
            Change::SetMac(name, mac) => self.verify_link(Side::Node, name, |link| {
                (link.mac != Some(*mac)).then(|| format!("the address of {name} is not {mac}"))
            }),
            Change::Sysctl(side, sysctl) => Ok(self.verify_sysctl(*side, sysctl)),
            Change::Up(side, name) => {
                self.verify_link(*side, name, |link| (!link.up).then(|| format!("{name} is down")))
            }
            Change::AddAddress(side, name, address) => {
                let Some(link) = self.side(*side).link(name)? else { return Ok(None) };
                let addresses = self.side(*side).addresses(link.index)?;
                let missing = !addresses.contains(address);
                Ok(missing.then(|| format!("{name} lacks the address {address}")))
            }
            Change::AddRoute(side, route) => self.verify_route(*side, route),
            Change::AddNeighbour { device, address, mac } => {
                let Some(link) = self.pod.link(device)? else { return Ok(None) };
                let neighbours = self.pod.permanent_neighbours(link.index)?;
                let missing = !neighbours.contains(&(*address, *mac));
                Ok(missing.then(|| format!("{device} lacks the neighbour {address} {mac}")))
            }
        }
    }

    fn verify_pair(&mut self, host: &str, pod: &str) -> Result<Damage, NetlinkError> {
        let Some(host_end) = self.node.link(host)? else {
            return Ok(Some(format!("the node has no interface {host}")));
        };
        let Some(pod_end) = self.pod.link(pod)? else {
            return Ok(Some(format!("the container has no interface {pod}")));
        };
        let paired = host_end.peer == Some(pod_end.index) && pod_end.peer == Some(host_end.index);
        Ok((!paired).then(|| format!("{host} does not lead to {pod} of the container")))
    }

    /// A link that is missing is reported once, by [`Self::verify_pair`].
    fn verify_link(
        &mut self,
        side: Side,
        name: &str,
        damage: impl FnOnce(&Link) -> Damage,
    ) -> Result<Damage, NetlinkError> {
        Ok(self.side(side).link(name)?.as_ref().and_then(damage))
    }

    fn verify_sysctl(&self, side: Side, sysctl: &Sysctl) -> Damage {
        match self.sysctl(side, || read_sysctl(&sysctl.path)) {
            Ok(value) if value == sysctl.value => None,
            Ok(value) => Some(format!("{} is {value}, not {}", sysctl.path, sysctl.value)),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && sysctl.absent == Absent::Skip =>
            {
                None
            }
            Err(error) => Some(format!("{}: {error}", sysctl.path)),
        }
    }

    fn verify_route(&mut self, side: Side, route: &Route) -> Result<Damage, NetlinkError> {
        let Some(link) = self.side(side).link(&route.device)? else { return Ok(None) };
        // On the node a lookup, since its table may be long; in the pod a dump, since a lookup cannot ask for ::/0.
        let holds = match side {
            Side::Node => self
                .node
                .route_to(route.destination.addr())?
                .is_some_and(|found| found.is(route, link.index)),
            Side::Pod => self
                .pod
                .routes(link.index, route.destination.addr())?
                .iter()
                .any(|found| found.is(route, link.index)),
        };
        Ok((!holds).then(|| format!("the route {route} is missing")))
    }
}
