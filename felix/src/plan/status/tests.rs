use std::sync::Arc;

use ocicat_bgp::speaker::MessageCounts;
use ocicat_bgp::wire::PeerKind;

use super::*;
use crate::dataplane::RouteKey;
use crate::plan::peering::About;

const ALL: [Class; 3] = [Class::Agent, Class::Bgp, Class::Routes];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn peer(name: &str, address: &str, state: State, age: Duration) -> PeerSnapshot {
    PeerSnapshot {
        name: PeerName::from(name),
        address: address.parse().unwrap(),
        interface: None,
        remote_as: Some(64512),
        kind: PeerKind::Internal,
        state,
        since: age,
        flaps: 0,
        last_error: None,
        connect_error: None,
        negotiated: None,
        families: Vec::new(),
        conditions: Vec::new(),
        faults: 0,
        last_fault: None,
        received: MessageCounts::default(),
        sent: MessageCounts::default(),
        timers: Vec::new(),
    }
}

fn abouts() -> Abouts {
    let about = |group, nodes| About {
        origin: String::new(),
        group,
        nodes,
        held: None,
        rules: Arc::default(),
    };
    let mut abouts = Abouts::default();
    for (name, group, nodes) in [
        ("mesh-n2", PeerGroup::Mesh, Nodes::All),
        ("tor", PeerGroup::Configured, Nodes::Selected),
        ("spine", PeerGroup::Configured, Nodes::All),
    ] {
        abouts.insert(PeerName::from(name), about(group, nodes));
    }
    abouts
}

fn leg(destination: &str, gateway: &str, origin: LegOrigin, in_kernel: bool) -> KnownLeg {
    let destination = destination.parse().unwrap();
    let leg = Leg {
        destination,
        gateway: Some(gateway.parse().unwrap()),
        interface: Some("eth0".into()),
        origin,
        place: RouteKey { destination, metric: 20 },
    };
    KnownLeg { leg, in_kernel }
}

