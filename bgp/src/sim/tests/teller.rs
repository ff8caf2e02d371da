//! A peer that says what a speaker would not.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use super::*;
use crate::session::collision::Identity;
use crate::session::negotiate::our_open;
use crate::speaker::{AddPath, Arrival, ConnId, Input, Receive, Speaker};
use crate::wire::capability::{Forwarding, RestartState};
use crate::wire::{self, AsnWidth, Codec, MessageSize, NextHop, Origin, PeerKind, Rewrite};

/// What it tells.
pub(super) const TOLD: &str = "172.16.0.0/24";
/// How long its paths are kept when its restart time is over.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// A peer of one speaker whose messages we write ourselves.
pub(super) struct Teller {
    pub(super) speaker: Speaker,
    config: PeerConfig,
    pub(super) now: Instant,
    conn: ConnId,
}

impl Teller {
    pub(super) fn new() -> Self {
        let now = network(1, vec![]).now();
        let mut config = configs(&[65001, 65002], &[(0, 1)]).remove(0);
        let peer = config.peers.get_mut(&name(1)).unwrap();
        peer.add_path = AddPath { receive: Receive::Several, send: NonZeroU8::new(8) };
        peer.long_lived = Some(LONG);
        let peer = peer.clone();
        let mut speaker = Speaker::new(config, 1, now);
        let conn = Self::connect(&mut speaker, &peer, now);
        Self { speaker, config: peer, now, conn }
    }

    fn connect(speaker: &mut Speaker, config: &PeerConfig, now: Instant) -> ConnId {
        let ends = Arrival::new((address(0), 179).into(), (address(1), 4000).into());
        let conn = speaker.accept(now, ends).unwrap();
        let us = Identity { router_id: Ipv4Addr::new(10, 0, 0, 2), asn: 65002 };
        let mut bytes = Vec::new();
        let restart = (RestartState::Running, Forwarding::Preserved);
        our_open(config, us, PeerKind::External, restart).emit(&mut bytes);
        wire::keepalive(&mut bytes);
        speaker.handle(now, Input::Received { conn, bytes: &bytes });
        conn
    }

    pub(super) fn lose(&mut self) {
        self.speaker.handle(self.now, Input::Closed { conn: self.conn, error: None });
    }

    pub(super) fn connect_again(&mut self) {
        self.conn = Self::connect(&mut self.speaker, &self.config, self.now);
    }

    /// The connection is lost, and there is another.
    pub(super) fn restart(&mut self) {
        self.lose();
        self.connect_again();
    }

    /// Lets time pass, and all that is due be done.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        while self.speaker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.speaker.handle_timeout(self.now);
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.speaker.handle(self.now, Input::Received { conn: self.conn, bytes });
    }

    /// Tells paths to one prefix, by these identifiers, all in one message.
    pub(super) fn tell(&mut self, identifiers: std::ops::Range<u32>, origin: Origin) {
        let codec = Self::codec();
        let (mut attributes, mut bytes) = (Vec::new(), Vec::new());
        let rewrite = Rewrite { prepend: vec![65002], ..Rewrite::towards(PeerKind::External) };
        rewrite.apply(&wire::originated(origin), &mut attributes).unwrap();
        let next_hop = NextHop::from(address(1));
        let count = identifiers.len();
        let prefixes = identifiers.map(|identifier| (identifier, prefix(TOLD)));
        let told =
            wire::announce(&mut bytes, &codec, &attributes, next_hop, Family::Ipv4, prefixes);
        assert_eq!(told, Ok(count));
        self.receive(&bytes);
    }

    pub(super) fn codec() -> Codec {
        Codec {
            asn_width: AsnWidth::Four,
            message_size: MessageSize::Extended,
            add_path_send: FamilySet::ALL,
            ..Codec::baseline(PeerKind::External)
        }
    }

    pub(super) fn paths(&self) -> usize {
        self.speaker.route(prefix(TOLD)).map_or(0, |route| route.paths.len())
    }

    pub(super) fn faults(&self) -> (u64, Option<String>) {
        let peer = self.speaker.peers(self.now).remove(0);
        assert_eq!(peer.state, State::Established);
        (peer.faults, peer.last_fault)
    }
}
