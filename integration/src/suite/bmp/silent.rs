//! A station that takes connections and never reads.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::netns::Netns;

/// Keeps every connection open until the test is over.
#[derive(Debug)]
pub(super) struct Silent {
    connections: Arc<AtomicUsize>,
}

impl Silent {
    pub(super) fn start(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let listener = netns.enter(|| TcpListener::bind(address))??;
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
