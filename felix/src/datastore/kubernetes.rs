//! A Kubernetes API server, watched.
//!
//! One task a kind. A kind that the server does not have is reported once and looked for again now and then: a cluster
//! without Calico's CRDs is a normal one. A watch that breaks is taken up again with a growing delay; what was deleted
//! meanwhile is found out when the new list is complete.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use tokio::sync::mpsc;
use tracing::info;

use super::{Datastore, Event, Invalid, Key, Kind, Object, Parsed, Unusable};
use crate::problem::Problem;

/// How often a kind that the server lacks is asked for again.
const ABSENT_RETRY: Duration = Duration::from_secs(60);

/// The API server could not be set up as a source.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no usable configuration.
    #[error(
        "no usable kubeconfig ({0}); give --kubeconfig FILE, or run in a pod with a service account"
    )]
    Config(String),
    /// The client could not be built.
    #[error("kubernetes client: {0}")]
    Client(#[from] kube::Error),
}

/// The watches, and what they have said.
pub struct Kubernetes {
    messages: mpsc::Receiver<Message>,
    waiting: BTreeSet<Kind>,
}

enum Message {
    Events(Vec<Event>),
    /// The kind's first list is complete, or the server has no such kind.
    Listed(Kind),
}

impl Kubernetes {
    /// Begins to watch. Without `kubeconfig`, takes the usual places or the pod's service account.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, ConnectError> {
        let client = Client::try_from(configuration(kubeconfig).await?)?;
        let (sender, messages) = mpsc::channel(1024);
        for kind in Kind::ALL {
            spawn_watch(client.clone(), kind, sender.clone());
        }
        Ok(Self { messages, waiting: Kind::ALL.into_iter().collect() })
    }
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ConnectError> {
    let unusable = |error: &dyn std::fmt::Display| ConnectError::Config(error.to_string());
    match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|error| unusable(&error))
        }
        None => Config::infer().await.map_err(|error| unusable(&error)),
    }
}

impl Datastore for Kubernetes {
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            match self.messages.recv().await? {
                Message::Events(events) if events.is_empty() => {}
                Message::Events(events) => return Some(events),
                Message::Listed(kind) => {
                    if self.waiting.remove(&kind) && self.waiting.is_empty() {
                        return Some(vec![Event::Synced]);
                    }
                }
            }
        }
    }
}

fn spawn_watch(client: Client, kind: Kind, sender: mpsc::Sender<Message>) {
    match kind {
        Kind::Node => spawn_typed(Api::<Node>::all(client), kind, Object::Node, sender),
        Kind::Namespace => {
            spawn_typed(Api::<Namespace>::all(client), kind, Object::Namespace, sender);
        }
        Kind::Pod => spawn_typed(Api::<Pod>::all(client), kind, Object::Pod, sender),
        Kind::NetworkPolicy => {
            spawn_typed(Api::<NetworkPolicy>::all(client), kind, Object::NetworkPolicy, sender);
        }
        Kind::BgpConfiguration | Kind::BgpPeer | Kind::BgpFilter | Kind::IpPool => {
            let (group, version) = kind.api_version().split_once('/').unwrap_or(("", "v1"));
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()));
            let api = Api::<DynamicObject>::all_with(client, &resource);
            let stream = move || watcher(api.clone(), watcher::Config::default()).boxed();
            tokio::spawn(follow(kind, stream, move |object| parse_dynamic(kind, object), sender));
        }
    }
}

