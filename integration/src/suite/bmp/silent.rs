//! A station that takes connections and never reads.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::netns::Netns;

/// Keeps every connection open until the test is over.
#[derive(Debug)]
pub(super) struct Silent {
    connections: Arc<AtomicUsize>,
}

impl Silent {
    pub(super) fn start(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let listener: TcpListener = netns.enter(|| listen(address))??.into();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                kept.push(stream);
                counter.store(kept.len(), Ordering::Relaxed);
            }
        });
        Ok(Self { connections })
    }

    /// How often it was connected to.
    pub(super) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// With little room for what is not read, lest the kernel read in its place.
fn listen(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind(&address.into())?;
    socket.listen(16)?;
    Ok(socket)
}
