//! What the operator can set: command line, environment (`OCICAT_…`) and a file, in that order of precedence.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Where the daemon keeps what outlives it, unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/ocicat";
/// Where metrics and health are served, unless told otherwise: the port that Calico's Felix has its metrics on.
const DEFAULT_HTTP: &str = "0.0.0.0:9091";

/// Options of `ocicat agent`. All are optional here, because a file may give them.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentOptions {
    /// Name of this node, as its Node object has it [default: the host name]
    #[arg(long, env = "OCICAT_NODE")]
    pub node: Option<String>,
    /// Where the cluster's objects come from: `kubernetes`, or a directory of YAML files [default: kubernetes]
    #[arg(long, env = "OCICAT_DATASTORE", value_name = "kubernetes|DIR")]
    pub datastore: Option<String>,
    /// Kubeconfig for `--datastore kubernetes` [default: the usual places, or the pod's service account]
    #[arg(long, env = "OCICAT_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the Secrets with the peers' passwords [default: kube-system]
    #[arg(long, env = "OCICAT_SECRET_NAMESPACE", value_name = "NAMESPACE")]
    pub secret_namespace: Option<String>,
    /// `kernel` programs this node; `none` is the BGP speaker alone [default: kernel]
    #[arg(long, env = "OCICAT_DATAPLANE")]
    pub dataplane: Option<DataplaneKind>,
    /// Where records of attached pods are kept [default: /var/lib/ocicat]
    #[arg(long, env = "OCICAT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Unix socket for the CNI plugin and for this command [default: /run/ocicat/ocicat.sock]
    #[arg(long, env = "OCICAT_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Address for /healthz, /readyz and /metrics [default: 0.0.0.0:9091]
    #[arg(long, env = "OCICAT_HTTP", value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Which peers have metrics of their own: `all`, those of a BGPPeer (`configured`), or `none`; the others are counted
    /// together [default: configured]
    #[arg(long, env = "OCICAT_PEER_METRICS")]
    pub peer_metrics: Option<PeerMetricsKind>,
    /// MTU of pod interfaces in bytes [default: the lowest of the node's own links]
    #[arg(long, env = "OCICAT_MTU", value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// How often the kernel is read and compared even if nothing was heard from it, in seconds [default: 90]
    #[arg(long, env = "OCICAT_RESYNC", value_name = "SECONDS")]
    pub resync: Option<u64>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter [default: info]
    #[arg(long, env = "OCICAT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// `text` for people, `json` for programs [default: text]
    #[arg(long, env = "OCICAT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What is programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataplaneKind {
    /// The kernel of this node.
    Kernel,
    /// Nothing: the speaker alone.
    None,
}

/// Which peers have metrics of their own. In a mesh of 1,000 nodes `all` means 20,000 series a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerMetricsKind {
    /// Every peer.
    All,
    /// Those that somebody wrote a BGPPeer for.
    Configured,
    /// No peer.
    None,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatastoreKind {
    /// An API server.
    Kubernetes,
    /// A directory of YAML files.
    Directory(PathBuf),
}

/// The options in force.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of this node.
    pub node: String,
    /// Where objects come from.
    pub datastore: DatastoreKind,
    /// Kubeconfig, if one was named.
    pub kubeconfig: Option<PathBuf>,
    /// Where Secrets are taken from.
    pub secret_namespace: String,
    /// What is programmed.
    pub dataplane: DataplaneKind,
    /// Where records are kept.
    pub state_dir: PathBuf,
    /// Where plugin and command line find the daemon.
    pub socket: PathBuf,
    /// Where metrics and health are served.
    pub http: SocketAddr,
    /// Which peers have metrics of their own.
    pub peer_metrics: PeerMetricsKind,
    /// MTU of pod interfaces, if it was given.
    pub mtu: Option<u32>,
    /// How often the kernel is compared.
    pub resync: Duration,
    /// What to log.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("configuration file {path}: {message}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No node name, and the host has none that can be read.
    #[error("no --node was given and the host name cannot be read: {0}")]
    NoName(std::io::Error),
}

impl AgentOptions {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |message: String| ConfigError::File { path: path.to_owned(), message };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// These options, and where they say nothing those of `file`, and where that says nothing the defaults.
    pub fn resolve(self, file: Self) -> Result<AgentConfig, ConfigError> {
        let node = match self.node.or(file.node) {
            Some(node) => node,
            None => host_name()?,
        };
        let datastore = self.datastore.or(file.datastore);
        Ok(AgentConfig {
            node,
            datastore: datastore.map_or(DatastoreKind::Kubernetes, |text| datastore_kind(&text)),
            kubeconfig: self.kubeconfig.or(file.kubeconfig),
            secret_namespace: self
                .secret_namespace
                .or(file.secret_namespace)
                .unwrap_or_else(|| crate::world::DEFAULT_SECRET_NAMESPACE.to_owned()),
            dataplane: self.dataplane.or(file.dataplane).unwrap_or(DataplaneKind::Kernel),
            state_dir: self.state_dir.or(file.state_dir).unwrap_or(DEFAULT_STATE_DIR.into()),
            socket: self
                .socket
                .or(file.socket)
                .unwrap_or(ocicat_cni::daemon::DEFAULT_SOCKET.into()),
            http: self.http.or(file.http).unwrap_or(DEFAULT_HTTP.parse().expect("a literal")),
            peer_metrics: self
                .peer_metrics
                .or(file.peer_metrics)
                .unwrap_or(PeerMetricsKind::Configured),
            mtu: self.mtu.or(file.mtu),
            resync: Duration::from_secs(self.resync.or(file.resync).unwrap_or(90).max(1)),
            log: self.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        })
    }
}

/// `kubernetes`, or a directory.
pub fn datastore_kind(text: &str) -> DatastoreKind {
    if text == "kubernetes" {
        DatastoreKind::Kubernetes
    } else {
        DatastoreKind::Directory(text.into())
    }
}

/// Kubelets register their node under this name, unless told otherwise.
pub fn host_name() -> Result<String, ConfigError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(ConfigError::NoName)?;
    Ok(name.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let line = AgentOptions { node: Some("a".to_owned()), ..AgentOptions::default() };
        let file: AgentOptions =
            serde_saphyr::from_str("{node: b, datastore: /etc/ocicat/cluster, resync: 10}")
                .unwrap();
        let config = line.resolve(file).unwrap();
        assert_eq!(config.node, "a");
        assert_eq!(config.datastore, DatastoreKind::Directory("/etc/ocicat/cluster".into()));
        assert_eq!(config.resync, Duration::from_secs(10));
        assert_eq!(config.dataplane, DataplaneKind::Kernel);
    }

    #[test]
    fn a_misspelt_option_in_the_file_is_named() {
        let error = serde_saphyr::from_str::<AgentOptions>("{nodename: b}").unwrap_err();
        assert!(error.to_string().contains("nodename"), "{error}");
    }
}
