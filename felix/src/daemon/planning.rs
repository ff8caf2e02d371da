//! From what became dirty to what should be.

use ocicat_cni::node::Node as NodeFile;
use tracing::{info, warn};

use super::{Daemon, Phase};
use crate::plan::nat;
use crate::plan::ruleset::Ruleset;

impl Daemon {
    /// Plans what became dirty, and has it applied.
    pub(super) fn advance(&mut self) {
        if self.phase == Phase::Starting {
            let unread = self.writer.is_some() && self.mirror.is_none();
            if !self.datastore_synced || unread || self.awaits_services() {
                self.advance_writer();
                return;
            }
            self.begin();
        }
        let changes = self.world.index.flush();
        let dirty = self.world.take_dirty();
        if self.writer.is_some() && !(changes.is_empty() && dirty.interfaces.is_empty()) {
            let update = self.ruleset.update(&self.world, &changes, &dirty.interfaces);
            self.pending.rules(update);
        }
        if dirty.nat {
            self.plan_nat();
        }
        if dirty.peering {
            self.plan_peering();
        }
        if dirty.node_statuses {
            self.report_statuses();
        }
        if dirty.own_node {
            self.write_node_file();
            self.follow_node_drain();
        }
        if dirty.own_node || !dirty.interfaces.is_empty() {
            self.plan_routes();
        }
        self.count_world();
        if self.pending.is_quiet() {
            // Nothing of what came concerns the kernel.
            self.dirty_since = None;
        }
        self.advance_writer();
    }

    /// Everything is known for the first time.
    fn begin(&mut self) {
        self.phase = Phase::Running;
        self.world.index.flush();
        self.world.take_dirty();
        self.ruleset = Ruleset::from_scratch(&self.world);
        self.pending.compare_rules();
        self.pending.prepare();
        self.plan_nat();
        self.write_node_file();
        self.plan_routes();
        self.pending.compare_routes();
        self.resume_drain();
        self.plan_peering();
        self.report_statuses();
        for interface in self.world.interfaces().keys() {
            self.pending.adopt((*interface).to_owned());
        }
        let nodes = self.world.nodes.len();
        info!(node = self.world.name(), nodes, pods = self.world.interfaces().len(), "running");
    }

    fn plan_nat(&mut self) {
        let (table, problems) = nat::plan(&self.world);
        self.set_plan_problems("nat", problems);
        if self.ruleset.set_nat(table) {
            self.pending.compare_rules();
        }
    }

    /// Follows our pods and our ranges.
    fn plan_routes(&mut self) {
        if self.writer.is_some() {
            let places = self.routes.follow_world(&self.world);
            self.pending.routes_at(places);
        }
    }

    /// Has the kernel asked about next hops that were not asked about yet, or not without the routes that are now made of
    /// them.
    pub(super) fn find_ways(&mut self) {
        let wanted = self.wanted_ways();
        if wanted.iter().any(|(hop, made_of_it)| self.asked.get(hop) != Some(made_of_it)) {
            self.pending.resolve();
        }
    }

    /// Tells the plugin where addresses come from.
    pub(super) fn write_node_file(&mut self) {
        let Some(node) = self.world.own_node() else { return };
        if self.writer.is_none() {
            return;
        }
        let file = NodeFile {
            node: node.name.clone(),
            pod_cidrs: node.pod_cidrs.clone(),
            mtu: self.mtu.unwrap_or(FALLBACK_MTU),
            ipv6: std::path::Path::new("/proc/sys/net/ipv6").exists(),
        };
        match file.write(self.state_dir()) {
            Ok(()) => {
                self.failures.remove("node file");
                info!(
                    ranges = first_few(&file.pod_cidrs),
                    mtu = file.mtu,
                    "pods get addresses from"
                );
            }
            Err(problem) => {
                let line = format!("{}: node.json: {problem}", self.state_dir().display());
                warn!(line, "pods cannot be attached");
                self.failures.insert("node file", vec![line]);
            }
        }
    }
}

/// The first few of a list that may be long, and how many there are.
fn first_few(all: &[impl ToString]) -> String {
    let few: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    let few = few.join(", ");
    if all.len() > SHOWN { format!("{few}, ... ({} in all)", all.len()) } else { few }
}

/// So many ranges are named in the log.
const SHOWN: usize = 4;

/// Ethernet's, where no link says otherwise.
const FALLBACK_MTU: u32 = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_ranges_the_first_few_are_named() {
        assert_eq!(first_few(&["10.0.0.0/24", "fd00::/64"]), "10.0.0.0/24, fd00::/64");
        let many: Vec<u32> = (1..=300).collect();
        assert_eq!(first_few(&many), "1, 2, 3, 4, ... (300 in all)");
    }
}
