//! Routers at the other end of links: router advertisements, sent and heard (RFC 4861).
//!
//! An unnumbered peer is known by its interface alone. On each such interface we advertise ourselves
//! as a router that is nobody's default, so that the other end learns our link-local address, and
//! learn its own from what it advertises. What is heard is a hint and no more: the session that
//! follows has an AS number, a password if one is set, and a TTL to be checked.

mod link;
mod packet;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};

use super::signal::Signal;
use crate::speaker::{Admin, Config, PeerConfig};
use link::Link;
use packet::Heard;

/// How often an interface that is not there, or not up, is looked at again.
const RETRY: Duration = Duration::from_secs(1);
/// RFC 4861 §10: MIN_DELAY_BETWEEN_RAS, which the first few keep to.
const FIRST_EVERY: Duration = Duration::from_secs(3);
/// How many are sent at that pace, each with a solicitation.
const FIRST: u32 = 3;
/// Later advertisements: between the least (4 s) and the customary (600 s) of RFC 4861 §6.2.1, and
/// what routers that peer by interface use.
const EVERY: Duration = Duration::from_secs(10);

/// A task for each interface on which routers are looked for.
#[derive(Debug)]
pub(super) struct Discovery {
    links: BTreeMap<Arc<str>, AbortHandle>,
    tasks: JoinSet<()>,
    bell: UnboundedSender<Signal>,
}

impl Discovery {
    pub(super) fn new(bell: UnboundedSender<Signal>) -> Self {
        Self { links: BTreeMap::new(), tasks: JoinSet::new(), bell }
    }

    /// Follows the unnumbered peers of a configuration.
    pub(super) fn configure(&mut self, config: &Config) {
        let wanted = |peer: &&PeerConfig| peer.is_unnumbered() && peer.admin == Admin::Up;
        let wanted = config.peers.values().filter(wanted).filter_map(|peer| peer.interface.clone());
        let wanted: Vec<Arc<str>> = wanted.collect();
        for (_, task) in self.links.extract_if(.., |name, _| !wanted.contains(name)) {
            task.abort();
        }
        while self.tasks.try_join_next().is_some() {}
        for interface in wanted {
            if !self.links.contains_key(&interface) {
                let task = attend(Arc::clone(&interface), self.bell.clone());
                self.links.insert(interface, self.tasks.spawn(task));
            }
        }
    }
}

/// Keeps at an interface for as long as it is wanted; each trouble is one line in the log.
async fn attend(interface: Arc<str>, bell: UnboundedSender<Signal>) {
    let mut trouble = String::new();
    loop {
        let error = match Link::open(&interface) {
            Ok(link) => converse(&link, &interface, &bell, &mut trouble).await,
            Err(error) => error,
        };
        let text = error.to_string();
        if text != trouble {
            tracing::warn!(%interface, %error, "routers cannot be found; trying again");
            trouble = text;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Advertises and listens until something fails. An interface that is down opens as any other: its trouble is over when
/// the first advertisement has gone out.
async fn converse(
    link: &Link,
    interface: &Arc<str>,
    bell: &UnboundedSender<Signal>,
    trouble: &mut String,
) -> io::Error {
    let mut advertised = 0;
    loop {
        let told = if advertised < FIRST { link.solicit() } else { Ok(()) };
        if let Err(error) = told.and_then(|()| link.advertise()) {
            return error;
        }
        if advertised == 0 {
            tracing::info!(%interface, "advertising ourselves and listening for routers");
            trouble.clear();
        }
        advertised += 1;
        let length = if advertised < FIRST { FIRST_EVERY } else { EVERY };
        let pause = tokio::time::sleep(length);
        tokio::pin!(pause);
        let soonest = pause.deadline() - length + FIRST_EVERY;
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = tokio::time::sleep(RETRY) => {
                    if let Err(error) = link.check() {
                        return error;
                    }
                }
                heard = link.next() => match heard {
                    Ok((source, Heard::Advertisement)) => {
                        // The driver may be gone; then nobody needs to know.
                        let _ = bell.send(Signal::RouterFound(Arc::clone(interface), source));
                    }
                    // RFC 4861 §6.2.6: whoever asks is answered, not sooner than the last
                    // advertisement allows.
                    Ok((_, Heard::Solicitation)) => pause.as_mut().reset(soonest),
                    Err(error) => return error,
                },
            }
        }
    }
}
