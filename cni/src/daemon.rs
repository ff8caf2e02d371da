//! The conversation with the node daemon on its Unix socket: one JSON object per line, a request and its response.
//!
//! ```text
//! {"method":"attach","params":{"namespace":"default","pod":"web",...}}
//! {"result":{"enforced":true,"micros":412}}
//! {"method":"status"}
//! {"error":{"code":"not-ready","message":"3 of 7 watches have synced"}}
//! ```
//!
//! The types serve both ends. The client here blocks with a deadline, since the plugin has nothing else to do; who may
//! connect is the daemon's affair (a socket of root's, peer credentials).

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// Where the daemon listens unless a network configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ocicat/ocicat.sock";

/// A response longer than this is not one of the daemon's, in bytes.
const LONGEST_RESPONSE: usize = 1 << 20;

/// What the plugin asks. The daemon may have more methods on the same socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "lowercase")]
pub enum Request {
    /// Enforce the policy of this endpoint; answered with [`Attached`] when it is in the kernel.
    ///
    /// It comes before the interface exists, and again if an ADD is repeated. Another endpoint with the same host
    /// interface is superseded by it: the pod has a new sandbox.
    Attach(Endpoint),
    /// This endpoint is gone; answered with an empty object. The pod may have a new sandbox under the same interface
    /// name by now: container id and interface tell which one is meant.
    Detach(Endpoint),
    /// Whether an [`Request::Attach`] would be served; answered with [`Status`].
    Status,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response<T> {
    /// It is done.
    Result(T),
    /// It is not done.
    Error(Refusal),
}

/// The answer to [`Request::Attach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Whether the pod's policy is in the kernel. The plugin takes anything but true as a failure.
    pub enforced: bool,
    /// How long it took from the request's arrival, in microseconds.
    pub micros: u64,
}

/// The answer to [`Request::Detach`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {}

/// The answer to [`Request::Status`]; the daemon's own answer may hold more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether pods can be attached.
    pub ready: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What the plugin should do about it.
    pub code: RefusalCode,
    /// What to tell the operator.
    pub message: String,
}

