//! A sender that is in a pod's namespace before the pod has an interface, and sends the moment it
//! can: what it gets through to a place that policy forbids is what a new pod may leak.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::unspecified;
use crate::netns::Netns;

/// A running early sender.
#[derive(Debug)]
pub(crate) struct EarlySender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<EarlyReport>,
}

/// What an early sender did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EarlyReport {
    /// Packets that the pod's own kernel took, per target the same number within one.
    pub(crate) accepted: u32,
    /// From the first packet that the pod's kernel took to the end.
    pub(crate) since_first: Duration,
}

impl EarlySender {
    /// Starts to send to each target some 5,000 times a second.
    pub(crate) fn start(from: &Netns, targets: &[SocketAddr]) -> Result<Self> {
        let mut sockets = Vec::new();
        for target in targets {
            let any = SocketAddr::new(unspecified(target.ip()), 0);
            let socket = from.enter(|| UdpSocket::bind(any))??;
            socket.set_nonblocking(true)?;
            sockets.push((socket, *target));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || pump(&sockets, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends the sender.
    pub(crate) fn finish(self) -> EarlyReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn pump(sockets: &[(UdpSocket, SocketAddr)], stopped: &AtomicBool) -> EarlyReport {
    let mut accepted = 0_u32;
    let mut first = None;
    while !stopped.load(Ordering::Relaxed) {
        for (socket, target) in sockets {
            // Its own range of numbers, so that a journal tells these packets from others.
            let number = 0x4000_0000 | accepted;
            // Until there is an address and a route, the kernel says so here.
            if socket.send_to(&number.to_be_bytes(), target).is_ok() {
                accepted += 1;
                first.get_or_insert_with(Instant::now);
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
    EarlyReport { accepted, since_first: first.map_or(Duration::ZERO, |first| first.elapsed()) }
}
