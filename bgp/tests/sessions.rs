//! Whole speakers with real sockets on the loopback interface: no root, no fixed port, no sleep.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ocicat_bgp::net::{self, Event, Goodbye, Running};
use ocicat_bgp::session::State;
use ocicat_bgp::speaker::{Config, Dial, DownReason, EndedBy, Originated, PeerConfig, Start};
use ocicat_bgp::wire::{Family, Prefix};
use tokio::time::timeout;

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// AS 65001 on 127.0.0.1: listens on a port of the system's choice and waits to be dialled.
fn left() -> Config {
    let mut config = Config::new(NonZeroU32::new(65001).unwrap(), Ipv4Addr::new(10, 0, 0, 1));
    config.listen = vec![SocketAddr::new(LEFT, 0)];
    config.own_ipv6 = Some("2001:db8::1".parse().unwrap());
    let peer = PeerConfig::new(RIGHT, NonZeroU32::new(65002).unwrap());
    config.peers.insert("right".into(), PeerConfig { dial: Dial::Passive, ..peer });
    originate(&mut config, &["10.1.0.0/16", "2001:db8:1::/48"]);
    config
}

/// AS 65002 on 127.0.0.2: dials.
fn right(port: u16) -> Config {
    let mut config = Config::new(NonZeroU32::new(65002).unwrap(), Ipv4Addr::new(10, 0, 0, 2));
    config.own_ipv6 = Some("2001:db8::2".parse().unwrap());
    let peer = PeerConfig::new(LEFT, NonZeroU32::new(65001).unwrap());
    let peer = PeerConfig { dial: Dial::Active, port, source: Some(RIGHT), ..peer };
    config.peers.insert("left".into(), peer);
    originate(&mut config, &["10.2.0.0/16", "2001:db8:2::/48"]);
    config
}

fn originate(config: &mut Config, prefixes: &[&str]) {
    config.originated.extend(prefixes.iter().map(|text| (p(text), Originated::default())));
}

/// A speaker and what it has told us and nobody has looked at yet.
struct Node {
    running: Running,
    heard: Vec<Event>,
}

impl Node {
    fn start(config: Config) -> Self {
        Self { running: net::spawn(config).unwrap(), heard: Vec::new() }
    }

    /// Takes events until `wanted` gives something; returns it with the events before it.
    async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> (T, Vec<Event>) {
        let mut before = Vec::new();
        loop {
            for (n, event) in self.heard.iter().enumerate() {
                if let Some(found) = wanted(event) {
                    let rest = self.heard.split_off(n + 1);
                    before.extend(std::mem::replace(&mut self.heard, rest));
                    return (found, before);
                }
            }
            before.append(&mut self.heard);
            let batch = timeout(PATIENCE, self.running.events.recv()).await;
            self.heard =
                batch.unwrap_or_else(|_| panic!("still waiting after {before:#?}")).unwrap();
        }
    }

    async fn port(&mut self) -> u16 {
        let listening = |event: &Event| {
            if let Event::Listening { local, .. } = event { Some(local.port()) } else { None }
        };
        self.until(listening).await.0
    }

    async fn up(&mut self) -> Vec<Event> {
        let up = |event: &Event| {
            if let Event::PeerStateChanged { new: State::Established, .. } = event {
                Some(())
            } else {
                None
            }
        };
        self.until(up).await.1
    }

    /// Why the session went down.
    async fn down(&mut self) -> DownReason {
        let down = |event: &Event| {
            if let Event::PeerStateChanged { old: State::Established, reason, .. } = event {
                Some((**reason.as_ref().expect("a session goes down for a reason")).clone())
            } else {
                None
            }
        };
        self.until(down).await.0
    }

    /// The next hop of a prefix, once it is heard of.
    async fn route(&mut self, prefix: &str) -> IpAddr {
        let prefix = p(prefix);
        let heard = |event: &Event| {
            if let Event::RouteChanged(route) = event
                && route.prefix == prefix
            {
                Some(route.next_hops[0].address)
            } else {
                None
            }
        };
        self.until(heard).await.0
    }

    async fn withdrawn(&mut self, prefix: &str) {
        let prefix = p(prefix);
        let gone = |event: &Event| (*event == Event::RouteWithdrawn(prefix)).then_some(());
        self.until(gone).await;
    }

    async fn synced(&mut self, family: Family) -> Vec<Event> {
        self.until(|event| (*event == Event::Synced(family)).then_some(())).await.1
    }

    fn stop(self, goodbye: Goodbye) {
        self.running.handle.stop(goodbye).unwrap();
        self.running.thread.join().unwrap();
    }
}

