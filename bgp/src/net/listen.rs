//! Listening sockets: opened, opened again when that failed, and told the keys of the peers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;

use super::signal::{Ready, Signal, waker};
use super::socket;
use crate::speaker::{Config, Password};

/// The first and the longest wait before an address is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The addresses that we want to listen on.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<SocketAddr, Listener>);

#[derive(Debug)]
enum Listener {
    Open { socket: TcpListener, keys: BTreeMap<IpAddr, Arc<str>> },
    Waiting { retry_at: Instant, wait: Duration },
}

/// What became of an address that we want to listen on.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It listens; the port is the real one when port 0 was asked for.
    Open(SocketAddr),
    /// It does not, and will be tried again.
    Failed(io::Error),
    /// A peer's key could not be set; its connections will not come through.
    KeyRefused(IpAddr, io::Error),
}

/// An outcome, with the address that was asked for.
pub(super) type Report = (SocketAddr, Outcome);

impl Listeners {
    /// Follows a new configuration. Addresses that stay keep their socket.
    pub(super) fn configure(&mut self, config: &Config, now: Instant) {
        self.0.retain(|address, _| config.listen.contains(address));
        for address in &config.listen {
            let waiting = Listener::Waiting { retry_at: now, wait: RETRY.0 };
            self.0.entry(*address).or_insert(waiting);
        }
    }

    /// When to call [`Self::retry`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.0.values().filter_map(|listener| match listener {
            Listener::Open { .. } => None,
            Listener::Waiting { retry_at, .. } => Some(*retry_at),
        });
        waiting.min()
    }

    /// Opens what is due, and brings the keys of all sockets up to date.
    pub(super) fn retry(&mut self, config: &Config, now: Instant) -> Vec<Report> {
        let mut reports = Vec::new();
        for (address, listener) in &mut self.0 {
            if let Listener::Waiting { retry_at, wait } = listener
                && *retry_at <= now
            {
                let wait = *wait;
                let outcome = open(*address, listener).unwrap_or_else(|error| {
                    let next = (2 * wait).min(RETRY.1);
                    *listener = Listener::Waiting { retry_at: now + wait, wait: next };
                    Outcome::Failed(error)
                });
                reports.push((*address, outcome));
            }
            reports.extend(listener.set_keys(*address, config));
        }
        reports
    }

    /// Takes the next connection of a socket; arms its waker when there is none.
    pub(super) fn accept(
        &mut self,
        address: SocketAddr,
        signals: &UnboundedSender<Signal>,
        now: Instant,
    ) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.0.get_mut(&address)?;
        let Listener::Open { socket, .. } = listener else { return None };
        let bell = waker(Ready::Accept(address), signals);
        match socket.poll_accept(&mut Context::from_waker(&bell)) {
            Poll::Pending => None,
            Poll::Ready(Ok(accepted)) => Some(Ok(accepted)),
            Poll::Ready(Err(error)) => {
                // Out of descriptors, most likely; trying at once would spin.
                *listener = Listener::Waiting { retry_at: now + RETRY.0, wait: RETRY.0 };
                Some(Err(error))
            }
        }
    }
}

fn open(address: SocketAddr, listener: &mut Listener) -> io::Result<Outcome> {
    let socket = socket::listen(address)?;
    let local = socket.local_addr()?;
    *listener = Listener::Open { socket, keys: BTreeMap::new() };
    Ok(Outcome::Open(local))
}

impl Listener {
    fn set_keys(&mut self, address: SocketAddr, config: &Config) -> Vec<Report> {
        let Self::Open { socket, keys } = self else { return Vec::new() };
        let wanted: BTreeMap<IpAddr, Arc<str>> = config
            .peers
            .values()
            .filter(|peer| socket::same_family(address, peer.address))
            .filter_map(|peer| match &peer.password {
                Password::Key(key) => Some((peer.address, Arc::clone(key))),
                Password::None | Password::Missing => None,
            })
            .collect();
        let gone = keys.keys().filter(|peer| !wanted.contains_key(peer)).map(|peer| (*peer, ""));
        let changed = wanted.iter().filter(|(peer, key)| keys.get(peer) != Some(key));
        let socket = SockRef::from(&*socket);
        let steps = gone.chain(changed.map(|(peer, key)| (*peer, &**key)));
        let failures = steps
            .filter_map(|(peer, key)| {
                let error = socket::set_md5_key(&socket, peer, key.as_bytes()).err()?;
                Some((address, Outcome::KeyRefused(peer, error)))
            })
            .collect();
        *keys = wanted;
        failures
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;
    use crate::net::driver::now;

    fn config(listen: &[SocketAddr]) -> Config {
        let mut config = Config::new(NonZeroU32::MIN, Ipv4Addr::LOCALHOST);
        config.listen = listen.to_vec();
        config
    }

    /// The clock is the test's: no waiting.
    #[tokio::test]
    async fn an_occupied_port_is_tried_again_at_growing_intervals() {
        let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupant.local_addr().unwrap();
        let config = config(&[address]);
        let mut now = now();
        let mut listeners = Listeners::default();
        listeners.configure(&config, now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let reports = listeners.retry(&config, now);
            let [(failed, Outcome::Failed(error))] = &reports[..] else { panic!("{reports:?}") };
            assert_eq!((*failed, error.kind()), (address, io::ErrorKind::AddrInUse));
            assert!(listeners.retry(&config, now).is_empty(), "not before its time");
            let next = listeners.deadline().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        drop(occupant);
        let reports = listeners.retry(&config, now);
        assert!(matches!(&reports[..], [(_, Outcome::Open(local))] if *local == address));
        assert_eq!(listeners.deadline(), None);
    }

    #[tokio::test]
    async fn an_address_that_is_no_longer_wanted_is_closed_and_others_stay() {
        let now = now();
        let v4: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
        let mut listeners = Listeners::default();
        listeners.configure(&config(&[v4, other]), now);
        let reports = listeners.retry(&config(&[v4, other]), now);
        let [(_, Outcome::Open(first)), (_, Outcome::Open(second))] = reports[..] else {
            panic!("{reports:?}")
        };
        listeners.configure(&config(&[other]), now);
        assert!(listeners.retry(&config(&[other]), now).is_empty());
        assert!(TcpStream::connect(first).await.is_err());
        assert!(TcpStream::connect(second).await.is_ok());
    }
}