/// What the plugin should do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The daemon is starting or stopping: try again.
    NotReady,
    /// The request cannot be understood or contradicts what the daemon knows: trying again is in vain.
    Invalid,
    /// The kernel refused, or another fault of the node's.
    #[serde(other)]
    Failed,
}

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("no ocicat daemon answers on {}: {source}", socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The daemon is there and did not answer in time.
    #[error("the ocicat daemon on {} did not answer within {after:?}", socket.display())]
    TimedOut {
        /// The socket's path.
        socket: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke, or what came was no response.
    #[error("the ocicat daemon on {} gave no usable answer: {source}", socket.display())]
    Broken {
        /// The socket's path.
        socket: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The daemon refused.
    #[error("the ocicat daemon refused: {0}")]
    Refused(#[from] Refusal),
}

/// A connection that carries one request and its response.
#[derive(Debug)]
pub struct Connection {
    socket: PathBuf,
    stream: UnixStream,
    deadline: Instant,
    timeout: Duration,
}

impl Connection {
    /// Connects to the daemon on `socket`. From now on the whole conversation may take `timeout`.
    pub fn open(socket: &Path, timeout: Duration) -> Result<Self, CallError> {
        let deadline = Instant::now() + timeout;
        let socket = socket.to_owned();
        match connect_within(&socket, timeout) {
            Ok(stream) => Ok(Self { socket, stream, deadline, timeout }),
            Err(source) if timed_out(&source) => {
                Err(CallError::TimedOut { socket, after: timeout })
            }
            Err(source) => Err(CallError::Unreachable { socket, source }),
        }
    }

    /// Sends the request. The daemon sets to work while the caller does something else.
    pub fn send(&mut self, request: &Request) -> Result<(), CallError> {
        let mut line = serde_json::to_vec(request).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|source| self.failed(source))
    }

    /// Waits for the response.
    pub fn receive<T: DeserializeOwned>(mut self) -> Result<T, CallError> {
        let line =
            read_line(&mut self.stream, self.deadline).map_err(|error| self.failed(error))?;
        match serde_json::from_slice(&line).map_err(|error| self.failed(error.into()))? {
            Response::Result(result) => Ok(result),
            Response::Error(refusal) => Err(refusal.into()),
        }
    }

    fn failed(&self, source: io::Error) -> CallError {
        let socket = self.socket.clone();
        if timed_out(&source) {
            CallError::TimedOut { socket, after: self.timeout }
        } else {
            CallError::Broken { socket, source }
        }
    }
}

/// Sends `request` to the daemon on `socket` and waits for its answer, no longer than `timeout` in all.
pub fn call<T: DeserializeOwned>(
    socket: &Path,
    request: &Request,
    timeout: Duration,
) -> Result<T, CallError> {
    let mut connection = Connection::open(socket, timeout)?;
    connection.send(request)?;
    connection.receive()
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Connects with a deadline, which the standard library cannot: a daemon that hangs with a full backlog would hold the
/// plugin for ever.
fn connect_within(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let micros = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX).max(1);
    setsockopt(&fd, SendTimeout, &TimeVal::new(micros / 1_000_000, micros % 1_000_000))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let length = stream.read(&mut chunk)?;
        line.extend_from_slice(&chunk[..length]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.len() > LONGEST_RESPONSE {
            return Err(io::Error::other("the response is longer than 1 MiB"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::example;
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn endpoint() -> Endpoint {
        example(&["10.65.1.2"])
    }

    /// Answers one connection with `answer`, whatever it asks, and gives back what it asked.
    fn answer(answer: &'static str) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let line =
                read_line(&mut stream, Instant::now() + Duration::from_secs(5)).unwrap_or_default();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(line).unwrap()
        });
        (directory, path, asked)
    }

    fn attach(path: &Path) -> Result<Attached, CallError> {
        call(path, &Request::Attach(endpoint()), Duration::from_secs(5))
    }

    #[test]
    fn attach_sends_one_line_and_reads_one_line() {
        let (_directory, path, asked) = answer("{\"result\":{\"enforced\":true,\"micros\":412}}\n");
        assert_eq!(attach(&path).unwrap(), Attached { enforced: true, micros: 412 });
        let asked = asked.join().unwrap();
        assert!(
            asked.starts_with(r#"{"method":"attach","params":{"namespace":"default","pod":"web""#),
            "{asked}"
        );
        assert_eq!(serde_json::from_str::<Request>(&asked).unwrap(), Request::Attach(endpoint()));
    }

    #[test]
    fn status_has_no_params() {
        assert_eq!(serde_json::to_string(&Request::Status).unwrap(), r#"{"method":"status"}"#);
    }

    #[test]
    fn a_refusal_keeps_code_and_message() {
        let (_directory, path, _) =
            answer("{\"error\":{\"code\":\"not-ready\",\"message\":\"3 of 7 watches\"}}\n");
        let error = attach(&path).unwrap_err();
        assert!(matches!(&error, CallError::Refused(r) if r.code == RefusalCode::NotReady));
        assert_eq!(error.to_string(), "the ocicat daemon refused: 3 of 7 watches");
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_a_failure() {
        let refusal: Refusal = serde_json::from_str(r#"{"code":"eaten","message":""}"#).unwrap();
        assert_eq!(refusal.code, RefusalCode::Failed);
    }

    #[test]
    fn nobody_there_names_the_socket() {
        let error = attach(Path::new("/nonexistent/sock")).unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }));
        assert!(error.to_string().contains("/nonexistent/sock"), "{error}");
    }

    #[test]
    fn an_answer_that_breaks_off_is_not_taken() {
        let (_directory, path, _) = answer("{\"result\":{\"enforced\":true,\"mic");
        assert!(matches!(attach(&path).unwrap_err(), CallError::Broken { .. }));
    }

    #[test]
    fn a_silent_daemon_is_given_up_at_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let timeout = Duration::from_millis(20);
        let error = call::<Attached>(&path, &Request::Status, timeout).unwrap_err();
        assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    }
}
