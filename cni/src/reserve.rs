//! Reserving a container's addresses: what the records say, what the allocation says, and the new record.

use std::net::IpAddr;
use std::time::Duration;

use crate::endpoint::{Endpoint, Stage, UnixMillis, host_interface};
use crate::ipam::Pool;
use crate::node::Node;
use crate::spec::{Code, Container, Error, PodName};
use crate::store::{LockedStore, Records};

/// How long an address should have been idle before another pod gets it. Less is reported, not refused.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// Writes the record of a new attachment, with addresses that no other record holds.
pub(crate) fn reserve(
    locked: &LockedStore,
    node: &Node,
    container: &Container,
    pod: PodName,
    notes: &mut Vec<String>,
) -> Result<Endpoint, Error> {
    let records = locked.store().records()?;
    if let Some((_, error)) = records.unreadable.first() {
        let msg = "a record in the state directory cannot be read, so its addresses are unknown; \
                   delete the file when its container is gone";
        return Err(Error::new(Code::Io, msg).with_details(error.to_string()));
    }
    let endpoint = Endpoint {
        addresses: addresses(locked, &records, node, container, notes)?,
        host_interface: host_interface(&pod.namespace, &pod.name, &container.ifname),
        namespace: pod.namespace,
        pod: pod.name,
        uid: pod.uid,
        container_id: container.id.clone(),
        netns: container.netns.iter().map(|path| path.display().to_string()).collect(),
        ifname: container.ifname.clone(),
        created: UnixMillis::now(),
        stage: Stage::Reserved,
    };
    refuse_namesake(&records, &endpoint)?;
    locked.put(&endpoint)?;
    // Last: after a crash before this the interface is still the old sandbox's.
    for old in records.endpoints.iter().filter(|old| is_superseded(old, &endpoint)) {
        locked.put(&Endpoint { stage: Stage::Superseded, ..old.clone() })?;
    }
    Ok(endpoint)
}

fn is_superseded(old: &Endpoint, new: &Endpoint) -> bool {
    old.host_interface == new.host_interface && old.id() != new.id()
}

/// The addresses of an ADD of the same attachment that was interrupted, or new ones.
fn addresses(
    locked: &LockedStore,
    records: &Records,
    node: &Node,
    container: &Container,
    notes: &mut Vec<String>,
) -> Result<Vec<IpAddr>, Error> {
    let mut cidrs = node.pod_cidrs.clone();
    cidrs.retain(|cidr| cidr.addr().is_ipv4() || node.ipv6);
    let id = container.id();
    if let Some(left) = records.endpoints.iter().find(|endpoint| endpoint.id() == id) {
        if left.stage != Stage::Reserved {
            return Err(Error::new(Code::AlreadyAttached, format!("{id} is attached already")));
        }
        let fits = |address| cidrs.iter().any(|cidr| cidr.contains(address));
        if left.addresses.iter().all(fits) {
            notes.push(format!("went on with what an interrupted ADD of {id} left"));
            return Ok(left.addresses.clone());
        }
    }
    if cidrs.is_empty() {
        return Err(Error::new(Code::TryAgainLater, "node.json has no pod CIDR"));
    }
    let (used, released) = (records.addresses(), locked.store().released());
    let pool = Pool { cidrs: &cidrs, used: &used, released: &released, now: UnixMillis::now() };
    let allocations = pool
        .allocate()
        .map_err(|exhausted| Error::new(Code::TryAgainLater, exhausted.to_string()))?;
    for allocation in &allocations {
        if let Some(idle) = allocation.idle.filter(|idle| *idle < COOL_DOWN) {
            notes.push(format!("{} was idle for only {idle:?}", allocation.address));
        }
    }
    Ok(allocations.iter().map(|allocation| allocation.address).collect())
}

/// Two pods whose names hash to one interface name: not to be expected of 44 bits, but the first would lose its
/// interface without a word.
fn refuse_namesake(records: &Records, endpoint: &Endpoint) -> Result<(), Error> {
    let namesake = records.endpoints.iter().find(|other| {
        other.host_interface == endpoint.host_interface
            && (&other.namespace, &other.pod) != (&endpoint.namespace, &endpoint.pod)
    });
    let Some(Endpoint { namespace, pod, host_interface, .. }) = namesake else { return Ok(()) };
    let msg = format!("{host_interface} is the interface of {namespace}/{pod}: rename this pod");
    Err(Error::new(Code::Refused, msg))
}
