//! The whole loop with a dataplane of memory and a datastore that says what the test wants: when is a pod enforced, and
//! what is said while it is not. No kernel, no root, no clock that is waited for.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod script;

use std::time::Duration;

use ocicat_cni::daemon::Request as Plugin;
use ocicat_cni::endpoint::{Endpoint, Stage, UnixMillis, host_interface};
use ocicat_felix::api::Query;
use ocicat_felix::daemon::Wanted;
use ocicat_felix::datastore::{Event, Key, Kind};
use script::Node;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What these tests ask.
trait Ask {
    async fn attach(&self, name: &str) -> oneshot::Receiver<Value>;
    async fn policy(&self, name: &str) -> Value;
    async fn check(&self) -> Value;
    async fn check_with_problems(&self, count: usize) -> Value;
}

impl Ask for Node {
    async fn attach(&self, name: &str) -> oneshot::Receiver<Value> {
        self.ask(Wanted::Cni(Plugin::Attach(endpoint(name)))).await
    }

    async fn policy(&self, name: &str) -> Value {
        let pod = format!("shop/{name}");
        let answer = self.ask(Wanted::Query(Query::PolicyShow { pod })).await;
        answer.await.unwrap()
    }

    async fn check(&self) -> Value {
        self.ask(Wanted::Query(Query::Check)).await.await.unwrap()["result"].clone()
    }

    /// The answer of `check` once it names so many problems: what the datastore says takes a door of its own, and
    /// may come after a question that was asked later.
    async fn check_with_problems(&self, count: usize) -> Value {
        for _ in 0..1000 {
            let check = self.check().await;
            if check["problems"].as_array().unwrap().len() == count {
                return check;
            }
            tokio::task::yield_now().await;
        }
        panic!("not {count} problems: {}", self.check().await);
    }
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        namespace: "shop".to_owned(),
        pod: name.to_owned(),
        uid: None,
        container_id: format!("c-{name}"),
        netns: String::new(),
        ifname: "eth0".to_owned(),
        host_interface: host_interface("shop", name, "eth0"),
        addresses: vec!["10.65.1.2".parse().unwrap()],
        created: UnixMillis(1),
        stage: Stage::Reserved,
    }
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": name},
        "spec": {"nodeName": "n1", "containers": []},
    })
}

/// Nothing comes of it, however often the loop goes round.
async fn stays_silent(answer: &mut oneshot::Receiver<Value>) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(answer.try_recv().is_err(), "answered too early");
}

async fn enforced(answer: oneshot::Receiver<Value>) {
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    let answer = answer.expect("an answer in time").expect("an answer");
    assert_eq!(answer["result"]["enforced"], json!(true), "{answer}");
}

#[tokio::test]
async fn a_pod_is_enforced_when_datastore_pod_and_plugin_have_all_spoken() {
    let node = Node::start();
    let mut waiting = node.attach("web").await;
    stays_silent(&mut waiting).await;
    node.say(Event::Synced);
    stays_silent(&mut waiting).await;
    node.put(pod("db"));
    stays_silent(&mut waiting).await;
    node.put(pod("web"));
    enforced(waiting).await;
    // The kernel's thread may have other things to do for the new interface, and until then nothing is sure.
    let settled = async {
        loop {
            let view = node.policy("web").await["result"].clone();
            if view["enforced"] == json!(true) {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    let view = tokio::time::timeout(Duration::from_secs(5), settled).await.unwrap();
    assert_eq!(view["addresses"], json!(["10.65.1.2"]), "known before the API server knows it");
}

#[tokio::test]
async fn a_pod_whose_object_is_known_is_enforced_at_once() {
    let node = Node::start();
    node.put(pod("web"));
    node.say(Event::Synced);
    enforced(node.attach("web").await).await;
    // The plugin may ask again, for it may have been killed before it heard the answer.
    enforced(node.attach("web").await).await;
}

#[tokio::test]
async fn a_pod_that_nobody_knows_is_said_to_be_closed() {
    let node = Node::start();
    node.say(Event::Synced);
    let _waiting = node.attach("web").await;
    let check = node.check().await;
    assert_eq!(check["waiting"], json!(["shop/web"]), "{check}");
}

#[tokio::test]
async fn problems_are_told_and_go_when_their_object_goes() {
    let node = Node::start();
    node.put(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}]},
    }));
    node.say(Event::Synced);
    let check = node.check_with_problems(1).await;
    assert_eq!(check["problems"][0]["object"], json!("NetworkPolicy shop/web"), "{check}");
    assert_eq!(check["problems"][0]["field"], json!("spec.ingress[0].from[0].ipBlock.cidr"));
    let key = Key::namespaced(Kind::NetworkPolicy, "shop", "web");
    node.say(Event::Delete(key));
    node.check_with_problems(0).await;
}

#[tokio::test]
async fn health_names_what_is_missing() {
    let mut node = Node::start();
    node.say(Event::Synced);
    let missing = "the datastore has no Node n1".to_owned();
    let only_the_node = node.doors.health.wait_for(|health| health.missing == [missing.clone()]);
    tokio::time::timeout(Duration::from_secs(5), only_the_node).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wish_to_see_the_node_that_cannot_be_fulfilled_is_a_problem() {
    let node = Node::start();
    for name in ["n1", "n2"] {
        node.put(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "CalicoNodeStatus",
            "metadata": {"name": format!("look-at-{name}")},
            "spec": {"node": name, "classes": ["BGP"]},
        }));
    }
    node.say(Event::Synced);
    let check = node.check_with_problems(1).await;
    let message = "the datastore is a directory: there is nowhere to write it";
    let wanted =
        json!([{"object": "CalicoNodeStatus look-at-n1", "field": "status", "message": message}]);
    assert_eq!(check["problems"], wanted, "{check}");
    node.say(Event::Delete(Key::cluster(Kind::CalicoNodeStatus, "look-at-n1")));
    node.check_with_problems(0).await;
}
