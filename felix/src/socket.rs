//! The Unix socket for the CNI plugin and the command line: root only, one JSON object a line.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ocicat_cni::daemon::RefusalCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, warn};

use crate::api::bgp::Event;
use crate::daemon::{Doors, Request, Wanted};

/// A longer line is not a request.
const LONGEST_LINE: u64 = 1 << 20;

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon has it.
    #[error("another ocicat agent answers on {0}; one node runs one agent")]
    Taken(PathBuf),
    /// The system refused.
    #[error("socket {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Opens the socket, in place of one that a killed daemon left.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(SocketError::Taken(path.to_owned()));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// What the socket needs of the daemon.
#[derive(Debug, Clone)]
pub struct SocketDoors {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Event>,
}

impl From<&Doors> for SocketDoors {
    fn from(doors: &Doors) -> Self {
        Self { requests: doors.requests.clone(), events: doors.events.clone() }
    }
}

/// Serves clients until the daemon is gone.
pub async fn serve(listener: UnixListener, doors: SocketDoors) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(client(stream, doors.clone()));
            }
            Err(error) => {
                warn!(%error, "a client of the socket could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// File modes keep others out; this keeps out who was handed the descriptor.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn client(stream: UnixStream, doors: SocketDoors) {
    if !is_allowed(&stream) {
        warn!("a client of the socket that is not root was turned away");
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST_LINE));
    let mut line = String::new();
    loop {
        line.clear();
        reader.get_mut().set_limit(LONGEST_LINE);
        match reader.read_line(&mut line).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "a client of the socket broke off");
                return;
            }
        }
        if is_stream(&line) {
            return stream_events(reader, writer, &doors.events).await;
        }
        let asked = ask(&line, &doors.requests);
        // The client may give up while it waits; the daemon sees that by the dropped answer.
        let mut rest = Vec::new();
        let response = tokio::select! {
            response = asked => response,
            _ = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut rest) => return,
        };
        let mut text = response.to_string();
        text.push('\n');
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Whether a client wants to hear what happens, from now on and until it goes.
fn is_stream(line: &str) -> bool {
    let value: Option<Value> = serde_json::from_str(line).ok();
    value.is_some_and(|value| value.get("method").and_then(Value::as_str) == Some("bgp-events"))
}

/// One event a line, until the client has gone or the daemon ends.
async fn stream_events(
    mut reader: impl tokio::io::AsyncRead + Unpin,
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    events: &broadcast::Sender<Event>,
) {
    let mut events = events.subscribe();
    // Whoever reads this knows that nothing is missed from here on.
    let mut line = json!({ "result": "listening" }).to_string();
    loop {
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        let mut rest = Vec::new();
        let event = tokio::select! {
            event = events.recv() => event,
            _ = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut rest) => return,
        };
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(events)) => Event::Missed { events },
            Err(broadcast::error::RecvError::Closed) => return,
        };
        line = json!({ "result": event }).to_string();
    }
}

async fn ask(line: &str, requests: &mpsc::Sender<Request>) -> Value {
    let what = match parse(line) {
        Ok(what) => what,
        Err(message) => return refusal(RefusalCode::Invalid, &message),
    };
    let (reply, answer) = oneshot::channel();
    let stopping = || refusal(RefusalCode::NotReady, "the daemon is stopping");
    if requests.send(Request { what, reply }).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

fn parse(line: &str) -> Result<Wanted, String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let method = value.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let wrong = |error: serde_json::Error| format!("method {method:?}: {error}");
    match method.as_str() {
        "attach" | "detach" | "status" => {
            serde_json::from_value(value).map(Wanted::Cni).map_err(wrong)
        }
        _ => serde_json::from_value(value).map(Wanted::Query).map_err(wrong),
    }
}

fn refusal(code: RefusalCode, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused_with_its_method() {
        assert!(parse("{").unwrap_err().starts_with("not a JSON object"));
        assert!(parse(r#"{"method":"fly"}"#).unwrap_err().starts_with("method \"fly\""));
        assert!(parse(r#"{"method":"attach","params":{}}"#).unwrap_err().contains("missing field"));
        assert!(matches!(parse(r#"{"method":"status"}"#), Ok(Wanted::Cni(_))));
        assert!(matches!(parse(r#"{"method":"bgp-peers"}"#), Ok(Wanted::Query(_))));
        assert!(is_stream(r#"{"method":"bgp-events"}"#) && !is_stream(r#"{"method":"status"}"#));
    }
}
