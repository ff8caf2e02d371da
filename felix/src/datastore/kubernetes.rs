//! A Kubernetes API server, watched.
//!
//! One task a kind. A kind that the server does not have is reported once and looked for again now and then: a cluster
//! without Calico's CRDs is a normal one. A watch that breaks is taken up where it was; what was deleted meanwhile is
//! found out when that is no longer possible and a new list is complete. Of Secrets those alone are watched, each by its
//! name, that the daemon asks for; Services and their endpoints only while it asks.

mod secrets;
mod services;
mod status;
mod told;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Notify, mpsc, watch as state};
use tower::ServiceBuilder;

use super::{Datastore, Event, Kind};
use secrets::Secrets;
pub use status::StatusWrite;
pub(crate) use watch::random;
use watch::{Scope, Watch};

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch may be silent for minutes. That its other end is gone, and never said so, is found out by the kernel's probes:
/// after this silence, so far apart, that many unanswered; 30 s in all.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_LOST: u32 = 3;
/// The same for what was sent and not acknowledged, when probes are not sent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

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

/// What an agent wants of the server beside what every agent does.
#[derive(Debug)]
pub struct Interest {
    /// The name of its node.
    pub node: String,
    /// Where its Secrets are.
    pub namespace: String,
    /// The names of these Secrets.
    pub secrets: state::Receiver<BTreeSet<String>>,
    /// Whether Services and their endpoints have to be known.
    pub services: state::Receiver<bool>,
    /// The statuses that it has written.
    pub statuses: mpsc::Receiver<StatusWrite>,
}

enum Message {
    Events(Vec<Event>),
    /// The kind's first list is complete, or the server has no such kind.
    Listed(Kind),
}

impl Kubernetes {
    /// Begins to watch. Without `kubeconfig`, takes the usual places or the pod's service account. Of the Secrets in
    /// the namespace those are watched whose names stand in `secrets`, as long as they stand there.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        interest: Interest,
    ) -> Result<Self, ConnectError> {
        let Interest { node, namespace, secrets, services, statuses } = interest;
        let client = client(&configuration(kubeconfig).await?)?;
        let (sender, messages) = mpsc::channel(1024);
        let reachable = Arc::new(Notify::new());
        for kind in kinds() {
            let scope = if kind == Kind::CalicoNodeStatus {
                Scope::OfNode(kind, node.clone())
            } else {
                Scope::Everything(kind)
            };
            tokio::spawn(Watch::new(scope, &client, sender.clone(), Arc::clone(&reachable)).run());
        }
        tokio::spawn(status::write(client.clone(), statuses));
        let (to, reached) = (sender.clone(), Arc::clone(&reachable));
        tokio::spawn(services::follow(client.clone(), to, reached, services));
        tokio::spawn(Secrets::new(namespace, client, sender, reachable).follow(secrets));
        Ok(Self { messages, waiting: kinds().collect() })
    }
}

/// The kinds that are watched always and as a whole. Nobody but the API server's administrators reads all Secrets.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret && !services::KINDS.contains(kind))
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

/// A client whose connections do not outlive their other end.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(KEEPALIVE_LOST));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

impl Datastore for Kubernetes {
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            match self.messages.recv().await? {
                Message::Events(events) if events.is_empty() => {}
                Message::Events(events) => return Some(events),
                Message::Listed(kind) if services::KINDS.contains(&kind) => {
                    return Some(vec![Event::Listed(kind)]);
                }
                Message::Listed(kind) => {
                    if self.waiting.remove(&kind) && self.waiting.is_empty() {
                        return Some(vec![Event::Synced]);
                    }
                }
            }
        }
    }
}
