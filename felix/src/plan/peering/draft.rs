//! What a plan of the peers gathers on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_bgp::speaker::{Config, PeerConfig, PeerName, PeerRange};

use super::candidate::Candidate;
use super::password::{Found, Search};
use super::{Abouts, LogLevel, Peering, Routing, Workloads};
use crate::datastore::{Key, calico};
use crate::problem::Problem;
use crate::world::World;

/// The parts of a [`Peering`] that objects add to.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) candidates: Vec<Candidate>,
    pub(super) peers: BTreeMap<PeerName, PeerConfig>,
    pub(super) ranges: BTreeMap<PeerName, PeerRange>,
    pub(super) about: Abouts,
    pub(super) secrets: BTreeSet<String>,
    pub(super) workloads: Workloads,
    pub(super) gateways: BTreeMap<IpAddr, IpAddr>,
    pub(super) problems: Vec<Problem>,
}

impl Draft {
    /// The password that a field of an object asks for.
    pub(super) fn password(
        &mut self,
        world: &World,
        key: &Key,
        field: &str,
        wanted: Option<&calico::Password>,
    ) -> Found {
        let Self { secrets, problems, .. } = self;
        Search { world, key, field, secrets, problems }.find(wanted)
    }

    pub(super) fn finish(
        self,
        config: Option<Config>,
        log: Option<LogLevel>,
        routing: Routing,
    ) -> Peering {
        let Self { about, secrets, workloads, mut problems, .. } = self;
        // A filter that several peers name is read for each of them.
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        Peering { config, about, secrets, routing, workloads, log, problems }
    }
}
