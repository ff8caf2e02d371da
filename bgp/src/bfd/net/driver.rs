//! The loop that owns the engine, the clock and every socket.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Requests, TryRecvError};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::receiver::{Buffer, Names, Receiver, Wanted};
use super::sender::{Sender, SourcePorts};
use super::{Command, Sink, priority};
use crate::bfd::{
    Datagram, Discriminator, Engine, Output, SessionConfig, SessionName, SessionSnapshot,
};
use crate::net::now;

/// Datagrams read from one port before the others, and the deadlines, get their turn: more than a
/// socket's queue holds by default, so that silence is never judged while a packet waits.
const READ_TURN: usize = 512;

/// Everything that the BFD thread owns.
pub(super) struct Driver {
    engine: Engine,
    receivers: [Receiver; 4],
    senders: BTreeMap<Discriminator, Sender>,
    ports: SourcePorts,
    buffer: Buffer,
    names: Names,
    requests: Requests<Command>,
    bell: Arc<EventFd>,
    sink: Sink,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// AdminDown is being said.
    Stopping,
}

impl Driver {
    pub(super) fn new(
        seed: u64,
        requests: Requests<Command>,
        bell: Arc<EventFd>,
        sink: Sink,
    ) -> Self {
        Self {
            engine: Engine::new(seed),
            receivers: Receiver::all(),
            senders: BTreeMap::new(),
            ports: SourcePorts::new(!seed),
            buffer: Buffer::new(),
            names: Names::new(now()),
            requests,
            bell,
            sink,
            life: Life::Running,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let priority = priority::raise();
        tracing::info!(%priority, "BFD starts");
        while self.life == Life::Running || !self.engine.is_quiet() {
            self.wait();
            self.take_requests();
            let now = now();
            self.receivers.iter_mut().for_each(|receiver| receiver.tend(now));
            self.read_turn();
            self.engine.handle_timeout(now);
            self.carry_out(now);
        }
    }

    /// Sleeps until a datagram, a request or a deadline is there.
    fn wait(&self) {
        let deadlines = self.receivers.iter().map(Receiver::deadline);
        let deadline = deadlines.chain([self.engine.poll_timeout()]).flatten().min();
        let left = deadline.map(|at| TimeSpec::from(at.saturating_duration_since(now())));
        let bell = self.bell.as_fd();
        let mut watched = [(); 5].map(|()| PollFd::new(bell, PollFlags::POLLIN));
        for (place, receiver) in watched[1..].iter_mut().zip(&self.receivers) {
            if let Some(descriptor) = receiver.descriptor() {
                *place = PollFd::new(descriptor, PollFlags::POLLIN);
            }
        }
        // An interrupted wait is a short one.
        let _ = ppoll(&mut watched, left, None);
    }

    fn take_requests(&mut self) {
        // Nothing to read says that nobody rang.
        let _ = self.bell.read();
        loop {
            match self.requests.try_recv() {
                Ok(Command::Configure(sessions)) => self.configure(sessions),
                Ok(Command::Snapshot(reply)) => reply(self.snapshot()),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    if self.life == Life::Running {
                        self.life = Life::Stopping;
                        self.engine.shut_down(now());
                    }
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn configure(&mut self, sessions: BTreeMap<SessionName, SessionConfig>) {
        let now = now();
        for receiver in &mut self.receivers {
            let needed = sessions.values().any(|config| receiver.serves(config));
            receiver.want(if needed { Wanted::Yes } else { Wanted::No }, now);
        }
        self.engine.configure(now, sessions);
    }

    /// Hands every datagram that has come to the engine.
    fn read_turn(&mut self) {
        let Self { engine, receivers, buffer, names, .. } = self;
        for receiver in receivers {
            for _ in 0..READ_TURN {
                let Some(heading) = receiver.read(buffer) else { break };
                let now = now();
                let datagram = Datagram {
                    source: heading.source,
                    destination: heading.destination,
                    interface: names.of(heading.interface, now),
                    ttl: heading.ttl,
                    port: receiver.port(),
                    bytes: &buffer.bytes[..heading.length],
                };
                engine.handle(now, &datagram);
            }
        }
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Opened { session, config } => {
                    self.senders.insert(session, Sender::new(config, now));
                }
                Output::Transmit { session, bytes } => {
                    if let Some(sender) = self.senders.get_mut(&session) {
                        sender.send(&bytes, now, &mut self.ports);
                    }
                }
                Output::Closed { session } => {
                    if let Some(mut sender) = self.senders.remove(&session) {
                        sender.close(&mut self.ports);
                    }
                }
                Output::Event(event) => (self.sink)(event),
            }
        }
    }

    fn snapshot(&self) -> Vec<SessionSnapshot> {
        let mut sessions = self.engine.snapshot(now());
        for session in &mut sessions {
            let sender = self.senders.get(&session.local_discriminator);
            let unheard = self.receivers.iter().find(|receiver| {
                receiver.error.is_some()
                    && receiver.serves(&SessionConfig {
                        reach: session.reach,
                        ..SessionConfig::new(session.peer)
                    })
            });
            let unsent = sender.and_then(|sender| sender.error.clone());
            session.error = unsent.or_else(|| unheard.and_then(|receiver| receiver.error.clone()));
        }
        sessions
    }
}
