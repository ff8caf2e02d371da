//! `ocicat agent` and `ocicat uninstall`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use ocicat_cni::endpoint::INTERFACE_PREFIX;
use ocicat_felix::config::{AgentConfig, AgentOptions, DataplaneKind, DatastoreKind, LogFormat};
use ocicat_felix::daemon::{Daemon, Parts, SetLog};
use ocicat_felix::dataplane::kernel::{Event as KernelEvent, Kernel, Monitor, sysctl};
use ocicat_felix::dataplane::{Change, Dataplane, RouteChanges};
use ocicat_felix::datastore::directory::Directory;
use ocicat_felix::datastore::kubernetes::{Interest, Kubernetes};
use ocicat_felix::http;
use ocicat_felix::metrics::Metrics;
use ocicat_felix::nft::Transaction;
use ocicat_felix::plan::ruleset::TABLE;
use ocicat_felix::socket::{self, SocketDoors};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::warn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

pub(super) fn run(file: Option<&Path>, options: AgentOptions) -> anyhow::Result<ExitCode> {
    let file = file.map(AgentOptions::read).transpose()?.unwrap_or_default();
    let config = options.resolve(file)?;
    let set_log = start_logging(&config)?;
    if config.dataplane == DataplaneKind::Kernel && !nix::unistd::geteuid().is_root() {
        bail!("programming the kernel needs root; run as root, or with --dataplane none");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(config, set_log))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts to log, and gives the means to make the speaker say more or less than the rest.
fn start_logging(config: &AgentConfig) -> anyhow::Result<SetLog> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("--log {:?} is not a filter", config.log))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => registry.with(lines.json()).init(),
        LogFormat::Text => {
            use std::io::IsTerminal;
            let ansi = std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(ansi).with_target(false)).init();
        }
    }
    let base = config.log.clone();
    Ok(Box::new(move |directive| {
        let text = directive.map_or_else(|| base.clone(), |more| format!("{base},{more}"));
        let set = EnvFilter::try_new(&text).map(|filter| handle.reload(filter));
        if !matches!(set, Ok(Ok(()))) {
            tracing::warn!(filter = text, "the log cannot be set");
        }
    }))
}

async fn live(config: AgentConfig, set_log: SetLog) -> anyhow::Result<()> {
    let listener = socket::listen(&config.socket)?;
    let http_listener = http::listen(config.http).await.map_err(anyhow::Error::msg)?;
    let metrics = Metrics::default();
    let (dataplane, kernel) = open_dataplane(&config)?;
    let (status_writer, statuses) = mpsc::channel(16);
    let status_writer = match config.datastore {
        DatastoreKind::Directory(_) => None,
        DatastoreKind::Kubernetes => Some(status_writer),
    };
    let parts = Parts { dataplane, kernel, metrics: metrics.clone(), set_log, status_writer };
    let (daemon, doors) = Daemon::new(config.clone(), parts)?;
    let (secrets, services) = (doors.secrets.clone(), doors.services.clone());
    tokio::spawn(socket::serve(listener, SocketDoors::from(&doors)));
    tokio::spawn(http::serve(http_listener, doors, metrics));
    let stop = stop_on_signal()?;
    match &config.datastore {
        DatastoreKind::Directory(path) => daemon.run(Directory::open(path)?, stop).await,
        DatastoreKind::Kubernetes => {
            let kubeconfig = config.kubeconfig.as_deref();
            let interest = Interest {
                node: config.node.clone(),
                namespace: config.secret_namespace.clone(),
                secrets,
                services,
                statuses,
            };
            daemon.run(Kubernetes::connect(kubeconfig, interest).await?, stop).await;
        }
    }
    let _ = std::fs::remove_file(&config.socket);
    Ok(())
}

type Opened = (Option<Box<dyn Dataplane + Send>>, mpsc::Receiver<KernelEvent>);

fn open_dataplane(config: &AgentConfig) -> anyhow::Result<Opened> {
    let (sender, events) = mpsc::channel(1024);
    match config.dataplane {
        DataplaneKind::None => Ok((None, events)),
        DataplaneKind::Kernel => {
            let kernel = Kernel::open(TABLE).context("this kernel cannot be programmed")?;
            Monitor::open(&kernel)?.spawn(sender)?;
            for setting in sysctl::for_speaker() {
                if let Err(error) = setting.apply() {
                    warn!(%setting, %error, "many passwords may be too much for the kernel");
                }
            }
            Ok((Some(Box::new(kernel)), events))
        }
    }
}

fn stop_on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(stop)
}

pub(super) fn uninstall(socket: &Path, state_dir: &Path) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("removing rules and routes needs root");
    }
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        bail!(
            "an agent still runs on {}; stop it first, or it puts everything back",
            socket.display()
        );
    }
    let mut kernel = Kernel::open(TABLE)?;
    let routes = kernel.read()?.routes.into_values().collect();
    let routes = RouteChanges { delete: routes, ..RouteChanges::default() };
    let change = Change { nft: Transaction::uninstall(TABLE), routes };
    let outcome = kernel.apply(&change);
    outcome.nft.context("removing the rules")?;
    if let Some(failure) = outcome.routes.first() {
        bail!("removing the route {}: {}", failure.route, failure.why);
    }
    print!("{change}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remove_interfaces())?;
    for path in [socket, state_dir] {
        let gone =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match gone {
            Ok(()) => println!("rm -r {}", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the node's end of every pod's interface; the pod's end goes with it.
async fn remove_interfaces() -> anyhow::Result<()> {
    let (connection, kernel, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let links: Vec<LinkMessage> = kernel.link().get().execute().try_collect().await?;
    for link in links {
        let name = link.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::IfName(name) = attribute { Some(name.as_str()) } else { None }
        });
        let Some(name) = name.filter(|name| name.starts_with(INTERFACE_PREFIX)) else { continue };
        let removed = kernel.link().del(link.header.index).execute().await;
        removed.with_context(|| format!("removing interface {name}"))?;
        println!("ip link del {name}");
    }
    Ok(())
}
