//! The kernel of this node, by netlink only: no program is ever executed.

mod addresses;
pub mod conntrack;
pub mod links;
mod monitor;
mod nft;
mod routes;
mod rtnetlink;
mod socket;
pub mod sysctl;

pub use monitor::{Event, Monitor};
pub use nft::Nft;
pub use routes::KernelRoutes;

use std::{collections::BTreeMap, net::IpAddr};

use super::{Change, Dataplane, Outcome, PodEnds, Resolved, State, WantedWays};
use crate::nft::{Counted, Name};
use sysctl::{ReversePath, Setting};

/// The dataplane that is real.
pub struct Kernel {
    nft: Nft,
    routes: KernelRoutes,
}

impl Kernel {
    /// Opens the sockets; `table` is the name of our nftables table. Needs `CAP_NET_ADMIN`, and works in the
    /// network namespace of the calling thread, where it has to stay.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open(table: impl Into<Name>) -> std::io::Result<Self> {
        Ok(Self { nft: Nft::open(table)?, routes: KernelRoutes::open()? })
    }

    /// What our rules have counted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self) -> std::io::Result<Vec<Counted>> {
        self.nft.counters()
    }
}

impl Dataplane for Kernel {
    fn read(&mut self) -> std::io::Result<State> {
        Ok(State { table: self.nft.read()?, routes: self.routes.read()? })
    }

    fn apply(&mut self, change: &Change) -> Outcome {
        let nft = self.nft.commit(&change.nft);
        let routes = if nft.is_ok() { self.routes.apply(&change.routes) } else { Vec::new() };
        Outcome { nft, routes }
    }

    fn resolve(&mut self, address: IpAddr) -> std::io::Result<Option<Resolved>> {
        self.routes.resolve(address)
    }

    fn resolve_beneath(
        &mut self,
        wanted: &WantedWays,
    ) -> std::io::Result<BTreeMap<IpAddr, Resolved>> {
        self.routes.resolve_beneath(wanted)
    }

    fn prepare_node(&mut self) -> Vec<String> {
        apply_settings(&sysctl::for_node())
    }

    fn adopt(&mut self, ends: &PodEnds) -> Vec<String> {
        let settings = |name: &String| sysctl::for_pod_interface(name, ReversePath::NodeDefault);
        let settings: Vec<Setting> = ends.keys().flat_map(settings).collect();
        let mut failures = apply_settings(&settings);
        failures.extend(addresses::set(ends));
        failures
    }

    fn forget(&mut self, address: IpAddr) -> std::io::Result<usize> {
        conntrack::forget(address)
    }
}

fn apply_settings(settings: &[Setting]) -> Vec<String> {
    let failed =
        |setting: &Setting| setting.apply().err().map(|error| format!("{setting}: {error}"));
    settings.iter().filter_map(failed).collect()
}
