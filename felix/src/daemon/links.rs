//! Through which interfaces routers and peers are reached: told to the speaker where its filters ask for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_bgp::rib::filter::Filter;
use ocicat_bgp::speaker::{Config, Links};

use super::Daemon;
use crate::dataplane::{Resolved, WantedWays};

/// What filters ask about interfaces, and what they were told.
#[derive(Debug, Default)]
pub(super) struct AskedLinks {
    /// The addresses of all peers; `None` while no filter asks.
    peers: Option<BTreeSet<IpAddr>>,
    told: Links,
}

impl Daemon {
    /// The addresses to which ways are wanted.
    pub(super) fn wanted_ways(&self) -> WantedWays {
        let mut wanted = self.routes.wanted();
        for peer in self.links_asked.peers.iter().flatten() {
            wanted.entry(*peer).or_default();
        }
        // No chosen route goes by these, and none will before they are reachable again. What was made of them would be,
        // and still is no way to them, though another path has taken its place.
        for hop in &self.unreachable.next_hops {
            let before = self.asked.get(hop).into_iter().flatten();
            wanted.entry(*hop).or_default().extend(before);
        }
        wanted
    }

    /// Notes whether a filter of this configuration asks.
    pub(super) fn follow_filters(&mut self, config: &Config) {
        let ranges = config.ranges.values().map(|range| &range.template);
        let asks = |filter: &Filter| filter.rules.iter().any(|rule| rule.interface.is_some());
        let mut all = config.peers.values().chain(ranges);
        let anybody = all.any(|peer| asks(&peer.import) || asks(&peer.export));
        let peers = config.peers.values().filter(|peer| peer.interface.is_none());
        self.links_asked.peers = anybody.then(|| peers.map(|peer| peer.address).collect());
    }

    /// Tells the speaker what has changed.
    pub(super) fn tell_links(&mut self) {
        let mut links = Links::new();
        if self.links_asked.peers.is_some() {
            let known = self.ways.iter().filter_map(|(to, way)| Some((*to, interface(way)?)));
            links.extend(known);
        }
        if let Some(speaker) = self.speaker.handle().filter(|_| links != self.links_asked.told) {
            self.links_asked.told.clone_from(&links);
            // Its end is noticed by whoever waits for its events.
            let _ = speaker.set_links(links);
        }
    }
}

/// The interface of all hops; `None` where they have several.
fn interface(way: &Resolved) -> Option<Arc<str>> {
    let (first, others) = way.hops.split_first()?;
    let alone = others.iter().all(|hop| hop.interface == first.interface);
    alone.then(|| Arc::clone(&first.interface))
}
