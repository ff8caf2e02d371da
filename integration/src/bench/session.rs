//! One session of the tester: dials, says OPEN, then writes what it was given and reads what comes.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::receiver::Heard;
use super::table::Family;
use super::wire;

const BGP_PORT: u16 = 179;
/// How long after a refused connection the next try is.
const RETRY: Duration = Duration::from_millis(100);
/// Well within the hold time of 240 s.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not wanted, or lost.
    Down,
    /// To be dialled at this time.
    Waiting(Instant),
    Connecting,
    OpenSent,
    OpenConfirm,
    /// Since then.
    Established(Instant),
}

/// What the kernel keeps for a session that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// As usual.
    Usual,
    /// As little as can be.
    Tiny,
}

/// A session, up or not.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) address: IpAddr,
    asn: u32,
    router_id: Ipv4Addr,
    family: Family,
    pub(crate) state: State,
    pub(crate) window: Window,
    pub(crate) stream: Option<TcpStream>,
    partial: Vec<u8>,
    unsent: VecDeque<Rc<Vec<u8>>>,
    /// Octets of the first piece that are sent.
    sent: usize,
    next_keepalive: Instant,
    pub(crate) heard: Option<Heard>,
    /// Why the daemon ended it.
    pub(crate) loss: Option<String>,
}

impl Session {
    pub(crate) fn new(address: IpAddr, asn: u32, router_id: Ipv4Addr, family: Family) -> Self {
        Self {
            address,
            asn,
            router_id,
            family,
            state: State::Down,
            window: Window::Usual,
            stream: None,
            partial: Vec::new(),
            unsent: VecDeque::new(),
            sent: 0,
            next_keepalive: Instant::now() + KEEPALIVE_EVERY,
            heard: None,
            loss: None,
        }
    }

    pub(crate) const fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Begins to connect.
    pub(crate) fn dial(&mut self, daemon: IpAddr) -> Result<()> {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(daemon, 0)),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.window == Window::Tiny {
            socket.set_recv_buffer_size(1)?;
        }
        socket.bind(&SocketAddr::new(self.address, 0).into())?;
        match socket.connect(&SocketAddr::new(daemon, BGP_PORT).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                self.hang_up_until(Instant::now() + RETRY);
                return Ok(());
            }
            Ok(()) | Err(_) => {}
        }
        self.stream = Some(socket.into());
        self.state = State::Connecting;
        Ok(())
    }

    /// The connection is made, or has failed.
    pub(crate) fn connected(&mut self) -> Result<()> {
        let failed = match &self.stream {
            Some(stream) => stream.take_error()?.is_some() || stream.peer_addr().is_err(),
            None => return Ok(()),
        };
        if failed {
            self.hang_up_until(Instant::now() + RETRY);
            return Ok(());
        }
        self.state = State::OpenSent;
        self.say(Rc::new(wire::open(self.asn, self.router_id, self.family)));
        self.write()
    }

    /// Ends the connection without a word, to be dialled again.
    fn hang_up_until(&mut self, at: Instant) {
        self.reset();
        self.state = State::Waiting(at);
    }

    /// Ends the connection without a word.
    pub(crate) fn reset(&mut self) {
        self.stream = None;
        self.state = State::Down;
        self.partial = Vec::new();
        self.unsent.clear();
        self.sent = 0;
    }

    /// Queues octets.
    pub(crate) fn say(&mut self, octets: Rc<Vec<u8>>) {
        self.unsent.push_back(octets);
    }

    /// Whether octets wait for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Writes what the socket takes.
    pub(crate) fn write(&mut self) -> Result<()> {
        while let (Some(first), Some(stream)) = (self.unsent.front(), &mut self.stream) {
            match stream.write_vectored(&[IoSlice::new(&first[self.sent..])]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lost(&error.to_string());
                    return Ok(());
                }
            }
            if self.sent == first.len() {
                self.unsent.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.read(buffer) {
            Ok(0) => self.lost("the daemon closed the connection"),
            Ok(count) => return self.take(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.lost(&error.to_string()),
        }
        Ok(())
    }

    fn lost(&mut self, why: &str) {
        // Before the session is up the daemon may be busy, or not know us yet.
        if self.is_established() {
            self.loss.get_or_insert_with(|| why.to_owned());
            self.reset();
        } else {
            self.hang_up_until(Instant::now() + RETRY);
        }
    }

    fn take(&mut self, octets: &[u8]) -> Result<()> {
        let mut partial = std::mem::take(&mut self.partial);
        let whole = if partial.is_empty() {
            octets
        } else {
            partial.extend_from_slice(octets);
            &partial
        };
        let now = Instant::now();
        let mut rest = whole;
        while let Some((kind, body, length)) = wire::frame(rest).map_err(anyhow::Error::msg)? {
            self.message(kind, body, now)?;
            rest = &rest[length..];
        }
        if self.stream.is_some() {
            self.partial = rest.to_vec();
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8], now: Instant) -> Result<()> {
        match (kind, self.state) {
            (wire::UPDATE, _) => {
                if let Some(heard) = &mut self.heard {
                    heard.update(body, now).map_err(anyhow::Error::msg)?;
                }
            }
            (wire::OPEN, State::OpenSent) => {
                let mut keepalive = Vec::new();
                wire::message(&mut keepalive, wire::KEEPALIVE, &[]);
                self.say(Rc::new(keepalive));
                self.write()?;
                self.state = State::OpenConfirm;
            }
            (wire::KEEPALIVE, State::OpenConfirm) => self.state = State::Established(now),
            (wire::NOTIFICATION, _) => {
                let why = format!("NOTIFICATION {:?} from the daemon", body.get(..2));
                self.lost(&why);
            }
            (wire::KEEPALIVE, _) => {}
            (other, state) => bail!("message of type {other} in state {state:?}"),
        }
        Ok(())
    }

    /// Says that we live, when it is time.
    pub(crate) fn keep_alive(&mut self, now: Instant) -> Result<()> {
        if self.is_established() && now >= self.next_keepalive {
            self.next_keepalive = now + KEEPALIVE_EVERY;
            let mut keepalive = Vec::new();
            wire::message(&mut keepalive, wire::KEEPALIVE, &[]);
            self.say(Rc::new(keepalive));
            self.write()?;
        }
        Ok(())
    }
}
