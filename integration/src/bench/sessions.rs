//! All sessions of the tester on one epoll: one thread, no locks, so that what is measured is the
//! daemon.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::measure;
use super::scenario::{Play, router_id};
use super::session::{Session, State};

/// Whether the tester reads what a session is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    On,
    Off,
}

/// The sessions of one play.
pub(crate) struct Sessions {
    pub(crate) all: Vec<Session>,
    daemon: IpAddr,
    pub(crate) pid: u32,
    epoll: Epoll,
    reading: Vec<Reading>,
    buffer: Vec<u8>,
    next_round: Instant,
}

impl Sessions {
    pub(crate) fn new(play: Play, pid: u32) -> Result<Self> {
        let session = |(number, peer): (usize, super::scenario::Peer)| {
            Session::new(peer.address, peer.asn, router_id(number), play.family())
        };
        let all: Vec<Session> = play.peers().into_iter().enumerate().map(session).collect();
        Ok(Self {
            reading: vec![Reading::On; all.len()],
            all,
            daemon: play.daemon(),
            pid,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            buffer: vec![0; 256 * 1024],
            next_round: Instant::now(),
        })
    }

    /// Sets sessions going.
    pub(crate) fn dial(&mut self, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
        for number in numbers {
            self.all[number].dial(self.daemon)?;
            self.register(number)?;
        }
        Ok(())
    }

    /// Sets sessions going, and waits until they are up.
    pub(crate) fn bring_up(&mut self, numbers: std::ops::Range<usize>) -> Result<()> {
        self.dial(numbers.clone())?;
        let up =
            |sessions: &Self| sessions.all[numbers.clone()].iter().all(Session::is_established);
        for _ in 0..60 {
            if self.run(Duration::from_secs(1), up)? {
                return Ok(());
            }
            measure::sample(self.pid)?;
        }
        bail!("not all sessions came up within 60 s")
    }

    fn register(&mut self, number: usize) -> Result<()> {
        if let Some(stream) = &self.all[number].stream {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.epoll.add(stream, EpollEvent::new(flags, number as u64))?;
        }
        Ok(())
    }

    /// What to wait for on a session.
    fn watch(&self, number: usize) -> Result<()> {
        let session = &self.all[number];
        let Some(stream) = &session.stream else { return Ok(()) };
        let mut flags = EpollFlags::empty();
        if self.reading[number] == Reading::On {
            flags |= EpollFlags::EPOLLIN;
        }
        if session.has_unsent() || session.state == State::Connecting {
            flags |= EpollFlags::EPOLLOUT;
        }
        Ok(self.epoll.modify(stream, &mut EpollEvent::new(flags, number as u64))?)
    }

    /// Begins or ceases to read a session.
    pub(crate) fn set_reading(&mut self, number: usize, reading: Reading) -> Result<()> {
        self.reading[number] = reading;
        self.watch(number)
    }

    /// Queues octets on a session and writes what the socket takes.
    pub(crate) fn say(&mut self, number: usize, octets: std::rc::Rc<Vec<u8>>) -> Result<()> {
        self.all[number].say(octets);
        self.all[number].write()?;
        self.watch(number)
    }

    /// Works until something holds; says whether it did within the limit.
    pub(crate) fn run(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while !is_so(self) {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.turn(Duration::from_millis(20))?;
        }
        Ok(true)
    }

    /// Waits for anything, no longer than this, and does it.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let millis = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(millis)) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            let number = usize::try_from(event.data())?;
            let flags = event.events();
            let session = &mut self.all[number];
            if session.state == State::Connecting {
                session.connected()?;
            } else if flags.contains(EpollFlags::EPOLLOUT) {
                session.write()?;
            }
            let ready = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            if flags.intersects(ready) && self.reading[number] == Reading::On {
                session.read(&mut self.buffer)?;
            }
            self.check(number)?;
            self.watch(number)?;
        }
        self.round()
    }

    /// A session that was up and is lost ends the measurement.
    fn check(&mut self, number: usize) -> Result<()> {
        if let Some(loss) = self.all[number].loss.take() {
            bail!("session {number} was lost: {loss}");
        }
        Ok(())
    }

    /// What is done now and then: dialling again, keepalives.
    fn round(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_round {
            return Ok(());
        }
        self.next_round = now + Duration::from_millis(20);
        for number in 0..self.all.len() {
            match self.all[number].state {
                State::Waiting(at) if at <= now => self.dial([number])?,
                State::Established(_) => {
                    self.all[number].keep_alive(now)?;
                }
                State::Waiting(_)
                | State::Down
                | State::Connecting
                | State::OpenSent
                | State::OpenConfirm => {}
            }
        }
        Ok(())
    }

    /// Works until the daemon has nothing to do any more.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(30);
        let mut before = measure::sample(self.pid)?.cpu;
        while Instant::now() < limit {
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                self.turn(Duration::from_millis(20))?;
            }
            let after = measure::sample(self.pid)?.cpu;
            if after - before < Duration::from_millis(4) {
                return Ok(());
            }
            before = after;
        }
        Ok(())
    }
}
