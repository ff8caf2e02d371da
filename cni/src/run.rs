//! One command from beginning to end.

use serde_json::Value;

use crate::add::Add;
use crate::spec::{Command, Config, Environment, Error, versions};
use crate::{check, del, status};

/// What a command that succeeded has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// For standard output; most commands say nothing there.
    pub result: Option<Value>,
    /// For standard error: what the operator should know although it is no error.
    pub notes: Vec<String>,
}

/// Carries out the command in `environment` with the network configuration in `stdin`.
pub fn run(environment: &Environment, stdin: &[u8]) -> Result<Reply, Error> {
    let command = environment.command()?;
    let config = || Config::parse(command, stdin);
    let silent = |notes| Reply { result: None, notes };
    match command {
        // Before the configuration, whose version may be one that the runtime is just about to find out about.
        Command::Version => Ok(Reply { result: Some(versions()), notes: Vec::new() }),
        Command::Add => {
            let config = config()?;
            let (success, notes) = Add::begin(environment, &config)?.run()?;
            Ok(Reply { result: Some(success.to_json(config.version)), notes })
        }
        Command::Del => del::del(environment, &config()?).map(silent),
        Command::Gc => del::gc(&config()?).map(silent),
        Command::Check => check::check(environment, &config()?).map(|()| Reply::default()),
        Command::Status => status::status(&config()?).map(|()| Reply::default()),
    }
}
