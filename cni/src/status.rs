//! STATUS: whether an ADD would be served.

use std::time::Duration;

use crate::daemon::{self, Request, Status};
use crate::node::Node;
use crate::spec::{Code, Config, Error};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Fails with code 50 unless the node knows its pod CIDRs and the daemon is ready.
pub(crate) fn status(config: &Config) -> Result<(), Error> {
    let unavailable = |msg: String| Error::new(Code::Unavailable, msg);
    Node::read(&config.state).map_err(|error| unavailable(error.to_string()))?;
    let status: Status = daemon::call(&config.socket, &Request::Status, TIMEOUT)
        .map_err(|error| unavailable(error.to_string()))?;
    if status.ready {
        return Ok(());
    }
    let reason = status.reason.as_deref().unwrap_or("it does not say why");
    Err(unavailable(format!("the ocicat daemon is not ready: {reason}")))
}
