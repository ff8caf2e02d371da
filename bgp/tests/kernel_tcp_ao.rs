//! Two speakers and TCP-AO (RFC 5925), on whatever kernel runs the test: where it has TCP-AO they talk,
//! and a wrong key keeps them apart; where it has none, both say so and no session comes up unsigned.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ocicat_bgp::net::{self, Event, Goodbye, Running};
use ocicat_bgp::session::State;
use ocicat_bgp::speaker::{AoAlgorithm, Config, Dial, Password, PeerConfig, Signing, TcpAo};
use tokio::time::{Instant, timeout};

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const LACKING: &str = "this kernel has no TCP-AO";

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The numbers of a key as both ends name it: what one sends the other receives.
const IDS: [(u8, u8); 2] = [(3, 5), (5, 3)];

fn speaker(side: usize, port: u16, signing: Signing, key: &str) -> Config {
    let (own, other) = if side == 0 { (LEFT, RIGHT) } else { (RIGHT, LEFT) };
    let number = |side: usize| NonZeroU32::new(65_001 + u32::try_from(side).unwrap()).unwrap();
    let id = Ipv4Addr::new(10, 0, 0, u8::try_from(side + 1).unwrap());
    let mut config = Config::new(number(side), id);
    let peer = PeerConfig::new(other, number(1 - side));
    let peer = PeerConfig {
        dial: if side == 0 { Dial::Passive } else { Dial::Active },
        port,
        source: Some(own),
        password: Password::Key(key.into()),
        connect_retry: Duration::from_millis(200),
        signing,
        ..peer
    };
    config.peers.insert("other".into(), peer);
    if side == 0 {
        config.listen = vec![SocketAddr::new(own, 0)];
    }
    config
}

fn ao(side: usize, algorithm: AoAlgorithm) -> Signing {
    let (send_id, receive_id) = IDS[side];
    Signing::TcpAo(TcpAo { send_id, receive_id, algorithm })
}

/// The port, and what the kernel said of the key.
async fn listening(running: &mut Running) -> (u16, Option<String>) {
    loop {
        for event in timeout(PATIENCE, running.events.recv()).await.unwrap().unwrap() {
            if let Event::Listening { local, refused, .. } = event {
                return (local.port(), refused.into_iter().map(|(_, error)| error).next());
            }
        }
    }
}

/// Whether a session comes up in this time.
async fn comes_up(running: &mut Running, within: Duration) -> bool {
    let end = Instant::now() + within;
    while let Ok(events) = tokio::time::timeout_at(end, running.events.recv()).await {
        let up = |event: &Event| {
            matches!(event, Event::PeerStateChanged { new: State::Established, .. })
        };
        if events.unwrap().iter().any(up) {
            return true;
        }
    }
    false
}

/// Why the peer could not be dialled, as `ocicat bgp peers` shows it.
async fn connect_error(running: &Running) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let peers = running.handle.peers().await.unwrap();
        if let Some(error) = &peers[0].connect_error {
            return error.clone();
        }
        assert!(Instant::now() < end, "no reason is told: {peers:?}");
        tokio::task::yield_now().await;
    }
}

fn stop(running: Running) {
    running.handle.stop(Goodbye::Restart).unwrap();
    running.thread.join().unwrap();
}

#[tokio::test]
async fn two_speakers_talk_over_tcp_ao_or_say_that_the_kernel_has_none() {
    for algorithm in AoAlgorithm::ALL {
        let mut left = net::spawn(speaker(0, 179, ao(0, algorithm), "secret")).unwrap();
        let (port, refused) = listening(&mut left).await;
        let mut right = net::spawn(speaker(1, port, ao(1, algorithm), "secret")).unwrap();
        if let Some(error) = refused {
            println!("{algorithm}: refused, as this kernel has no TCP-AO");
            assert!(error.starts_with(LACKING), "{error}");
            let error = connect_error(&right).await;
            assert!(error.starts_with(LACKING), "{error}");
            assert!(!comes_up(&mut right, Duration::from_secs(1)).await, "unsigned");
        } else {
            println!("{algorithm}: a session over TCP-AO");
            assert!(comes_up(&mut right, PATIENCE).await, "no session");
        }
        stop(left);
        stop(right);
    }
}

/// Whoever does not sign, or signs otherwise, gets no session; on no kernel.
#[tokio::test]
async fn who_signs_otherwise_is_not_let_in() {
    let algorithm = AoAlgorithm::HmacSha1;
    for (signing, key) in [(Signing::Md5, "secret"), (ao(1, algorithm), "other")] {
        let mut left = net::spawn(speaker(0, 179, ao(0, algorithm), "secret")).unwrap();
        let (port, _) = listening(&mut left).await;
        let mut right = net::spawn(speaker(1, port, signing, key)).unwrap();
        assert!(!comes_up(&mut right, Duration::from_secs(1)).await, "{signing:?}");
        stop(right);
        let mut unsigned = speaker(1, port, Signing::Md5, "");
        let peer = unsigned.peers.values_mut().next().unwrap();
        peer.password = Password::None;
        let mut right = net::spawn(unsigned).unwrap();
        assert!(!comes_up(&mut right, Duration::from_secs(1)).await, "unsigned");
        stop(right);
        stop(left);
    }
}
