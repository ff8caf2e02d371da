//! A whole session driven by arbitrary bytes, for the fuzz target and for property tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use crate::rib::filter::{Action, AnyCommunity, Filter, Operation, Otherwise, Rule};
use crate::speaker::{
    AddPath, Arrival, Config, ConnId, Input, Originated, Output, PeerConfig, Receive, Speaker,
};
use crate::wire::capability::{
    AddPathMode, Forwarding, GracefulRestart, LongLivedFamily, NotificationSupport, RestartState,
};
use crate::wire::{
    self, AfiSafi, Capability, Community, Family, HoldTime, LargeCommunity, MessageKind,
    MessageSize, Open, Prefix, frame,
};

const US: [u8; 4] = [10, 0, 0, 1];
const THEM: [u8; 4] = [10, 0, 0, 2];

/// Plays a script against a speaker with one peer: each step is an opcode, a length and so many
/// octets of argument. The peer's OPEN can be asked for in one step, so that a random script gets
/// as far as UPDATEs, and an UPDATE with an attribute as long as a message in another. The first opcode
/// also says whether we wait for the peer's OPEN, and whether filters add to what passes.
///
/// # Panics
/// When the speaker does, or when what it sends cannot be framed.
#[expect(clippy::disallowed_methods, reason = "an epoch; only differences from it matter")]
pub fn drive(script: &[u8]) {
    let epoch = Instant::now();
    let first = script.first().copied().unwrap_or_default();
    let (waits, adds) = (first & 8 != 0, first & 16 != 0);
    let mut player = Player::new(epoch, waits.then_some(Duration::from_secs(5)), adds);
    let mut rest = script;
    while let [opcode, length, after @ ..] = rest {
        let (argument, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        player.play(opcode % 9, argument);
    }
    player.now += Duration::from_secs(1000);
    player.speaker.handle_timeout(player.now);
    player.attend();
    let _ = player.speaker.peers(player.now);
    let _ = player.speaker.routes(Family::Ipv4, 0, 100);
}

struct Player {
    speaker: Speaker,
    now: Instant,
    conns: Vec<ConnId>,
    sent: Vec<u8>,
}

impl Player {
    fn new(now: Instant, delay_open: Option<Duration>, adds: bool) -> Self {
        let asn = |asn| NonZeroU32::new(asn).expect("a constant that is not zero");
        let mut config = Config::new(asn(65001), Ipv4Addr::from(US));
        let own = Prefix::new([192, 0, 2, 0].into(), 24).expect("24 is at most 32");
        config.originated.insert(own, Originated::default());
        let mut peer = PeerConfig::new(THEM.into(), asn(65002));
        let send = NonZeroU8::new(3);
        peer.add_path = AddPath { receive: Receive::Several, send };
        peer.long_lived = Some(Duration::from_secs(300));
        peer.delay_open = delay_open;
        if adds {
            (peer.import, peer.export) = (adding(), adding());
        }
        config.peers.insert("peer".into(), peer);
        let speaker = Speaker::new(config, 1, now);
        let mut player = Self { speaker, now, conns: Vec::new(), sent: Vec::new() };
        player.attend();
        player
    }

    fn play(&mut self, opcode: u8, argument: &[u8]) {
        let at = |port| SocketAddr::new(if port == 179 { US } else { THEM }.into(), port);
        let conn = self.conns.last().copied();
        let head = argument.first().copied().unwrap_or_default();
        match (opcode, conn) {
            (0, _) => {
                self.conns.extend(self.speaker.accept(self.now, Arrival::new(at(179), at(4000))));
            }
            (1, _) => {
                self.now += Duration::from_secs(head.into());
                self.speaker.handle_timeout(self.now);
            }
            (2, Some(conn)) => {
                let mut bytes = Vec::new();
                open(head).emit(&mut bytes);
                wire::keepalive(&mut bytes);
                self.receive(conn, &bytes);
            }
            (3, Some(conn)) => self.receive(conn, argument),
            (4, Some(conn)) => self.receive(conn, &update(argument)),
            (5, Some(conn)) => {
                self.conns.pop();
                self.speaker.handle(self.now, Input::Closed { conn, error: None });
            }
            (6, Some(conn)) => {
                self.speaker.handle(self.now, Input::Connected { conn, local: at(179) });
            }
            (7, Some(conn)) => self.receive(conn, &argument.repeat(3)),
            (8, Some(conn)) => self.receive(conn, &long_update(argument)),
            (_, _) => {}
        }
        self.attend();
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.speaker.handle(self.now, Input::Received { conn, bytes });
    }

    fn attend(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { conn, .. } => self.conns.insert(0, conn),
                Output::Transmit { conn } | Output::Close { conn } => {
                    while let Some(bytes) = self.speaker.poll_transmit(self.now, conn) {
                        self.sent.extend_from_slice(&bytes);
                    }
                    self.check_sent();
                }
                Output::RouteChanged(_)
                | Output::RouteWithdrawn { .. }
                | Output::PeerStateChanged { .. }
                | Output::HostsChanged
                | Output::AggregateFormed { .. }
                | Output::AggregateGone { .. }
                | Output::ConnectStation { .. }
                | Output::StationUp { .. }
                | Output::StationDown { .. }
                | Output::ConnectCache { .. }
                | Output::CacheUp { .. }
                | Output::CacheDown { .. }
                | Output::CacheExpired { .. }
                | Output::Synced { .. } => {}
            }
        }
    }

    fn check_sent(&mut self) {
        let mut rest = &self.sent[..];
        while !rest.is_empty() {
            let found = frame(rest, MessageSize::Extended).expect("what we send has a good header");
            let length = found.expect("only whole messages are sent").len();
            rest = &rest[length..];
        }
        self.sent.clear();
    }
}

