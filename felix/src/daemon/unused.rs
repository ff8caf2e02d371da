//! Next hops without a way that nobody names any more, or not for the prefix whose route is no way to them. The speaker
//! tells what becomes of chosen paths, and none is chosen by these: so it is asked, now and then.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use ocicat_bgp::net::UnusedNextHops;
use tokio::sync::oneshot;
use tracing::info;

use super::Daemon;

/// The shortest time between two questions.
const SHORTEST_WAIT: Duration = Duration::from_secs(10);
/// So many times as long as the answer took is waited for the next: a walk over a large table costs the speaker a hundredth
/// of its time.
const REST: u32 = 100;

type Answer = (UnusedNextHops, Duration);

/// When the speaker is asked.
#[derive(Debug)]
pub(super) struct Unused {
    not_before: Instant,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Default for Unused {
    fn default() -> Self {
        Self { not_before: Instant::now() + SHORTEST_WAIT, answer: None }
    }
}

impl Daemon {
    /// Forgets unreachable next hops by which no path goes.
    pub(super) fn forget_unused(&mut self) {
        if let Some(answer) = &mut self.unused.answer {
            match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                // The speaker has ended.
                Err(oneshot::error::TryRecvError::Closed) => {}
                Ok((unused, took)) => {
                    self.unused.not_before = Instant::now() + (REST * took).max(SHORTEST_WAIT);
                    self.forget_unreachable(&unused);
                }
            }
            self.unused.answer = None;
        }
        let hops = &self.unreachable.next_hops;
        if hops.is_empty() || Instant::now() < self.unused.not_before {
            return;
        }
        let Some(speaker) = self.speaker.handle() else { return };
        let (reply, answer) = oneshot::channel();
        self.unused.answer = Some(answer);
        let made_of = |hop| self.asked.get(hop).into_iter().flatten().copied().map(Into::into);
        let hops = hops.iter().map(|hop| (*hop, made_of(hop).collect())).collect();
        tokio::spawn(async move {
            let begun = Instant::now();
            if let Ok(unused) = speaker.unused_next_hops(hops).await {
                // Nobody waits when the daemon ends.
                let _ = reply.send((unused, begun.elapsed()));
            }
        });
    }

    fn forget_unreachable(&mut self, UnusedNextHops { by_all: unused, by_some }: &UnusedNextHops) {
        for (hop, prefixes) in by_some.iter().filter(|(hop, _)| !unused.contains(hop)) {
            let Some(made_of_it) = self.asked.get_mut(hop) else { continue };
            prefixes.iter().for_each(|prefix| _ = made_of_it.remove(&IpNet::from(*prefix)));
            // What is made of another may be a way to it.
            self.pending.resolve();
        }
        let mut unreachable = self.unreachable.clone();
        unreachable.next_hops.retain(|hop| !unused.contains(hop));
        for next_hop in self.unreachable.next_hops.difference(&unreachable.next_hops) {
            info!(%next_hop, "no path goes by a next hop without a way any more");
        }
        self.set_unreachable(unreachable);
        // One that is named again is looked for as any other.
        self.asked.retain(|hop, _| !unused.contains(hop));
        self.find_ways();
    }
}
