//! ADD: reserve addresses, make the interfaces while the daemon makes the policy, and say so when both are done.
//!
//! The record is on disk before the first step, so whoever comes after a crash, in the middle of any step, knows what
//! may exist. [`Add`] keeps no other memory: dropping it half-way is what kill -9 leaves behind.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::daemon::{self, CallError, Connection, Detached, RefusalCode, Request};
use crate::endpoint::{Endpoint, Stage, UnixMillis, host_interface};
use crate::ipam::Pool;
use crate::linux::{Kernel, KernelError, NetlinkError, Netns};
use crate::node::{Node, NodeError};
use crate::plan::{self, Side, Step};
use crate::spec::{Attached, Code, Config, Container, Environment, Error, PodName};
use crate::store::{LockedStore, Store, StoreError};

/// How long the daemon may take to hear that an endpoint is gone. It also reads the directory when it starts.
pub(crate) const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an address should have been idle before another pod gets it. Less is reported, not refused.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// An ADD under way.
pub struct Add {
    endpoint: Endpoint,
    mtu: u32,
    config: Config,
    store: Store,
    kernel: Kernel,
    /// Until the policy is there, or was refused.
    connection: Option<Connection>,
    notes: Vec<String>,
}

impl Add {
    /// Checks the request, connects to the daemon and reserves addresses. No interface exists yet.
    pub fn begin(environment: &Environment, config: &Config) -> Result<Self, Error> {
        let container = environment.container()?;
        let pod = environment.pod()?;
        if config.previous.is_some() {
            let msg =
                "prevResult is set: ocicat-cni makes the interface and must be first in its list";
            return Err(Error::new(Code::InvalidConfig, msg));
        }
        let netns = open_netns(&container)?;
        let node = Node::read(&config.state)?;
        let connection = Connection::open(&config.socket, config.policy_timeout)?;
        let kernel = Kernel::open(netns)
            .map_err(|error| Error::new(Code::Io, format!("opening netlink sockets: {error}")))?;
        let store = Store::open(&config.state)?;
        let mut notes = Vec::new();
        let endpoint = reserve(&store.lock()?, &node, &container, pod, &mut notes)?;
        Ok(Self {
            endpoint,
            mtu: config.mtu.unwrap_or(node.mtu),
            config: config.clone(),
            store,
            kernel,
            connection: Some(connection),
            notes,
        })
    }

    /// What is left to do.
    pub fn steps(&self) -> Vec<Step> {
        plan::attach(&self.endpoint, self.mtu)
    }

    /// Does every step, or undoes those it did.
    pub fn run(mut self) -> Result<(Attached, Vec<String>), Error> {
        let mut done = Vec::new();
        for step in self.steps() {
            if let Err(error) = self.apply(&step) {
                return Err(self.undo(&done, error));
            }
            done.push(step);
        }
        match self.attached() {
            Ok(attached) => {
                self.notes.append(&mut self.kernel.notes);
                Ok((attached, self.notes))
            }
            Err(error) => Err(self.undo(&done, error)),
        }
    }

    /// Does one step.
    pub fn apply(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Kernel(change) => Ok(self.kernel.apply(change)?),
            Step::Announce(_) => {
                let request = Request::Attach(self.endpoint.clone());
                self.connection.as_mut().map_or(Ok(()), |daemon| Ok(daemon.send(&request)?))
            }
            Step::Withdraw(_) => Ok(withdraw(&self.config.socket, &self.endpoint)?),
            Step::AwaitPolicy(_) => self.await_policy(),
            Step::Commit(_) => self.commit(),
        }
    }

    fn await_policy(&mut self) -> Result<(), Error> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let answer: daemon::Attached = connection.receive()?;
        if answer.enforced {
            return Ok(());
        }
        Err(Error::new(Code::TryAgainLater, "the ocicat daemon does not enforce the pod's policy"))
    }

    /// The record may be gone: a runtime that lost its patience has sent a DEL meanwhile.
    fn commit(&mut self) -> Result<(), Error> {
        let locked = self.store.lock()?;
        if locked.store().endpoint(&self.endpoint.id())?.is_none() {
            let msg = format!("{} was deleted while it was being added", self.endpoint.id());
            return Err(Error::new(Code::TryAgainLater, msg));
        }
        self.endpoint.stage = Stage::Attached;
        Ok(locked.put(&self.endpoint)?)
    }

    fn attached(&mut self) -> Result<Attached, Error> {
        let Endpoint { host_interface, ifname, netns, addresses, .. } = &self.endpoint;
        let mut mac = |side, name: &str| -> Result<String, Error> {
            self.kernel.mac(side, name)?.ok_or_else(|| {
                Error::new(Code::Plumbing, format!("the interface {name} has disappeared"))
            })
        };
        Ok(Attached {
            host_mac: mac(Side::Node, host_interface)?,
            mac: mac(Side::Pod, ifname)?,
            host_interface: host_interface.clone(),
            ifname: ifname.clone(),
            mtu: self.mtu,
            netns: netns.into(),
            addresses: addresses.clone(),
            dns: self.config.dns.clone(),
        })
    }

    /// Takes back what was done, last first, and gives the addresses back. If something stays, so does the record, and
    /// DEL or GC ends it.
    fn undo(&mut self, done: &[Step], error: Error) -> Error {
        let mut left = Vec::new();
        for step in done.iter().rev().filter_map(Step::undo) {
            match (self.apply(&step), &step) {
                // The daemon is often why the ADD failed. It reads the directory when it comes back.
                (Ok(()), _) | (Err(_), Step::Withdraw(_)) => {}
                (Err(failure), _) => left.push(failure.msg),
            }
        }
        if left.is_empty() {
            let Endpoint { addresses, .. } = &self.endpoint;
            let release = || -> Result<(), StoreError> {
                self.store.lock()?.release(&self.endpoint.id(), addresses, UnixMillis::now())
            };
            left.extend(release().err().map(|failure| failure.to_string()));
        }
        if left.is_empty() {
            error
        } else {
            error.with_details(format!("left over: {}", left.join("; ")))
        }
    }
}