/// Lets all pass, with so much more that a long attribute gets too long.
fn adding() -> Filter {
    let numbers = 70_000..70_064;
    let communities = numbers.clone().flat_map(|number| {
        let large = LargeCommunity { global: number, local1: 1, local2: 2 };
        [AnyCommunity::Standard(Community(number)), AnyCommunity::Large(large)]
    });
    let prepend = Operation::PrependAsPath(numbers.collect());
    let all = communities.map(Operation::AddCommunity).chain([prepend]).collect();
    Filter { rules: vec![Rule::any(Action::Accept(all))], otherwise: Otherwise::Reject }
}

fn update(body: &[u8]) -> Vec<u8> {
    let length = 16 + 2 + 1 + body.len();
    let mut bytes = vec![0xFF; 16];
    bytes.extend(u16::try_from(length).expect("a message has at most 65535 octets").to_be_bytes());
    bytes.push(MessageKind::Update.code());
    bytes.extend(body);
    bytes
}

/// An UPDATE with the attributes that [`wire::stretched`] makes of a script.
fn long_update(script: &[u8]) -> Vec<u8> {
    let next_hop = [&[0x40, 3, 4][..], &THEM].concat();
    let attributes = [wire::stretched(script), next_hop].concat();
    let length = u16::try_from(attributes.len()).expect("it leaves room for the rest");
    // The path identifier 0 and a prefix; without identifiers, default routes and a prefix.
    let prefixes = [0, 0, 0, 0, 8, 10];
    update(&[&[0, 0], &length.to_be_bytes()[..], &attributes, &prefixes].concat())
}

fn open(variant: u8) -> Open {
    let mut capabilities: Vec<_> = Family::ALL.into_iter().map(Capability::family).collect();
    if variant.is_multiple_of(2) {
        capabilities.push(Capability::FourOctetAs(65002));
    }
    let families = || Family::ALL.into_iter().map(AfiSafi::from);
    if variant & 2 != 0 {
        capabilities.extend([Capability::ExtendedMessage, Capability::RouteRefresh]);
        capabilities.push(Capability::EnhancedRouteRefresh);
    }
    if variant & 4 != 0 {
        let both = families().map(|family| (family, AddPathMode::Both));
        capabilities.push(Capability::AddPath(both.collect()));
    }
    if variant & 8 != 0 {
        capabilities.extend(restarts(families()));
    }
    let hold_time = HoldTime::from_secs(90).expect("ninety is neither one nor two");
    Open { asn: 65002, hold_time, router_id: Ipv4Addr::from(THEM), capabilities }
}

/// Both kinds of graceful restart.
fn restarts(families: impl Iterator<Item = AfiSafi> + Clone) -> [Capability; 2] {
    let forwarding = Forwarding::Preserved;
    let short = families.clone().map(|family| (family, forwarding));
    let long = families.map(|family| LongLivedFamily { family, forwarding, stale_secs: 200 });
    [
        Capability::GracefulRestart(GracefulRestart {
            state: RestartState::Running,
            notification: NotificationSupport::Graceful,
            restart_secs: 100,
            families: short.collect(),
        }),
        Capability::LongLivedGracefulRestart(long.collect()),
    ]
}
