//! The command line.

mod agent;
mod ask;
mod bgp;
mod dump;
mod offline;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ocicat_felix::api::bgp::FamilyName;
use ocicat_felix::config::AgentOptions;

/// The command could not do what it was asked.
pub(crate) const FAILED: u8 = 1;
/// `check` found something; `explain` says no.
const DIFFERENT: u8 = 3;

/// L3 routing and network policy for Kubernetes nodes: BGP to the top of the rack, nftables at the pod.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Unix socket of the agent
    #[arg(long, global = true, env = "OCICAT_SOCKET", value_name = "PATH",
          default_value = ocicat_cni::daemon::DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or yes; 1 it could not be done; 2 the command line is wrong;
3 `check` found a difference or a problem, `explain` found the flow denied.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node daemon in the foreground
    Agent(AgentArgs),
    /// Look at the BGP speaker, and take leave of its peers
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Look at network policy
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Say which policy and rule decides about a flow, at both ends
    Explain(ExplainArgs),
    /// Print what would change in the kernel, as nft and ip lines
    Plan(PlanArgs),
    /// Compare the kernel with what should be there, and list what was wrong with the input
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// Remove our table, routes and files from this node; pods lose their network
    Uninstall(UninstallArgs),
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// Options from a YAML file; the command line and the environment go before it
    #[arg(long, env = "OCICAT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: AgentOptions,
}

#[derive(Debug, Subcommand)]
enum BgpCommand {
    /// Peers, their sessions, and how many prefixes went each way (IPv4+IPv6)
    Peers {
        /// Go on with a line for each session that comes up or goes down, and why
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        output: Output,
    },
    /// BFD with the peers: whether the paths to them forward, and how fast a failure is seen
    Bfd {
        #[command(flatten)]
        output: Output,
    },
    /// Monitoring stations (BMP): whether they are connected, what they are told, and how far behind they are
    Bmp {
        #[command(flatten)]
        output: Output,
    },
    /// RPKI caches: whether they are connected, what they have told, and how old that is
    Rpki {
        #[command(flatten)]
        output: Output,
    },
    /// Everything about one peer: configuration in force, what was agreed on, timers, counts, errors, history
    Peer {
        /// As in the list of peers
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Paths to prefixes, and why each is used or not
    Routes(RoutesArgs),
    /// One prefix: its paths in order, and which comparison or which rule decided about each
    Route {
        /// The prefix, like 10.65.2.0/24
        prefix: String,
        /// Said for clarity: this command always says why
        #[arg(long)]
        why: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Ask a peer to tell its routes again (route refresh, RFC 2918); what it no longer names goes, if it speaks RFC 7313
    Refresh {
        /// As in the list of peers
        peer: String,
        /// Only this family
        #[arg(long, value_name = "FAMILY")]
        family: Option<FamilyName>,
        #[command(flatten)]
        output: Output,
    },
    /// Write all paths that peers told, and our own, to an MRT file (TABLE_DUMP_V2, RFC 6396)
    Dump {
        /// Only this family
        #[arg(long, value_name = "FAMILY")]
        family: Option<FamilyName>,
        /// The file, in place of what is there; `-` for standard output
        file: PathBuf,
    },
    /// Ask peers to choose other ways (GRACEFUL_SHUTDOWN, RFC 8326), wait, then withdraw all routes; sessions stay up
    Drain {
        /// How long peers have
        #[arg(long, default_value = "30s", value_parser = cli_duration, value_name = "DURATION")]
        wait: Duration,
        #[command(flatten)]
        output: Output,
    },
    /// Tell peers our routes again
    Undrain {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct RoutesArgs {
    /// Only this prefix, or the prefixes that hold this address
    prefix: Option<String>,
    /// Only what this peer told, or with --advertised is told
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    #[command(flatten)]
    which: WhichArgs,
    /// Go on with a line for each change of what is chosen
    #[arg(short, long, conflicts_with_all = ["received", "accepted", "rejected", "advertised"])]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
struct WhichArgs {
    /// What peers told
    #[arg(long)]
    received: bool,
    /// What peers told and may be used
    #[arg(long)]
    accepted: bool,
    /// What peers told and may not be used
    #[arg(long)]
    rejected: bool,
    /// What a peer is told
    #[arg(long, requires = "peer")]
    advertised: bool,
}

/// A duration as Kubernetes writes it.
fn cli_duration(text: &str) -> Result<Duration, String> {
    ocicat_felix::plan::peering::duration(text)
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// A pod's policies, and who may reach it and whom it may reach
    Show {
        /// NAMESPACE/POD
        pod: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// SRC -> DST:PORT[/tcp|udp|sctp]; a place is NAMESPACE/POD or an address
    #[arg(required = true, num_args = 1.., allow_hyphen_values = true, value_name = "SRC -> DST:PORT")]
    flow: Vec<String>,
    /// Ask a directory of YAML instead of the agent
    #[arg(long, value_name = "DIR")]
    datastore: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// Plan from a directory of YAML for an empty node, instead of asking the agent; needs no root
    #[arg(long, value_name = "DIR", requires = "node")]
    datastore: Option<PathBuf>,
    /// The node to plan for
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    /// Where records of attached pods are kept
    #[arg(long, env = "OCICAT_STATE_DIR", value_name = "DIR",
          default_value = ocicat_felix::config::DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// `table` for people, `json` for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let socket = &cli.socket;
    match cli.command {
        Command::Agent(mut args) => {
            args.options.socket.get_or_insert_with(|| cli.socket.clone());
            agent::run(args.config.as_deref(), args.options)
        }
        Command::Bgp(command) => bgp::run(socket, command),
        Command::Policy(PolicyCommand::Show { pod, output }) => ask::policy(socket, pod, output),
        Command::Explain(args) => {
            let flow = args.flow.join(" ");
            match args.datastore {
                Some(directory) => offline::explain(&directory, &flow, args.output),
                None => ask::explain(socket, flow, args.output),
            }
        }
        Command::Plan(args) => match (args.datastore, args.node) {
            (Some(directory), Some(node)) => offline::plan(&directory, &node, args.output),
            _ => ask::plan(socket, args.output),
        },
        Command::Check { output } => ask::check(socket, output),
        Command::Uninstall(args) => agent::uninstall(socket, &args.state_dir),
    }
}
