//! Taking leave: first every route is told as one that is about to go (RFC 8326), then no longer.

use ocicat_bgp::rib::filter::{Action, AnyCommunity, Filter, Operation, Otherwise, Rule, Source};
use ocicat_bgp::speaker::{Config, PeerConfig};
use ocicat_bgp::wire::Community;

/// RFC 8326 §5: 65535:0.
const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);

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
    // RFC 8326 §4.2: within the AS the local preference says it; another AS never sees that. Which of the two a peer is may
    // be known by its OPEN alone.
    let marks = [
        Operation::AddCommunity(AnyCommunity::Standard(GRACEFUL_SHUTDOWN)),
        Operation::SetLocalPref(0),
    ];
    let guests = config.ranges.values_mut().map(|range| &mut range.template);
    for peer in config.peers.values_mut().chain(guests) {
        match departure {
            Departure::Announced => announce(peer, &marks),
            Departure::Done => peer.export = Filter::reject_all(),
        }
    }
}

/// Adds the marks to all that passes, and lets pass what did.
fn announce(peer: &mut PeerConfig, marks: &[Operation]) {
    for rule in &mut peer.export.rules {
        match &mut rule.action {
            Action::Accept(operations) => operations.extend_from_slice(marks),
            Action::Reject => {}
        }
    }
    let marked = Rule::any(Action::Accept(marks.to_vec()));
    match peer.export.otherwise {
        Otherwise::Accept => peer.export.rules.push(marked),
        Otherwise::AcceptOwn => {
            peer.export.rules.push(Rule { source: Some(Source::Local), ..marked });
        }
        Otherwise::Reject => {}
    }
}