/// The status of a node with these peers and legs at a time.
fn seen(
    now: Timestamp,
    peers: &[PeerSnapshot],
    legs: &[KnownLeg],
    stored: Option<&NodeStatus>,
) -> NodeStatus {
    let agent = AgentFacts {
        ready: true,
        booted: at(-100),
        configured: Some(at(-50)),
        router_id: Some(Ipv4Addr::new(172, 16, 1, 10)),
        families: vec![Family::Ipv4],
    };
    let about = abouts();
    let facts = Facts { now, agent: &agent, peers, about: &about, legs };
    status(&ALL, &facts, stored)
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_status_names_peers_and_routes_as_calico_does() {
    let peers = [
        peer("tor", "172.16.1.1", State::Established, MINUTE),
        peer("mesh-n2", "172.16.2.10", State::Connect, MINUTE),
        peer("spine", "2001:db8::1", State::Established, MINUTE),
    ];
    let from_tor = LegOrigin::Peer(PeerName::from("tor"));
    let legs = [
        leg("10.65.1.2/32", "10.65.1.2", LegOrigin::Pod, true),
        leg("0.0.0.0/0", "172.16.1.1", from_tor, false),
    ];
    let status = serde_json::to_value(seen(at(0), &peers, &legs, None)).unwrap();
    assert_eq!(
        status,
        serde_json::json!({
            "lastUpdated": "2026-01-01T00:00:00Z",
            "agent": {
                "birdV4": {
                    "state": "Ready",
                    "version": concat!("ocicat ", env!("CARGO_PKG_VERSION")),
                    "lastBootTime": "2025-12-31T23:58:20Z",
                    "lastReconfigurationTime": "2025-12-31T23:59:10Z",
                    "routerID": "172.16.1.10",
                },
                "birdV6": null,
            },
            "bgp": {
                "numberEstablishedV4": 1, "numberNotEstablishedV4": 1,
                "numberEstablishedV6": 1, "numberNotEstablishedV6": 0,
                "peersV4": [
                    { "peerIP": "172.16.2.10", "type": "NodeMesh", "state": "Connect", "since": "2025-12-31T23:59:00Z" },
                    { "peerIP": "172.16.1.1", "type": "NodePeer", "state": "Established", "since": "2025-12-31T23:59:00Z" },
                ],
                "peersV6": [
                    { "peerIP": "2001:db8::1", "type": "GlobalPeer", "state": "Established", "since": "2025-12-31T23:59:00Z" },
                ],
            },
            "routes": {
                "routesV4": [
                    { "type": "FIB", "destination": "10.65.1.2/32", "gateway": "10.65.1.2", "interface": "eth0",
                      "learnedFrom": { "sourceType": "Direct" } },
                    { "type": "RIB", "destination": "0.0.0.0/0", "gateway": "172.16.1.1", "interface": "eth0",
                      "learnedFrom": { "sourceType": "BGPPeer", "peerIP": "172.16.1.1" } },
                ],
                "routesV6": [],
            },
        })
    );
}

#[test]
fn what_was_not_asked_for_is_taken_away() {
    let about = Abouts::default();
    let agent = AgentFacts {
        ready: false,
        booted: at(0),
        configured: None,
        router_id: None,
        families: Vec::new(),
    };
    let facts = Facts { now: at(0), agent: &agent, peers: &[], about: &about, legs: &[] };
    let stored = seen(at(0), &[], &[], None);
    let bgp_alone = status(&[Class::Bgp], &facts, Some(&stored));
    assert!(bgp_alone.agent.is_none() && bgp_alone.routes.is_none());
    assert!(is_news(&bgp_alone, Some(&stored)));
}

#[test]
fn time_alone_is_no_news() {
    let at_first = [peer("tor", "172.16.1.1", State::Established, MINUTE)];
    let first = seen(at(0), &at_first, &[], None);
    assert!(is_news(&first, None));
    // The speaker's clock and ours were read a little apart.
    let later = [peer("tor", "172.16.1.1", State::Established, Duration::from_millis(69_200))];
    let second = seen(at(10), &later, &[], Some(&first));
    assert_eq!(second.bgp, first.bgp);
    assert!(!is_news(&second, Some(&first)));
    // A session that fell and came back is news, though it stands as before.
    let anew = [peer("tor", "172.16.1.1", State::Established, Duration::from_secs(3))];
    assert!(is_news(&seen(at(20), &anew, &[], Some(&first)), Some(&first)));
}

#[test]
fn the_attempts_of_a_peer_that_does_not_answer_are_no_news_and_its_fall_is() {
    let state = |state, age| [peer("tor", "172.16.1.1", state, Duration::from_secs(age))];
    let up = seen(at(0), &state(State::Established, 60), &[], None);
    let down = seen(at(10), &state(State::Idle, 1), &[], Some(&up));
    assert!(is_news(&down, Some(&up)));
    for (seconds, next) in [(20, State::Connect), (30, State::Active), (40, State::Idle)] {
        let next = seen(at(seconds), &state(next, 2), &[], Some(&down));
        assert!(!is_news(&next, Some(&down)), "{next:?}");
    }
}

#[test]
fn a_route_that_left_the_kernel_is_news() {
    let by_tor = || LegOrigin::Peer(PeerName::from("tor"));
    let first = seen(at(0), &[], &[leg("10.0.0.0/8", "172.16.1.1", by_tor(), true)], None);
    let then = [leg("10.0.0.0/8", "172.16.1.1", by_tor(), false)];
    assert!(is_news(&seen(at(1), &[], &then, Some(&first)), Some(&first)));
}

#[test]
fn very_many_peers_are_all_counted_and_those_without_a_session_are_listed_first() {
    let mut peers: Vec<PeerSnapshot> = (0..PEERS_MAX)
        .map(|number| {
            let address = format!("10.0.{}.{}", number / 250, number % 250 + 1);
            peer(&format!("peer-{number:04}"), &address, State::Established, MINUTE)
        })
        .collect();
    peers.push(peer("zebra", "172.16.9.9", State::Active, MINUTE));
    let bgp = seen(at(0), &peers, &[], None).bgp.unwrap();
    assert_eq!((bgp.established_ipv4, bgp.not_established_ipv4), (PEERS_MAX, 1));
    assert_eq!(bgp.ipv4.len(), PEERS_MAX);
    assert_eq!(bgp.ipv4[0].address, "172.16.9.9");
}

#[test]
fn the_period_is_calicos() {
    let spec = |update_period_seconds| CalicoNodeStatusSpec {
        update_period_seconds,
        ..CalicoNodeStatusSpec::default()
    };
    assert_eq!(period(&spec(None)), Some(Duration::from_secs(10)));
    assert_eq!(period(&spec(Some(0))), None);
    assert_eq!(period(&spec(Some(u32::MAX))), Some(LONGEST_PERIOD));
}
