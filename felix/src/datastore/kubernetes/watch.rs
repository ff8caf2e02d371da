//! One kind of object, or one object of it, listed and watched for ever.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams,
};
use kube::core::Status;
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::Message;
use super::told::Told;
use crate::datastore::{Event, Key, Kind};
use crate::problem::Problem;

/// How often a kind that the server lacks is asked for again.
const ABSENT_RETRY: Duration = Duration::from_secs(60);
/// How long the first wait after a failure is, and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How many objects the server puts into one answer.
const PAGE: u32 = 500;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the server keeps a watch open, in seconds, and when we cease to believe in one.
const WATCH_SECONDS: u32 = 290;
const WATCH_END: Duration = Duration::from_secs(300);

/// What one watch follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// All objects of a kind.
    Everything(Kind),
    /// The objects of a kind whose `spec.node` is this, if the server can select by that; else all of them.
    OfNode(Kind, String),
    /// One Secret. That it is not there is told as its deletion.
    Secret { namespace: String, name: String },
}

impl Scope {
    fn kind(&self) -> Kind {
        match self {
            Self::Everything(kind) | Self::OfNode(kind, _) => *kind,
            Self::Secret { .. } => Kind::Secret,
        }
    }

    /// The one object, if it is one.
    fn key(&self) -> Option<Key> {
        match self {
            Self::Everything(_) | Self::OfNode(..) => None,
            Self::Secret { namespace, name } => {
                Some(Key::namespaced(Kind::Secret, namespace, name))
            }
        }
    }

    /// Who reports that the watch fails.
    pub(super) fn origin(&self) -> String {
        match self.key() {
            None => format!("watch of {}", self.kind().name()),
            Some(key) => format!("watch of {key}"),
        }
    }

    /// Everybody who may report something because of this watch, as far as that is known beforehand.
    pub(super) fn origins(&self) -> [String; 2] {
        [self.origin(), self.key().map_or_else(String::new, |key| key.to_string())]
    }

    fn api(&self, client: Client) -> Api<DynamicObject> {
        match self {
            Self::Everything(kind) | Self::OfNode(kind, _) => api_of(*kind, client),
            Self::Secret { namespace, .. } => {
                Api::namespaced_with(client, namespace, &resource(Kind::Secret))
            }
        }
    }

    /// RBAC lets a list or watch of named objects through only if it asks for them by name.
    fn fields(&self) -> Option<String> {
        match self {
            Self::Everything(_) => None,
            Self::OfNode(_, node) => Some(format!("spec.node={node}")),
            Self::Secret { name, .. } => Some(format!("metadata.name={name}")),
        }
    }
}

/// All objects of a kind.
pub(super) fn api_of(kind: Kind, client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &resource(kind))
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version) = kind.api_version().split_once('/').unwrap_or(("", "v1"));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()))
}

/// Follows one scope.
pub(super) struct Watch {
    scope: Scope,
    api: Api<DynamicObject>,
    sender: mpsc::Sender<Message>,
    /// Tells the watches that wait for their next attempt that one of them got through.
    reachable: Arc<Notify>,
    told: Told,
    /// Up to where the server's changes were told; nothing before the first list.
    version: Option<String>,
    retry: Duration,
    /// The failure that the daemon was told of.
    failure: Option<String>,
    /// Whether the server ever had the kind.
    listed: bool,
    absence_told: bool,
}

/// Why a list or watch ended before its time.
pub(super) enum Interruption {
    /// The daemon has gone away.
    Closed,
    /// The server has no such kind.
    Absent,
    /// The server does not know any more what changed since our version.
    Expired,
    /// The server cannot select objects of the kind by the field that we named.
    Unselectable,
    /// Anything else.
    Failed(String),
}

impl Watch {
    pub(super) fn new(
        scope: Scope,
        client: &Client,
        sender: mpsc::Sender<Message>,
        reachable: Arc<Notify>,
    ) -> Self {
        Self {
            api: scope.api(client.clone()),
            sender,
            reachable,
            told: Told::new(scope.kind()),
            scope,
            version: None,
            retry: FIRST_RETRY,
            failure: None,
            listed: false,
            absence_told: false,
        }
    }

    /// Lists and watches until the daemon has gone.
    pub(super) async fn run(mut self) {
        loop {
            let outcome = match self.version.clone() {
                None => self.list().await,
                Some(version) => self.watch(&version).await,
            };
            let settled = match outcome {
                Ok(()) => continue,
                Err(interruption) => self.settle(interruption).await,
            };
            if settled.is_err() {
                return;
            }
        }
    }

    async fn settle(&mut self, interruption: Interruption) -> Result<(), Interruption> {
        match interruption {
            Interruption::Closed => return Err(interruption),
            Interruption::Expired => {
                debug!(
                    kind = self.scope.kind().name(),
                    "the server has forgotten our version; listing anew"
                );
                self.version = None;
                // A restarted server says so to every node at once.
                sleep(FIRST_RETRY.mul_f64(random())).await;
            }
            // A server that has just started may not have read its definitions yet: what it told before stays in force.
            Interruption::Absent if self.listed => {
                self.version = None;
                self.wait_after("the API server has no such kind any more".to_owned()).await?;
            }
            Interruption::Absent => {
                self.tell_absence().await?;
                sleep(ABSENT_RETRY).await;
            }
            Interruption::Unselectable => {
                let kind = self.scope.kind();
                info!(
                    kind = kind.name(),
                    "the API server cannot select by spec.node (the CRD has no selectableFields); all are watched"
                );
                self.scope = Scope::Everything(kind);
            }
            Interruption::Failed(why) => self.wait_after(why).await?,
        }
        Ok(())
    }

