//! ADD: reserve addresses, make the interfaces while the daemon makes the policy, and say so when both are done.
//!
//! The record is on disk before the first step, so whoever comes after a crash, in the middle of any step, knows what
//! may exist. [`Add`] keeps no other memory: dropping it half-way is what kill -9 leaves behind.

use std::path::Path;
use std::time::Duration;

use crate::daemon::{self, CallError, Connection, Detached, RefusalCode, Request};
use crate::endpoint::{Endpoint, Stage, UnixMillis};
use crate::linux::{Kernel, KernelError, NetlinkError, Netns};
use crate::node::{Node, NodeError};
use crate::plan::{self, Side, Step};
use crate::reserve::reserve;
use crate::spec::{Code, Config, Container, Environment, Error, Success};
use crate::store::{Store, StoreError};

/// How long the daemon may take to hear that an endpoint is gone. It also reads the directory when it starts.
pub(crate) const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

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
        let kernel = open_kernel(&container)?;
        let node = Node::read(&config.state)?;
        let connection = Connection::open(&config.socket, config.policy_timeout)?;
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

    /// The steps, all of which are still to be done.
    pub fn steps(&self) -> Vec<Step> {
        plan::attach(&self.endpoint, self.mtu)
    }

    /// Does every step, or undoes those it did. Gives the result, and what the operator should know.
    pub fn run(mut self) -> Result<(Success, Vec<String>), Error> {
        let steps = self.steps();
        for (count, step) in (1..).zip(&steps) {
            if let Err(error) = self.apply(step) {
                // The step that failed may be half done.
                return Err(self.undo(&steps[..count], error));
            }
        }
        match self.success() {
            Ok(success) => {
                self.notes.append(&mut self.kernel.notes);
                Ok((success, self.notes))
            }
            Err(error) => Err(self.undo(&steps, error)),
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
        let stage = locked.store().endpoint(&self.endpoint.id())?.map(|endpoint| endpoint.stage);
        if stage != Some(Stage::Reserved) {
            let what = if stage.is_none() { "deleted" } else { "superseded" };
            let msg = format!("{} was {what} while it was being added", self.endpoint.id());
            return Err(Error::new(Code::TryAgainLater, msg));
        }
        self.endpoint.stage = Stage::Attached;
        Ok(locked.put(&self.endpoint)?)
    }

    fn success(&mut self) -> Result<Success, Error> {
        let Endpoint { host_interface, ifname, netns, addresses, .. } = &self.endpoint;
        let mut mac = |side, name: &str| -> Result<String, Error> {
            self.kernel.mac(side, name)?.ok_or_else(|| {
                Error::new(Code::Plumbing, format!("the interface {name} has disappeared"))
            })
        };
        Ok(Success {
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

/// Opens the node's and the container's side of the kernel.
pub(crate) fn open_kernel(container: &Container) -> Result<Kernel, Error> {
    let Some(path) = &container.netns else {
        return Err(Error::new(Code::InvalidEnvironment, "CNI_NETNS is empty"));
    };
    let netns = Netns::open(path).map_err(|error| {
        let msg = format!("CNI_NETNS {:?} cannot be used: {error}", path.display().to_string());
        Error::new(Code::InvalidEnvironment, msg)
    })?;
    Kernel::open(netns)
        .map_err(|error| Error::new(Code::Io, format!("opening netlink sockets: {error}")))
}

/// Tells the daemon that an endpoint is gone.
pub(crate) fn withdraw(socket: &Path, endpoint: &Endpoint) -> Result<(), CallError> {
    daemon::call(socket, &Request::Detach(endpoint.clone()), WITHDRAW_TIMEOUT).map(|Detached {}| ())
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
