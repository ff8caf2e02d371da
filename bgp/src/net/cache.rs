//! Connections with caches of the RPKI: ordinary TCP, dialled by us (RFC 8210 §9). Once one is up it is
//! read and written as those with peers are.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::station;

/// Connects. A cache may have nothing to say for an hour, so the kernel asks whether it is there.
pub(super) async fn connect(cache: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(cache).await?;
    station::keep_alive(&stream)?;
    Ok(stream)
}

pub(super) fn log_up(cache: SocketAddr, records: usize) {
    tracing::info!(%cache, records, "the RPKI cache has told all that it has");
}

pub(super) fn log_down(cache: SocketAddr, reason: &str) {
    tracing::warn!(%cache, reason, "no connection with the RPKI cache; it is dialled again, and what it told counts on");
}

pub(super) fn log_expired(cache: SocketAddr) {
    tracing::warn!(%cache, "what the RPKI cache told is too old, and does not count any more");
}
