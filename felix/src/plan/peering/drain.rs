//! Taking leave: first every route is told as one that is about to go (RFC 8326), then no longer.

use ocicat_bgp::rib::filter::{Action, Filter, LEAVING, Otherwise, Rule, Source};
use ocicat_bgp::speaker::{Config, DefaultRoute, PeerConfig};

/// How far the leave has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Peers are asked to choose other ways, and still may use ours.
    Announced,
    /// Peers are told nothing any more. Sessions stay up, so that coming back is quick.
    Done,
}

/// Changes what peers are told. No session is touched by it.
pub fn depart(config: &mut Config, departure: Departure) {
    let guests = config.ranges.values_mut().map(|range| &mut range.template);
    for peer in config.peers.values_mut().chain(guests) {
        match departure {
            Departure::Announced => announce(peer),
            Departure::Done => {
                peer.export = Filter::reject_all();
                peer.default_route = DefaultRoute::Ordinary;
            }
        }
    }
}

/// Adds the marks to all that passes, and lets pass what did.
fn announce(peer: &mut PeerConfig) {
    if peer.default_route.is_originated() {
        peer.default_route = DefaultRoute::Leaving;
    }
    for rule in &mut peer.export.rules {
        match &mut rule.action {
            Action::Accept(operations) => operations.extend_from_slice(&LEAVING),
            Action::Reject => {}
        }
    }
    let marked = Rule::any(Action::Accept(LEAVING.to_vec()));
    match peer.export.otherwise {
        Otherwise::Accept => peer.export.rules.push(marked),
        Otherwise::AcceptOwn => {
            peer.export.rules.push(Rule { source: Some(Source::Local), ..marked });
        }
        Otherwise::Reject => {}
    }
}