/// Opens the container's network namespace.
pub(crate) fn open_netns(container: &Container) -> Result<Netns, Error> {
    let Some(path) = &container.netns else {
        return Err(Error::new(Code::InvalidEnvironment, "CNI_NETNS is empty"));
    };
    Netns::open(path).map_err(|error| {
        let msg = format!("CNI_NETNS {:?} cannot be used: {error}", path.display().to_string());
        Error::new(Code::InvalidEnvironment, msg)
    })
}

/// Tells the daemon that an endpoint is gone.
pub(crate) fn withdraw(socket: &Path, endpoint: &Endpoint) -> Result<(), CallError> {
    daemon::call(socket, &Request::Detach(endpoint.clone()), WITHDRAW_TIMEOUT).map(|Detached {}| ())
}

fn reserve(
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
    let mut cidrs = node.pod_cidrs.clone();
    cidrs.retain(|cidr| cidr.addr().is_ipv4() || node.ipv6);
    let fits = |endpoint: &Endpoint| {
        endpoint.addresses.iter().all(|address| cidrs.iter().any(|cidr| cidr.contains(address)))
    };
    let left = records.endpoints.iter().find(|endpoint| endpoint.id() == container.id());
    let addresses = match left {
        Some(endpoint) if endpoint.stage == Stage::Attached => {
            let msg = format!("{} is attached already", endpoint.id());
            return Err(Error::new(Code::AlreadyAttached, msg));
        }
        Some(endpoint) if fits(endpoint) => {
            notes.push(format!("went on with what an interrupted ADD of {} left", endpoint.id()));
            endpoint.addresses.clone()
        }
        Some(_) | None => {
            let (used, released) = (records.addresses(), locked.store().released());
            let pool =
                Pool { cidrs: &cidrs, used: &used, released: &released, now: UnixMillis::now() };
            allocate(&pool, notes)?
        }
    };
    let endpoint = Endpoint {
        host_interface: host_interface(&pod.namespace, &pod.name, &container.ifname),
        namespace: pod.namespace,
        pod: pod.name,
        uid: pod.uid,
        container_id: container.id.clone(),
        netns: container.netns.iter().map(|path| path.display().to_string()).collect(),
        ifname: container.ifname.clone(),
        addresses,
        created: UnixMillis::now(),
        stage: Stage::Reserved,
    };
    let namesake = records.endpoints.iter().find(|other| {
        other.host_interface == endpoint.host_interface
            && (&other.namespace, &other.pod) != (&endpoint.namespace, &endpoint.pod)
    });
    if let Some(Endpoint { namespace, pod, host_interface, .. }) = namesake {
        // 44 bits of a hash: not to be expected, but the other pod would lose its interface without a word.
        let msg =
            format!("{host_interface} is the interface of {namespace}/{pod}: rename this pod");
        return Err(Error::new(Code::Refused, msg));
    }
    locked.put(&endpoint)?;
    Ok(endpoint)
}

fn allocate(pool: &Pool<'_>, notes: &mut Vec<String>) -> Result<Vec<IpAddr>, Error> {
    if pool.cidrs.is_empty() {
        return Err(Error::new(Code::TryAgainLater, "node.json has no pod CIDR"));
    }
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

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        let code = match error {
            NodeError::Missing { .. } => Code::TryAgainLater,
            NodeError::Unreadable { .. } => Code::Io,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(Code::Io, error.to_string())
    }
}

impl From<NetlinkError> for Error {
    fn from(error: NetlinkError) -> Self {
        Self::new(Code::Plumbing, error.to_string())
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        Self::new(Code::Plumbing, error.to_string())
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Unreachable { .. }
            | CallError::TimedOut { .. }
            | CallError::Broken { .. } => Code::TryAgainLater,
            CallError::Refused(refusal) => match refusal.code {
                RefusalCode::NotReady | RefusalCode::Failed => Code::TryAgainLater,
                RefusalCode::Invalid => Code::Refused,
            },
        };
        Self::new(code, error.to_string())
    }
}
