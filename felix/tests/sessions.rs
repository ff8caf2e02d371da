//! The whole loop with real peers on the loopback interface: a change resets the sessions that it concerns and no other,
//! and a password is taken from a Secret. No root, no fixed port.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::needless_pass_by_value, reason = "literals read better without &")]

mod script;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ocicat_bgp::net::{self, Event as BgpNews, Running};
use ocicat_bgp::rib::filter::Filter;
use ocicat_bgp::speaker::{Config, Dial, Originated, Password, PeerConfig};
use ocicat_bgp::wire::Family;
use ocicat_felix::api::Query;
use ocicat_felix::api::bgp::{Event as News, FamilyName, RefreshQuery, RouteQuery};
use ocicat_felix::daemon::Wanted;
use ocicat_felix::datastore::{Event, Key, Kind};
use script::Node;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A neighbour of the node: waits to be dialled, tells one prefix.
struct Neighbor {
    running: Running,
    name: &'static str,
    asn: u32,
    at: SocketAddr,
}

impl Neighbor {
    /// On 127.0.0.`last`.
    async fn start(name: &'static str, last: u8, password: Password) -> Self {
        let address = Ipv4Addr::new(127, 0, 0, last);
        let asn = 65000 + u32::from(last);
        let mut config = Config::new(NonZeroU32::new(asn).unwrap(), address);
        config.listen = vec![SocketAddr::new(address.into(), 0)];
        let node = PeerConfig::new(Ipv4Addr::LOCALHOST.into(), NonZeroU32::new(64512).unwrap());
        let node =
            PeerConfig { dial: Dial::Passive, password, export: Filter::own_routes(), ..node };
        config.peers.insert("node".into(), node);
        let prefix = format!("192.0.{last}.0/24").parse().unwrap();
        config.originated.insert(prefix, Originated::default());
        let mut running = net::spawn(config).unwrap();
        let listening = async {
            loop {
                for event in running.events.recv().await.unwrap() {
                    if let BgpNews::Listening { local, .. } = event {
                        return local;
                    }
                }
            }
        };
        let at = timeout(PATIENCE, listening).await.unwrap();
        Self { running, name, asn, at }
    }

    /// The BGPPeer that leads here.
    fn object(&self, more: Value, annotations: Value) -> Value {
        let mut spec = json!({"peerIP": self.at.to_string(), "asNumber": self.asn});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut annotations = annotations;
        annotations["bgp.ocicat.io/connect-retry"] = json!("1s");
        json!({"apiVersion": "projectcalico.org/v3", "kind": "BGPPeer",
            "metadata": {"name": self.name, "annotations": annotations}, "spec": spec})
    }

    /// What the node tells it.
    async fn hears(&mut self) -> Vec<String> {
        while self.running.events.try_recv().is_ok() {}
        let routes = self.running.handle.routes(Family::Ipv4).await.unwrap();
        let of_node = routes.iter().filter(|route| route.paths.iter().any(|p| p.peer.is_some()));
        of_node.map(|route| route.prefix.to_string()).collect()
    }

    async fn waits_to_hear(&mut self, prefixes: &[&str]) {
        let mut heard = Vec::new();
        for _ in 0..PATIENCE.as_millis() / 20 {
            heard = self.hears().await;
            if heard == prefixes {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{} hears {heard:?}, not {prefixes:?}", self.name);
    }

    async fn flaps(&self) -> u64 {
        self.running.handle.peers().await.unwrap()[0].flaps
    }
}

fn node_object(range: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "spec": {"podCIDRs": [range]},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}})
}

fn settings() -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "BGPConfiguration",
        "metadata": {"name": "default"},
        "spec": {"nodeToNodeMeshEnabled": false, "listenPort": 0, "bindMode": "NodeIP"}})
}

fn filter(spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "BGPFilter",
        "metadata": {"name": "f"}, "spec": spec})
}

fn secret(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": "kube-system"}, "stringData": {"tor": value}})
}

async fn query(node: &Node, query: Query) -> Value {
    node.ask(Wanted::Query(query)).await.await.unwrap()["result"].clone()
}