fn spawn_typed<K>(api: Api<K>, kind: Kind, wrap: fn(K) -> Object, sender: mpsc::Sender<Message>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + Debug + Send + Sync + 'static,
{
    let stream = move || watcher(api.clone(), watcher::Config::default()).boxed();
    tokio::spawn(follow(
        kind,
        stream,
        move |object| Ok(Parsed { object: wrap(object), problems: Vec::new() }),
        sender,
    ));
}

type Read = Result<Parsed, Box<Invalid>>;

fn parse_dynamic(kind: Kind, object: DynamicObject) -> Read {
    let key = Key::cluster(kind, object.metadata.name.clone().unwrap_or_default());
    let invalid = |message: &dyn std::fmt::Display| {
        Box::new(Invalid { problem: Problem::new(&key, "", message), key: key.clone() })
    };
    let value = serde_json::to_value(object).map_err(|error| invalid(&error))?;
    Object::parse(value).map_err(|unusable| match unusable {
        Unusable::Invalid(invalid) => invalid,
        Unusable::NotAnObject(message) | Unusable::OtherKind(message) => invalid(&message),
    })
}

/// Follows one kind for ever.
async fn follow<K, S, F>(kind: Kind, stream: S, read: F, sender: mpsc::Sender<Message>)
where
    K: Send + 'static,
    S: Fn() -> futures::stream::BoxStream<'static, watcher::Result<watcher::Event<K>>> + Send,
    F: Fn(K) -> Read + Send,
{
    let mut state =
        Follower { kind, known: BTreeSet::new(), relisted: BTreeSet::new(), absence_told: false };
    loop {
        let outcome =
            follow_until_absent(&mut state, stream().default_backoff(), &read, &sender).await;
        if outcome.is_err() {
            return;
        }
        tokio::time::sleep(ABSENT_RETRY).await;
    }
}

/// The daemon has gone away.
struct Closed;

/// Returns when the server says that it has no such kind.
async fn follow_until_absent<K>(
    state: &mut Follower,
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    read: &impl Fn(K) -> Read,
    sender: &mpsc::Sender<Message>,
) -> Result<(), Closed> {
    let mut stream = std::pin::pin!(stream);
    let mut failing = false;
    let origin = format!("watch of {}", state.kind.name());
    while let Some(item) = stream.next().await {
        let messages = match item {
            Ok(event) => {
                let mut messages = state.take(event, read);
                if std::mem::take(&mut failing) {
                    messages.push(Message::Events(vec![Event::Problems {
                        origin: origin.clone(),
                        problems: Vec::new(),
                    }]));
                }
                messages
            }
            Err(error) if is_absent(&error) => {
                // A cluster without Calico's kinds is a normal one: said once, and no problem.
                if !std::mem::replace(&mut state.absence_told, true) {
                    info!(
                        kind = state.kind.name(),
                        "the API server has no such kind; going on without"
                    );
                }
                return send(sender, vec![Message::Listed(state.kind)]).await;
            }
            Err(error) => {
                failing = true;
                let problem = Problem::new(&origin, "", format!("{error}; retrying"));
                let event = Event::Problems { origin: origin.clone(), problems: vec![problem] };
                vec![Message::Events(vec![event])]
            }
        };
        send(sender, messages).await?;
    }
    Ok(())
}

async fn send(sender: &mpsc::Sender<Message>, messages: Vec<Message>) -> Result<(), Closed> {
    for message in messages {
        sender.send(message).await.map_err(|_| Closed)?;
    }
    Ok(())
}

fn is_absent(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) =
        error
    else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

/// What one kind's watch has told so far.
struct Follower {
    kind: Kind,
    known: BTreeSet<Key>,
    relisted: BTreeSet<Key>,
    absence_told: bool,
}

impl Follower {
    fn take<K>(&mut self, event: watcher::Event<K>, read: &impl Fn(K) -> Read) -> Vec<Message> {
        match event {
            watcher::Event::Init => {
                self.relisted.clear();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                let events = self.put(read(object));
                vec![Message::Events(events)]
            }
            watcher::Event::Apply(object) => vec![Message::Events(self.put(read(object)))],
            watcher::Event::InitDone => {
                let gone: Vec<Key> = self.known.difference(&self.relisted).cloned().collect();
                let events = gone.into_iter().flat_map(|key| self.delete(key)).collect();
                vec![Message::Events(events), Message::Listed(self.kind)]
            }
            watcher::Event::Delete(object) => {
                let key = match read(object) {
                    Ok(parsed) => parsed.object.key(),
                    Err(invalid) => invalid.key,
                };
                vec![Message::Events(self.delete(key))]
            }
        }
    }

    /// An object that cannot be read keeps its last good version in force, as in a directory.
    fn put(&mut self, read: Read) -> Vec<Event> {
        let (key, object, problems) = match read {
            Ok(parsed) => (parsed.object.key(), Some(parsed.object), parsed.problems),
            Err(invalid) => (invalid.key, None, vec![invalid.problem]),
        };
        self.relisted.insert(key.clone());
        self.known.insert(key.clone());
        let mut events = Vec::new();
        if self.kind.api_version().contains("calico") {
            events.push(Event::Problems { origin: key.to_string(), problems });
        }
        events.extend(object.map(|object| Event::Put(Box::new(object))));
        events
    }

    fn delete(&mut self, key: Key) -> Vec<Event> {
        self.known.remove(&key);
        vec![Event::Problems { origin: key.to_string(), problems: Vec::new() }, Event::Delete(key)]
    }
}
