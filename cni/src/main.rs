//! `ocicat-cni`: what a container runtime executes for each pod. See the library.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use ocicat_cni::spec::{Code, Config, Environment, Error};
use ocicat_cni::{Reply, run};

const EXPLANATION: &str = "\
ocicat-cni attaches pods to the network of this node. A container runtime runs it, with its request in the environment
(CNI_COMMAND and others) and a network configuration on standard input; see https://www.cni.dev/docs/spec/.
A configuration for /etc/cni/net.d:

  { \"cniVersion\": \"1.0.0\", \"name\": \"ocicat\", \"plugins\": [ { \"type\": \"ocicat-cni\" } ] }

Further keys are mtu, stateDir (/var/lib/ocicat), socket (/run/ocicat/ocicat.sock) and policyTimeoutSeconds (10).
Port mappings and bandwidth limits are other plugins' work: list portmap or bandwidth after it.";

fn main() -> ExitCode {
    let environment = Environment::of_process();
    if environment.command.is_empty() {
        return by_hand();
    }
    // The configuration may hold credentials: it is never logged.
    let mut stdin = Vec::new();
    let outcome = match io::stdin().read_to_end(&mut stdin) {
        Ok(_) => run(&environment, &stdin),
        Err(error) => Err(Error::new(Code::Io, format!("reading standard input: {error}"))),
    };
    match outcome {
        Ok(Reply { result, notes }) => {
            for note in notes {
                // Nobody may be listening, which is no reason to fail.
                let _ = writeln!(io::stderr(), "ocicat-cni: {note}");
            }
            match result {
                Some(result) => print(&result),
                None => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            print(&error.to_json(Config::version_of(&stdin)));
            ExitCode::FAILURE
        }
    }
}

/// Without CNI_COMMAND it is a person, not a runtime.
fn by_hand() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == "--version" || argument == "-V") {
        return print(&format_args!("ocicat-cni {}", env!("CARGO_PKG_VERSION")));
    }
    if io::stdin().is_terminal() || std::env::args().len() > 1 {
        return print(&EXPLANATION);
    }
    let _ = writeln!(io::stderr(), "{EXPLANATION}");
    let error = Error::new(Code::InvalidEnvironment, "CNI_COMMAND is not set");
    print(&error.to_json(ocicat_cni::spec::Version::LATEST));
    ExitCode::FAILURE
}

/// A result that nobody can read is a failure: the runtime will undo the ADD.
fn print(line: &dyn std::fmt::Display) -> ExitCode {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
