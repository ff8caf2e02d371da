//! A steady flow of numbered UDP packets that are echoed, to count what a change costs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::unspecified;
use crate::netns::Netns;

/// A running flow. Needs a [`super::Server`] with the UDP port at its target.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<StreamReport>>,
}

/// What became of a flow's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamReport {
    pub(crate) sent: u32,
    pub(crate) answered: u32,
    /// The longest time between two answers, while packets were sent.
    pub(crate) longest_silence: Duration,
}

impl StreamReport {
    pub(crate) fn lost(&self) -> u32 {
        self.sent - self.answered
    }
}

impl Stream {
    /// Starts to send `rate` packets per second.
    pub(crate) fn start(from: &Netns, to: SocketAddr, rate: u32) -> Result<Self> {
        let socket = from.enter(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind(SocketAddr::new(unspecified(to.ip()), 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || pump(&socket, rate, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends flows at the same moment, and waits for their last answers.
    pub(crate) fn finish_all(streams: Vec<Self>) -> Result<Vec<StreamReport>> {
        streams.iter().for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
        streams.into_iter().map(Self::finish).collect()
    }

    /// Ends the flow and waits for the last answers.
    pub(crate) fn finish(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn pump(socket: &UdpSocket, rate: u32, stopped: &AtomicBool) -> Result<StreamReport> {
    let start = Instant::now();
    let mut answers = Answers::new(start);
    let mut sent = 0;
    while !stopped.load(Ordering::Relaxed) {
        // The high half tells a stream's packets from a probe's nonces.
        let number: u32 = 0x8000_0000 | sent;
        // A failed send is a lost packet, like one that is dropped later.
        let _ = socket.send(&number.to_be_bytes());
        sent += 1;
        answers.collect(socket);
        // By the schedule, not by the last packet: a late thread catches up.
        let due = start + Duration::from_secs(1) * sent / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    // To wait for what was lost is no silence.
    let longest_silence = answers.longest_silence;
    let end = Instant::now() + Duration::from_secs(1);
    while answers.count() < sent && Instant::now() < end {
        answers.collect(socket);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(StreamReport { sent, answered: answers.count(), longest_silence })
}

struct Answers {
    seen: Vec<bool>,
    last: Instant,
    longest_silence: Duration,
}

impl Answers {
    fn new(start: Instant) -> Self {
        Self { seen: Vec::new(), last: start, longest_silence: Duration::ZERO }
    }

    fn count(&self) -> u32 {
        let count = self.seen.iter().filter(|seen| **seen).count();
        u32::try_from(count).expect("no more than were sent")
    }

    fn collect(&mut self, socket: &UdpSocket) {
        let mut buffer = [0; 4];
        let mut heard = false;
        while socket.recv(&mut buffer).is_ok_and(|length| length == 4) {
            let number =
                usize::try_from(u32::from_be_bytes(buffer) & 0x7fff_ffff).expect("31 bits");
            if self.seen.len() <= number {
                self.seen.resize(number + 1, false);
            }
            self.seen[number] = true;
            heard = true;
        }
        let now = Instant::now();
        self.longest_silence = self.longest_silence.max(now - self.last);
        if heard {
            self.last = now;
        }
    }
}

/// The round trips of `count` flows of one packet, one after the other, each from a port of its own.
/// Fails at the first that is not answered in 100 ms.
pub(crate) fn round_trips(from: &Netns, to: SocketAddr, count: usize) -> Result<Vec<Duration>> {
    from.enter(|| {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = UdpSocket::bind(SocketAddr::new(unspecified(to.ip()), 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            let start = Instant::now();
            socket.send(&[0; 4])?;
            socket.recv(&mut [0; 4])?;
            times.push(start.elapsed());
        }
        Ok(times)
    })?
}