    /// Tells of a failure, and waits until it is time for the next attempt.
    async fn wait_after(&mut self, why: String) -> Result<(), Interruption> {
        self.tell_failure(why).await?;
        // Half of the wait is different for each node, so that they do not all come at once.
        let wait = self.retry / 2 + self.retry.mul_f64(0.5 * random());
        self.retry = LAST_RETRY.min(self.retry * 2);
        tokio::select! {
            () = sleep(wait) => {}
            () = self.reachable.notified() => {}
        }
        Ok(())
    }

    /// Reads all objects, page by page.
    async fn list(&mut self) -> Result<(), Interruption> {
        let mut listed = BTreeSet::new();
        let mut page = ListParams::default().limit(PAGE);
        page.field_selector = self.scope.fields();
        let version = loop {
            let list = in_time(self.api.list(&page)).await?;
            self.tell_success().await?;
            let mut events = Vec::new();
            for object in list.items {
                listed.insert(self.told.key(&object));
                events.extend(self.told.put(object));
            }
            self.send(Message::Events(events)).await?;
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => break list.metadata.resource_version,
            }
        };
        let Some(version) = version else {
            return Err(Interruption::Failed("the list has no resource version".to_owned()));
        };
        self.version = Some(version);
        self.listed = true;
        let mut gone = self.told.keep_only(&listed);
        if let Some(absent) = self.scope.key().filter(|key| !listed.contains(key)) {
            gone.push(Event::Delete(absent));
        }
        self.send(Message::Events(gone)).await?;
        self.send(Message::Listed(self.scope.kind())).await
    }

    /// Follows the changes since `version` until the server ends the watch, as it does every few minutes.
    async fn watch(&mut self, version: &str) -> Result<(), Interruption> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector = self.scope.fields();
        let mut changes = pin!(in_time(self.api.watch(&params, version)).await?);
        self.tell_success().await?;
        loop {
            let change = timeout(WATCH_END, changes.next()).await;
            let change =
                change.map_err(|_| Interruption::Failed("it has gone silent".to_owned()))?;
            let events = match change.transpose()? {
                None => return Ok(()),
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.advance(object.metadata.resource_version.clone());
                    self.told.put(object)
                }
                Some(WatchEvent::Deleted(object)) => {
                    self.advance(object.metadata.resource_version.clone());
                    let key = self.told.key(&object);
                    self.told.delete(key)
                }
                Some(WatchEvent::Bookmark(bookmark)) => {
                    self.advance(Some(bookmark.metadata.resource_version));
                    Vec::new()
                }
                Some(WatchEvent::Error(status)) => return Err(interruption(&status)),
            };
            self.send(Message::Events(events)).await?;
        }
    }

    fn advance(&mut self, version: Option<String>) {
        if version.is_some() {
            self.version = version;
        }
    }

    async fn tell_absence(&mut self) -> Result<(), Interruption> {
        self.tell_success().await?;
        if !std::mem::replace(&mut self.absence_told, true) {
            info!(
                kind = self.scope.kind().name(),
                "the API server has no such kind; going on without"
            );
        }
        self.send(Message::Listed(self.scope.kind())).await
    }

    /// Tells why nothing is heard, once.
    async fn tell_failure(&mut self, why: String) -> Result<(), Interruption> {
        if self.failure.as_ref() == Some(&why) {
            return Ok(());
        }
        let origin = self.scope.origin();
        let problem = Problem::new(&origin, "", format!("{why}; retrying"));
        self.failure = Some(why);
        let event = Event::Problems { origin, problems: vec![problem] };
        self.send(Message::Events(vec![event])).await
    }

    /// The server answers. Takes back what was told of a failure, and has the other watches try at once.
    async fn tell_success(&mut self) -> Result<(), Interruption> {
        self.retry = FIRST_RETRY;
        if self.failure.take().is_none() {
            return Ok(());
        }
        self.reachable.notify_waiters();
        let event = Event::Problems { origin: self.scope.origin(), problems: Vec::new() };
        self.send(Message::Events(vec![event])).await
    }

    async fn send(&self, message: Message) -> Result<(), Interruption> {
        self.sender.send(message).await.map_err(|_| Interruption::Closed)
    }
}

/// Bounds the wait for an answer; one that never comes is a failure too.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, Interruption> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Interruption::Failed(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

impl From<kube::Error> for Interruption {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            return interruption(status);
        }
        // The outer layers say "client error"; the innermost says what happened.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self::Failed(format!("the API server cannot be reached: {cause}"))
    }
}

/// What a status of the server means for a list or watch.
fn interruption(status: &Status) -> Interruption {
    match status.code {
        404 => Interruption::Absent,
        410 => Interruption::Expired,
        // There is no reason but the text.
        400 if status.message.contains("field label not supported") => Interruption::Unselectable,
        code => Interruption::Failed(format!("the API server says {code}: {}", status.message)),
    }
}

/// From 0 to 1, different in each process and at each call.
pub(crate) fn random() -> f64 {
    let [.., high, low] = RandomState::new().hash_one(()).to_be_bytes();
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}
