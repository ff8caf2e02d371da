//! Connections with monitoring stations: ordinary TCP, dialled by us (RFC 7854 §3.2). Once one is up it
//! is written as those with peers are.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A station says nothing, so silence tells nothing of it: the kernel asks after so long.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// And so often, three times.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Connects. That the system sends what is written in small pieces at once is of no use here.
pub(super) async fn connect(station: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(station).await?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// Lets the kernel find out that the other end is gone, where nothing is said.
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The time, for the time stamps in what stations are told.
#[expect(clippy::disallowed_methods, reason = "the edge is where time enters the core")]
pub(super) fn since_epoch() -> Duration {
    // Before 1970 no time is known.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn log_up(station: SocketAddr) {
    tracing::info!(%station, "BMP station connected; it is told everything");
}

pub(super) fn log_down(station: SocketAddr, reason: &str) {
    tracing::warn!(%station, reason, "no connection with the BMP station; it is dialled again");
}
