//! Listening sockets: opened with the keys of the peers, and opened again when that failed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;

use super::signal::{Ready, Signal, waker};
use super::socket::{self, Presence};
use crate::speaker::{Config, SigningKey};
use crate::wire::Prefix;

/// The first and the longest wait before an address is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The addresses that we want to listen on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_address: BTreeMap<SocketAddr, Listener>,
    mss: Option<NonZeroU16>,
}

/// The addresses that a configuration asks for.
fn wanted(config: &Config) -> Vec<(SocketAddr, Presence)> {
    let needed = config.listen.iter().map(|address| (*address, Presence::Needed));
    needed.chain(config.listen_ahead.iter().map(|address| (*address, Presence::Ahead))).collect()
}

/// The largest segment of connections that peers make. Who connects is known only when the sizes have been
/// agreed on, so the smallest of all peers holds for each.
fn mss(config: &Config) -> Option<NonZeroU16> {
    let ranges = config.ranges.values().map(|range| &range.template);
    config.peers.values().chain(ranges).filter_map(|peer| peer.tcp_mss).min()
}

/// Keys by whoever has to sign with them.
type Keys = BTreeMap<Prefix, SigningKey>;

#[derive(Debug)]
enum Listener {
    Open {
        socket: TcpListener,
        keys: Keys,
        presence: Presence,
    },
    Waiting {
        retry_at: Instant,
        wait: Duration,
        presence: Presence,
        /// Why it could not be opened the last time.
        why: Option<String>,
    },
}

impl Listener {
    /// To be opened as soon as that.
    const fn due(retry_at: Instant, presence: Presence) -> Self {
        Self::Waiting { retry_at, wait: RETRY.0, presence, why: None }
    }
}

/// What became of an address that we want to listen on.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It listens; the port is the real one when port 0 was asked for. Connections from where a key
    /// could not be set will not come through.
    Open(SocketAddr, Vec<(Prefix, io::Error)>),
    /// It does not, and will be tried again. Told again only when the reason is another.
    Failed(io::Error),
}

/// An outcome, with the address that was asked for.
pub(super) type Report = (SocketAddr, Outcome);

impl Listeners {
    /// Follows the configuration: where to listen, who signs, and how large a segment may be.
    pub(super) fn follow(&mut self, config: &Config, keys: &Keys, now: Instant) {
        self.set_mss(mss(config));
        self.configure(&wanted(config), keys, now);
    }

    /// Follows what is wanted. An address that stays keeps its socket, unless keys changed: who
    /// connected under the old ones and waits to be accepted must not get in.
    fn configure(&mut self, wanted: &[(SocketAddr, Presence)], keys: &Keys, now: Instant) {
        self.by_address.retain(|address, listener| {
            let (presence, stale) = match listener {
                Listener::Open { keys: set, presence, .. } => {
                    (*presence, *set != of_family(*address, keys))
                }
                Listener::Waiting { presence, .. } => (*presence, false),
            };
            wanted.contains(&(*address, presence)) && !stale
        });
        for &(address, presence) in wanted {
            self.by_address.entry(address).or_insert_with(|| Listener::due(now, presence));
        }
    }

    /// Bounds the segments of connections to come.
    fn set_mss(&mut self, mss: Option<NonZeroU16>) {
        if self.mss == mss {
            return;
        }
        self.mss = mss;
        for (address, listener) in &self.by_address {
            if let Listener::Open { socket, .. } = listener
                && let Err(error) = socket::set_mss(socket, mss)
            {
                tracing::warn!(%address, %error, "the size of TCP segments cannot be set");
            }
        }
    }

    /// When to call [`Self::retry`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.by_address.values().filter_map(|listener| match listener {
            Listener::Open { .. } => None,
            Listener::Waiting { retry_at, .. } => Some(*retry_at),
        });
        waiting.min()
    }

    /// Opens what is due.
    pub(super) fn retry(&mut self, keys: &Keys, now: Instant) -> Vec<Report> {
        let mut reports = Vec::new();
        for (address, listener) in &mut self.by_address {
            let Listener::Waiting { retry_at, wait, presence, why } = listener else { continue };
            if *retry_at > now {
                continue;
            }
            match open((*address, *presence), (of_family(*address, keys), self.mss), &mut reports) {
                Ok(open) => *listener = open,
                Err(error) => {
                    *retry_at = now + *wait;
                    *wait = (2 * *wait).min(RETRY.1);
                    let text = error.to_string();
                    if why.as_ref() != Some(&text) && !is_of_no_use(address.ip(), &error) {
                        reports.push((*address, Outcome::Failed(error)));
                    }
                    *why = Some(text);
                }
            }
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
        let listener = self.by_address.get_mut(&address)?;
        let Listener::Open { socket, presence, .. } = listener else { return None };
        let presence = *presence;
        let bell = waker(Ready::Accept(address), signals);
        match socket.poll_accept(&mut Context::from_waker(&bell)) {
            Poll::Pending => None,
            Poll::Ready(Ok(accepted)) => Some(Ok(accepted)),
            Poll::Ready(Err(error)) => {
                // Out of descriptors, most likely; trying at once would spin.
                *listener = Listener::due(now + RETRY.0, presence);
                Some(Err(error))
            }
        }
    }
}

