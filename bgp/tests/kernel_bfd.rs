//! BFD's thread on real sockets: two machines, a link between them, every kind of session.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ocicat_bgp::bfd::net::{Handle, spawn};
use ocicat_bgp::bfd::{
    Diagnostic, Discriminator, Event, Fate, Handshake, Interval, Packet, Reach, SessionConfig,
    SessionSnapshot, State, Timing, Why,
};

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The addresses of machine 1 or 2; its interface is there already.
fn address(machine: u8) {
    ip("link set lo up");
    ip("link set eth0 addrgenmode none");
    ip("link set eth0 up");
    ip(&format!("addr replace 10.9.0.{machine}/24 dev eth0"));
    ip(&format!("addr replace fd00:9::{machine}/64 dev eth0 nodad"));
    ip(&format!("addr replace fe80::{machine}/64 dev eth0 nodad"));
}

/// A session of each kind with the other machine.
fn sessions(own: u8, peer: u8) -> BTreeMap<ocicat_bgp::bfd::SessionName, SessionConfig> {
    let interval = Interval::try_from(Duration::from_millis(50)).unwrap();
    let session = |net: &str| SessionConfig {
        timing: Timing::symmetric(interval, 3.try_into().unwrap()),
        ..SessionConfig::new(format!("{net}{peer}").parse().unwrap())
    };
    let local = |net: &str| Some(format!("{net}{own}").parse().unwrap());
    let tied = Some("eth0".into());
    BTreeMap::from([
        ("ipv4".into(), session("10.9.0.")),
        ("ipv6".into(), SessionConfig { local: local("fd00:9::"), ..session("fd00:9::") }),
        ("link-local".into(), SessionConfig { interface: tied, ..session("fe80::") }),
        (
            "multihop".into(),
            SessionConfig { reach: Reach::Multihop { min_ttl: 255 }, ..session("10.9.0.") },
        ),
    ])
}

/// What runs on a machine.
struct Machine {
    bfd: Handle,
    events: Receiver<Event>,
}

impl Machine {
    fn start(own: u8, peer: u8) -> Self {
        address(own);
        let (sink, events) = channel();
        let bfd = spawn(move |event| drop(sink.send(event))).unwrap();
        bfd.configure(sessions(own, peer)).unwrap();
        Self { bfd, events }
    }

    fn look(&self) -> Vec<SessionSnapshot> {
        let (answer, snapshot) = channel();
        self.bfd.snapshot(move |sessions| answer.send(sessions).unwrap()).unwrap();
        snapshot.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until every session has come up, or has gone down for the same reason.
    fn all(&self, wanted: Option<Why>) {
        let mut last = BTreeMap::new();
        while last.len() < 4 || last.values().any(|why| *why != wanted) {
            let event = self.events.recv_timeout(PATIENCE);
            let event =
                event.unwrap_or_else(|_| panic!("{last:?}, not {wanted:?}: {:#?}", self.look()));
            match event {
                Event::Up { session } => last.insert(session, None),
                Event::Down { session, why, .. } => last.insert(session, Some(why)),
            };
        }
    }
}

/// Runs a test with machine 1, which is the calling thread's, and machine 2; skips it where there
/// can be no namespaces.
fn with_two(test: impl FnOnce(Machine, Machine, UdpSocket) + Send) {
    if std::env::var_os("OCICAT_NO_KERNEL_TESTS").is_some() || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    let unshare = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let (tell, told) = channel();
    let (connect, connected) = channel::<()>();
    let (start, started) = channel();
    let second = move || {
        unshare();
        tell.send(nix::unistd::gettid()).unwrap();
        connected.recv().unwrap();
        let machine = Machine::start(2, 1);
        start.send((machine, UdpSocket::bind("10.9.0.2:50001").unwrap())).unwrap();
    };
    let first = move || {
        unshare();
        let thread = told.recv_timeout(PATIENCE).unwrap();
        ip(&format!("link add eth0 type veth peer name eth0 netns {thread}"));
        let near = Machine::start(1, 2);
        connect.send(()).unwrap();
        let (far, socket) = started.recv_timeout(PATIENCE).unwrap();
        test(near, far, socket);
    };
    thread::scope(|scope| {
        let _second = scope.spawn(second);
        let first = scope.spawn(first);
        first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A packet that would end the session, if it were believed.
fn last_word(session: &SessionSnapshot) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::AdminDown,
        handshake: Handshake::None,
        fate: Fate::Shared,
        demand: false,
        multiplier: 3.try_into().unwrap(),
        my_discriminator: session.remote_discriminator.unwrap(),
        your_discriminator: Some(Discriminator(session.local_discriminator.0)),
        desired_min_tx: 1_000_000,
        required_min_rx: 1_000_000,
        required_min_echo_rx: 0,
    }
}

fn wait_discarded(machine: &Machine) -> SessionSnapshot {
    loop {
        let session = machine.look().remove(0);
        if session.discarded > 0 || session.state != State::Up {
            return session;
        }
        thread::yield_now();
    }
}

#[test]
fn every_kind_of_session_comes_up_sees_the_link_go_and_comes_back() {
    with_two(|near, far, stranger| {
        [&near, &far].into_iter().for_each(|machine| machine.all(None));
        for session in near.look() {
            assert_eq!((session.discarded, session.error), (0, None), "{}", session.name);
        }
        // RFC 5881 §5: a TTL of 64 has been further away, whatever the packet knows.
        let forged = last_word(&near.look()[0]).emit();
        stranger.send_to(&forged, "10.9.0.1:3784").unwrap();
        assert_eq!(wait_discarded(&near).state, State::Up);

        ip("link set eth0 down");
        [&near, &far].into_iter().for_each(|machine| machine.all(Some(Why::Expired)));
        address(1);
        [&near, &far].into_iter().for_each(|machine| machine.all(None));
        assert!(
            near.look()
                .iter()
                .all(|session| session.failures.total() == 1 && session.error.is_none())
        );

        near.bfd.stop();
        far.all(Some(Why::PeerAdminDown));
        assert!(
            far.look().iter().all(|session| session.failures.total() == 1),
            "which is no failure"
        );
    });
}

/// A packet is lost while the address is away, and no more: the detection time is shorter than a second.
#[test]
fn an_address_that_goes_and_comes_back_ends_no_session() {
    with_two(|near, far, _stranger| {
        [&near, &far].into_iter().for_each(|machine| machine.all(None));
        for (machine, own, peer) in [(&near, 1, 2), (&far, 2, 1)] {
            let mut patient = sessions(own, peer);
            for config in patient.values_mut() {
                config.timing.multiplier = 16.try_into().unwrap();
            }
            machine.bfd.configure(patient).unwrap();
        }
        // Both have heard of it.
        thread::sleep(Duration::from_millis(300));
        ip("addr del 10.9.0.1/24 dev eth0");
        // Long enough for each session to have sent something.
        thread::sleep(Duration::from_millis(60));
        ip("addr add 10.9.0.1/24 dev eth0");
        thread::sleep(Duration::from_millis(1500));
        for session in [near.look(), far.look()].concat() {
            let seen = (session.state, session.failures.total(), session.error.is_none());
            assert_eq!(seen, (State::Up, 0, true), "{session:#?}");
        }
    });
}

/// The type of the sink must not ask for more than a closure with a channel has.
#[test]
fn a_sender_of_events_is_a_sink() {
    let (sink, _events): (Sender<Event>, _) = channel();
    spawn(move |event| drop(sink.send(event))).unwrap().stop();
}