#[tokio::test]
async fn routes_of_both_families_go_both_ways_and_away_again() {
    let mut left = Node::start(left());
    let mut right = Node::start(right(left.port().await));
    assert_eq!(left.route("10.2.0.0/16").await, RIGHT);
    assert_eq!(left.route("2001:db8:2::/48").await, "2001:db8::2".parse::<IpAddr>().unwrap());
    assert_eq!(right.route("10.1.0.0/16").await, LEFT);
    assert_eq!(right.route("2001:db8:1::/48").await, "2001:db8::1".parse::<IpAddr>().unwrap());

    let handle = &right.running.handle;
    handle.originate(p("10.3.0.0/16"), Originated::default()).unwrap();
    assert_eq!(left.route("10.3.0.0/16").await, RIGHT);
    handle.withdraw(p("10.2.0.0/16")).unwrap();
    left.withdrawn("10.2.0.0/16").await;

    let peers = left.running.handle.peers().await.unwrap();
    assert_eq!((peers[0].state, peers[0].remote_as), (State::Established, Some(65002)));
    let routes = left.running.handle.routes(Family::Ipv4).await.unwrap();
    let mut prefixes: Vec<_> = routes.iter().map(|route| route.prefix).collect();
    prefixes.sort_unstable();
    assert_eq!(prefixes, [p("10.1.0.0/16"), p("10.3.0.0/16")]);
    let stranger = "192.0.2.1".parse().unwrap();
    let prefixes = |texts: &[&str]| texts.iter().map(|text| p(text)).collect::<BTreeSet<_>>();
    let hops =
        [(RIGHT, prefixes(&["10.3.0.0/16", "10.9.0.0/16"])), (stranger, prefixes(&[]))].into();
    let unused = left.running.handle.unused_next_hops(hops).await.unwrap();
    assert_eq!(unused.by_all, [stranger].into());
    assert_eq!(unused.by_some, [(RIGHT, prefixes(&["10.9.0.0/16"]))].into());
    let route = left.running.handle.route(p("10.3.0.0/16")).await.unwrap().unwrap();
    assert_eq!(route.paths[0].attributes.as_path, "65002");
}

#[tokio::test]
async fn a_cease_tells_the_peer_why_and_takes_the_routes_along() {
    let mut left = Node::start(left());
    let mut right = Node::start(right(left.port().await));
    left.route("10.2.0.0/16").await;
    right.up().await;
    right.stop(Goodbye::Cease("rack 4 moves".into()));
    let reason = left.down().await;
    assert_eq!(reason.by, EndedBy::Peer);
    assert!(reason.text.contains("rack 4 moves"), "{reason}");
    left.withdrawn("10.2.0.0/16").await;
}

#[tokio::test]
async fn a_restart_takes_no_route_away() {
    let mut left = Node::start(left());
    let port = left.port().await;
    let mut first = Node::start(right(port));
    left.route("10.2.0.0/16").await;
    left.route("2001:db8:2::/48").await;
    first.up().await;
    first.stop(Goodbye::Restart);
    assert_eq!(left.down().await.by, EndedBy::Transport);

    let mut config = right(port);
    config.graceful_restart.start = Start::Restarting;
    let mut second = Node::start(config);
    for family in [Family::Ipv4, Family::Ipv6] {
        second.synced(family).await;
    }
    let before = left.up().await;
    // What follows the restarted speaker's End-of-RIB comes after what it announces now.
    second.running.handle.originate(p("10.9.0.0/16"), Originated::default()).unwrap();
    let last = p("10.9.0.0/16");
    let marker = |event: &Event| {
        if let Event::RouteChanged(route) = event
            && route.prefix == last
        {
            Some(())
        } else {
            None
        }
    };
    let ((), after) = left.until(marker).await;
    let withdrawn = |event: &&Event| matches!(event, Event::RouteWithdrawn(_));
    assert_eq!(before.iter().chain(&after).find(withdrawn), None);
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_tried_again() {
    let occupant = std::net::TcpListener::bind((LEFT, 0)).unwrap();
    let address = occupant.local_addr().unwrap();
    let mut config = left();
    config.listen = vec![address];
    let mut node = Node::start(config);
    let failed = |event: &Event| {
        if let Event::ListenFailed { address, error } = event {
            Some((*address, error.clone()))
        } else {
            None
        }
    };
    let ((reported, error), _) = node.until(failed).await;
    assert_eq!(reported, address);
    assert!(error.contains("in use"), "{error}");
    drop(occupant);
    assert_eq!(node.port().await, address.port());
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let mut config = left();
    config.peers.clear();
    let mut node = Node::start(config);
    let address = SocketAddr::new(LEFT, node.port().await);
    let stranger = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut octet = [0];
    let read = async {
        stranger.readable().await.unwrap();
        stranger.try_read(&mut octet)
    };
    // Closed, in good order or by a reset: nothing is said.
    let said = timeout(PATIENCE, read).await.unwrap().unwrap_or(0);
    assert_eq!(said, 0);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_thread() {
    let node = Node::start(left());
    let Running { handle, thread, events } = node.running;
    drop(handle);
    thread.join().unwrap();
    drop(events);
}

#[tokio::test]
async fn connections_that_nobody_takes_are_counted_by_reason() {
    let mut config = left();
    config.peers.values_mut().for_each(|peer| peer.dial = Dial::Active);
    let mut node = Node::start(config);
    let port = node.port().await;
    let target = SocketAddr::new(LEFT, port);
    for from in [RIGHT, IpAddr::from([127, 0, 0, 3]), IpAddr::from([127, 0, 0, 3])] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let mut stream = socket.connect(target).await.unwrap();
        // The end of the connection comes after it was counted.
        let mut octet = [0; 1];
        let ended = tokio::io::AsyncReadExt::read(&mut stream, &mut octet);
        // Closed or reset: either is an end.
        let _ = timeout(PATIENCE, ended).await.unwrap();
    }
    let refused = node.running.handle.refused().await.unwrap();
    assert_eq!(refused, net::RefusedConnections { unknown: 2, full: 0, not_now: 1 });
}