/// "Any address" of a family that this kernel does not have (`ipv6.disable=1`): nobody is missed there.
fn is_of_no_use(address: IpAddr, error: &io::Error) -> bool {
    address.is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn open(
    (address, presence): (SocketAddr, Presence),
    (keys, mss): (Keys, Option<NonZeroU16>),
    reports: &mut Vec<Report>,
) -> io::Result<Listener> {
    let socket = socket::bound(address, presence)?;
    socket::set_mss(&socket, mss)?;
    let refused = |(from, key): (&Prefix, &SigningKey)| {
        Some((*from, socket::set_key(&socket, *from, key).err()?))
    };
    let refused = keys.iter().filter_map(refused).collect();
    let socket = socket::listen(socket)?;
    reports.push((address, Outcome::Open(socket.local_addr()?, refused)));
    Ok(Listener::Open { socket, keys, presence })
}

/// The keys that belong on a socket that listens on `address`.
fn of_family(address: SocketAddr, keys: &Keys) -> Keys {
    let same = keys.iter().filter(|(from, _)| from.addr().is_ipv4() == address.is_ipv4());
    same.map(|(from, key)| (*from, key.clone())).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::net::driver::now;
    use crate::speaker::Signing;

    const UNSIGNED: Keys = Keys::new();

    fn needed(address: SocketAddr) -> (SocketAddr, Presence) {
        (address, Presence::Needed)
    }

    #[tokio::test]
    async fn an_address_that_may_come_is_listened_on_before_it_is_there() {
        for text in ["192.0.2.77:0", "[2001:db8::77]:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut listeners = Listeners::default();
            listeners.configure(&[(address, Presence::Needed)], &UNSIGNED, now());
            let reports = listeners.retry(&UNSIGNED, now());
            assert!(matches!(reports[..], [(_, Outcome::Failed(_))]), "{reports:?}");
            listeners.configure(&[(address, Presence::Ahead)], &UNSIGNED, now());
            let reports = listeners.retry(&UNSIGNED, now());
            assert!(matches!(reports[..], [(_, Outcome::Open(..))]), "{reports:?}");
        }
    }

    /// The clock is the test's: no waiting.
    #[tokio::test]
    async fn an_occupied_port_is_tried_again_at_growing_intervals() {
        let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupant.local_addr().unwrap();
        let mut now = now();
        let mut listeners = Listeners::default();
        listeners.configure(&[address].map(needed), &UNSIGNED, now);
        let mut waits = Vec::new();
        for n in 0..7 {
            let reports = listeners.retry(&UNSIGNED, now);
            match &reports[..] {
                [(failed, Outcome::Failed(error))] if n == 0 => {
                    assert_eq!((*failed, error.kind()), (address, io::ErrorKind::AddrInUse));
                }
                [] if n > 0 => {}
                _ => panic!("the reason is told once, not {reports:?}"),
            }
            assert!(listeners.retry(&UNSIGNED, now).is_empty(), "not before its time");
            let next = listeners.deadline().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        drop(occupant);
        let reports = listeners.retry(&UNSIGNED, now);
        assert!(matches!(&reports[..], [(_, Outcome::Open(local, _))] if *local == address));
        assert_eq!(listeners.deadline(), None);
    }

    #[test]
    fn only_any_address_of_a_family_that_the_kernel_lacks_is_left_out() {
        let lacking = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let is = |address: &str, error| is_of_no_use(address.parse().unwrap(), error);
        assert!(is("::", &lacking) && is("0.0.0.0", &lacking));
        assert!(!is("2001:db8::1", &lacking) && !is("::", &taken));
    }

    #[tokio::test]
    async fn an_address_that_is_no_longer_wanted_is_closed_and_others_stay() {
        let now = now();
        let v4: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
        let mut listeners = Listeners::default();
        listeners.configure(&[v4, other].map(needed), &UNSIGNED, now);
        let reports = listeners.retry(&UNSIGNED, now);
        let [(_, Outcome::Open(first, _)), (_, Outcome::Open(second, _))] = reports[..] else {
            panic!("{reports:?}")
        };
        listeners.configure(&[other].map(needed), &UNSIGNED, now);
        assert!(listeners.retry(&UNSIGNED, now).is_empty());
        assert!(TcpStream::connect(first).await.is_err());
        assert!(TcpStream::connect(second).await.is_ok());
    }

    #[tokio::test]
    async fn a_new_key_turns_away_who_waits_to_be_accepted() {
        let now = now();
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (bell, _signals) = mpsc::unbounded_channel();
        let mut listeners = Listeners::default();
        listeners.configure(&[address].map(needed), &UNSIGNED, now);
        let reports = listeners.retry(&UNSIGNED, now);
        let [(_, Outcome::Open(local, _))] = reports[..] else { panic!("{reports:?}") };
        let mut waiting = TcpStream::connect(local).await.unwrap();

        let range = Prefix::new("127.9.0.0".parse().unwrap(), 16).unwrap();
        let key = SigningKey { secret: "secret".into(), signing: Signing::Md5 };
        let keys = Keys::from([(range, key)]);
        listeners.configure(&[address].map(needed), &keys, now);
        let reports = listeners.retry(&keys, now);
        assert!(matches!(reports.last(), Some((_, Outcome::Open(..)))), "{reports:?}");
        assert!(listeners.accept(address, &bell, now).is_none());
        let read = waiting.read(&mut [0]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        listeners.configure(&[address].map(needed), &keys, now);
        assert!(listeners.retry(&keys, now).is_empty(), "the same keys change nothing");
    }
}
