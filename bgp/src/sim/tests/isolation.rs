//! A change concerns whom it names: what happens to the session of a peer whose part changed, and that nobody else's
//! session and routes are touched.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use super::*;
use crate::rib::filter::{Action, AnyCommunity, Operation, Rule};
use crate::speaker::{Dial, Multipath, NextHopMode, Password, PeerRestart, Ttl, Verdict};
use crate::wire::{Community, FamilySet, HoldTime};

/// What becomes of the session with the peer that is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    Kept,
    Renewed,
}

/// The one in the middle has a peer on each side.
fn line() -> (Simulation, Config) {
    let configs = configs(&[65001, 65002, 65003], &[(0, 1), (1, 2)]);
    let middle = configs[1].clone();
    (network(1, configs), middle)
}

fn flaps(sim: &Simulation, node: usize, peer: usize) -> u64 {
    let peers = sim.node(node).speaker.peers(sim.now());
    peers.iter().find(|each| each.name == name(peer)).expect("a peer").flaps
}

/// Changes the middle node's peer on the right.
fn change(session: Session, what: &str, change: impl Fn(&mut PeerConfig)) {
    let (mut sim, mut middle) = line();
    change(middle.peers.get_mut(&name(2)).unwrap());
    sim.with(1, |speaker, now| speaker.configure(now, middle));
    sim.run_until_quiet();
    let renewed = flaps(&sim, 1, 2) > 0;
    assert_eq!(renewed, session == Session::Renewed, "{what}");
    assert_eq!(state(&sim, 1, 2), State::Established, "{what}");
    untouched(&sim, what);
}

/// The left node has never lost its session, and knows its neighbour's prefix by it.
fn untouched(sim: &Simulation, what: &str) {
    assert_eq!((flaps(sim, 1, 0), flaps(sim, 0, 1)), (0, 0), "{what}");
    assert_eq!(state(sim, 0, 1), State::Established, "{what}");
    assert!(routes(sim, 0).contains_key(&own(1).to_string()), "{what}");
    assert!(routes(sim, 1).contains_key(&own(0).to_string()), "{what}");
}

#[test]
fn what_can_change_under_way_keeps_even_its_own_session() {
    let kept = |what, then: fn(&mut PeerConfig)| change(Session::Kept, what, then);
    kept("import filter", |peer| peer.import = Filter::reject_all());
    kept("export filter", |peer| peer.export = Filter::own_routes());
    kept("next hop", |peer| peer.next_hop = NextHopMode::Keep);
    kept("own AS allowed", |peer| peer.allow_own_as = 2);
    kept("most prefixes", |peer| peer.max_paths = NonZeroU32::new(1000).map(Into::into));
    kept("keepalive", |peer| peer.keepalive = Some(Duration::from_secs(7)));
    kept("connect retry", |peer| peer.connect_retry = Duration::from_secs(9));
    kept("who dials", |peer| peer.dial = Dial::Active);
}

#[test]
fn what_is_agreed_on_at_the_start_renews_its_own_session_alone() {
    let renewed = |what, then: fn(&mut PeerConfig)| change(Session::Renewed, what, then);
    renewed("password", |peer| peer.password = Password::Key("hunter2".into()));
    renewed("hold time", |peer| peer.hold_time = HoldTime::from_secs(30).unwrap());
    renewed("families", |peer| {
        peer.families = [Family::Ipv4].into_iter().collect::<FamilySet>();
    });
    renewed("hops", |peer| peer.ttl = Ttl::Security(NonZeroU8::MIN));
    renewed("graceful restart", |peer| peer.graceful_restart = PeerRestart::Disabled);
}

#[test]
fn peers_that_come_and_go_touch_no_other() {
    let (mut sim, mut middle) = line();
    let right = middle.peers.remove(&name(2)).unwrap();
    sim.with(1, |speaker, now| speaker.configure(now, middle.clone()));
    sim.run_until_quiet();
    untouched(&sim, "a peer is removed");
    middle.peers.insert(name(2), right);
    middle.peers.insert(name(9), peer(9, 65009));
    sim.with(1, |speaker, now| speaker.configure(now, middle));
    // A peer that never answers leaves no quiet.
    sim.run_for(Duration::from_secs(60));
    assert_eq!(state(&sim, 1, 2), State::Established);
    untouched(&sim, "a peer is added, and one that does not exist");
}

#[test]
fn what_is_the_speakers_own_touches_no_session() {
    type Change = (&'static str, fn(&mut Config));
    let changes: [Change; 4] = [
        ("a prefix more", |config| {
            config.originated.insert(own(77), Originated::default());
        }),
        ("a prefix less", |config| config.originated.clear()),
        ("another attribute", |config| {
            config.originated.values_mut().for_each(|originated| originated.med = Some(7));
        }),
        ("multipath", |config| {
            config.multipath =
                Multipath { ebgp: NonZeroU8::MIN, ibgp: NonZeroU8::MIN, ..config.multipath };
        }),
    ];
    for (what, change) in changes {
        let (mut sim, mut middle) = line();
        change(&mut middle);
        sim.with(1, |speaker, now| speaker.configure(now, middle));
        sim.run_until_quiet();
        assert_eq!((flaps(&sim, 1, 0), flaps(&sim, 1, 2)), (0, 0), "{what}");
    }
}

#[test]
fn a_peer_that_announces_its_leave_is_the_last_choice_and_no_session_ends() {
    let configs = configs(&[65001, 65002, 65003], &[(0, 2), (1, 2)]);
    let mut leaving = configs[0].clone();
    let mut sim = network(1, configs);
    for node in [0, 1] {
        sim.with(node, |speaker, now| speaker.originate(now, own(77), &Originated::default()));
    }
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 2)[&own(77).to_string()].len(), 2);
    // RFC 8326 §5: 65535:0.
    let mark = Operation::AddCommunity(AnyCommunity::Standard(Community(0xFFFF_0000)));
    let rules = vec![Rule::any(Action::Accept(vec![mark]))];
    leaving.peers.get_mut(&name(2)).unwrap().export = Filter { rules, ..Filter::reject_all() };
    sim.with(0, |speaker, now| speaker.configure(now, leaving));
    sim.run_until_quiet();
    assert_eq!(routes(&sim, 2)[&own(77).to_string()], ["10.0.0.2"]);
    assert_eq!(routes(&sim, 2)[&own(0).to_string()], ["10.0.0.1"], "the only way stays in use");
    let route = sim.node(2).speaker.route(own(77)).unwrap();
    let marked = route.paths.iter().find(|path| path.peer == Some(name(0))).unwrap();
    assert_eq!(marked.attributes.local_pref, 0);
    assert!(matches!(marked.verdict, Verdict::Lost(_)), "{:?}", marked.verdict);
    assert_eq!((flaps(&sim, 2, 0), flaps(&sim, 2, 1)), (0, 0));
}