/// A peer as `ocicat bgp peers` shows it, once `wanted` holds.
async fn peer(node: &Node, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..PATIENCE.as_millis() / 20 {
        seen = query(node, Query::BgpPeers).await;
        let rows = seen.as_array().cloned().unwrap_or_default();
        if let Some(row) = rows.into_iter().find(|row| row["name"] == name && wanted(row)) {
            return row;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} is not as it should be: {seen}");
}

fn is_up(row: &Value) -> bool {
    row["state"] == "Established"
}

fn accepted(row: &Value) -> u64 {
    row["families"][0]["accepted"].as_u64().unwrap()
}

/// The next event of a session: `up NAME` or `down NAME`.
async fn session_event(events: &mut broadcast::Receiver<News>) -> String {
    let next = async {
        loop {
            match events.recv().await.unwrap() {
                News::SessionUp { peer, .. } => return format!("up {peer}"),
                News::SessionDown { peer, .. } => return format!("down {peer}"),
                News::RouteChanged { .. } | News::RouteWithdrawn { .. } | News::Missed { .. } => {}
            }
        }
    };
    timeout(PATIENCE, next).await.expect("something happens to a session")
}

/// Of all that was heard so far nothing concerned a session.
fn no_session_event(events: &mut broadcast::Receiver<News>) {
    while let Ok(event) = events.try_recv() {
        let of_route = matches!(event, News::RouteChanged { .. } | News::RouteWithdrawn { .. });
        assert!(of_route, "{event:?}");
    }
}

#[tokio::test]
async fn a_change_of_a_peer_a_filter_or_a_route_resets_no_other_session() {
    let mut a = Neighbor::start("a", 2, Password::None).await;
    let mut b = Neighbor::start("b", 3, Password::None).await;
    let node = Node::start();
    let mut events = node.doors.events.subscribe();
    node.put(node_object("10.65.1.0/24"));
    node.put(settings());
    for neighbor in [&a, &b] {
        node.put(neighbor.object(json!({}), json!({})));
    }
    node.say(Event::Synced);
    let up: BTreeSet<_> =
        [session_event(&mut events).await, session_event(&mut events).await].into();
    assert_eq!(up, ["up a".to_owned(), "up b".to_owned()].into());
    peer(&node, "b", |row| accepted(row) == 1).await;
    b.waits_to_hear(&["10.65.1.0/24"]).await;

    // A filter of b comes, changes, and goes.
    node.put(filter(json!({"importV4": [{"action": "Reject"}]})));
    node.put(b.object(json!({"filters": ["f"]}), json!({})));
    peer(&node, "b", |row| accepted(row) == 0).await;
    let rejected = RouteQuery { prefix: Some("192.0.3.0/24".to_owned()), ..RouteQuery::default() };
    let rows = query(&node, Query::BgpRoutes(rejected)).await;
    assert_eq!(rows[0]["verdict"], "rejected: BGPFilter f importV4[0]", "{rows}");
    let why = query(&node, Query::BgpRoute { prefix: "192.0.3.0/24".to_owned() }).await;
    assert_eq!(why["paths"][0]["why"], "rejected by BGPFilter f importV4[0]", "{why}");
    node.put(filter(json!({"exportV4": [{"action": "Reject"}]})));
    b.waits_to_hear(&[]).await;
    peer(&node, "b", |row| accepted(row) == 1).await;
    node.put(b.object(json!({}), json!({})));
    b.waits_to_hear(&["10.65.1.0/24"]).await;

    // Our own routes change, and leave and return.
    node.put(node_object("10.65.9.0/24"));
    a.waits_to_hear(&["10.65.9.0/24"]).await;
    let left = query(&node, Query::BgpDrain { wait_seconds: 0 }).await;
    assert_eq!(left["stage"], "gone", "{left}");
    a.waits_to_hear(&[]).await;
    query(&node, Query::BgpUndrain).await;
    a.waits_to_hear(&["10.65.9.0/24"]).await;

    // A peer that never answers comes.
    let mut nobody = b.object(json!({"peerIP": "127.0.0.9"}), json!({}));
    nobody["metadata"]["name"] = json!("nobody");
    nobody["metadata"]["annotations"]["bgp.ocicat.io/passive"] = json!("true");
    node.put(nobody);
    peer(&node, "nobody", |row| row["state"] == "Active").await;

    // A peer tells its routes again; who cannot be asked is named with the reason.
    let ask = |peer: &str, family: Option<FamilyName>| {
        let peer = peer.to_owned();
        node.ask(Wanted::Query(Query::BgpRefresh(RefreshQuery { peer, family })))
    };
    let asked = ask("a", Some(FamilyName::Ipv4)).await.await.unwrap();
    let wanted = json!({"peer": "a", "families": ["ipv4"], "enhanced": true});
    assert_eq!(asked["result"], wanted, "{asked}");
    for (name, why) in [
        ("zeus", "there is no peer zeus; `ocicat bgp peers` lists them"),
        ("nobody", "the session with nobody is Active, not Established"),
    ] {
        let refused = ask(name, None).await.await.unwrap();
        assert_eq!(refused["error"]["message"], why, "{refused}");
    }
    peer(&node, "a", |row| accepted(row) == 1).await;
    no_session_event(&mut events);

    // What is agreed on in OPEN resets b alone, and its removal ends it.
    node.put(b.object(json!({}), json!({"bgp.ocicat.io/hold-time": "30s"})));
    assert_eq!(session_event(&mut events).await, "down b");
    assert_eq!(session_event(&mut events).await, "up b");
    let view = query(&node, Query::BgpPeer { name: "b".to_owned() }).await;
    assert_eq!((&view["holdSeconds"], &view["flaps"]), (&json!(30), &json!(1)), "{view}");
    assert_eq!(view["history"].as_array().unwrap().len(), 3, "{view}");
    node.say(Event::Delete(Key::cluster(Kind::BgpPeer, "b")));
    assert_eq!(session_event(&mut events).await, "down b");

    let row = peer(&node, "a", is_up).await;
    assert_eq!((row["flaps"].as_u64(), a.flaps().await), (Some(0), 0));
}

#[tokio::test]
async fn a_password_is_asked_for_by_name_and_its_change_resets_who_uses_it() {
    let mut a = Neighbor::start("a", 12, Password::Key("hunter2".into())).await;
    let b = Neighbor::start("b", 13, Password::None).await;
    let mut node = Node::start();
    let mut events = node.doors.events.subscribe();
    node.put(node_object("10.65.1.0/24"));
    node.put(settings());
    let reference = json!({"password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}});
    node.put(a.object(reference, json!({})));
    node.put(b.object(json!({}), json!({})));
    node.say(Event::Synced);
    let asked = node.doors.secrets.wait_for(|names| names.contains("bgp"));
    assert_eq!(timeout(PATIENCE, asked).await.unwrap().unwrap().len(), 1);
    assert_eq!(session_event(&mut events).await, "up b");
    let row = peer(&node, "a", |row| !is_up(row)).await;
    assert_eq!(row["lastError"], "Secret kube-system/bgp was not heard of yet", "{row}");

    node.say(Event::Delete(Key::namespaced(Kind::Secret, "kube-system", "bgp")));
    let row =
        peer(&node, "a", |row| row["lastError"] == "there is no Secret kube-system/bgp").await;
    assert_eq!(row["state"], "Idle", "{row}");
    node.put(secret("hunter2"));
    assert_eq!(session_event(&mut events).await, "up a");
    a.waits_to_hear(&["10.65.1.0/24"]).await;

    node.put(secret("another"));
    assert_eq!(session_event(&mut events).await, "down a");
    node.put(secret("hunter2"));
    assert_eq!(session_event(&mut events).await, "up a");
    for question in [Query::BgpPeers, Query::Check, Query::BgpPeer { name: "a".to_owned() }] {
        let said = query(&node, question).await.to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!((peer(&node, "b", is_up).await["flaps"].as_u64(), b.flaps().await), (Some(0), 0));
}
