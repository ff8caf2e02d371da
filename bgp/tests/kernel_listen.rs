//! The BGP thread on the sockets of a kernel with little room, and on a link that is down; in a namespace of its own.
#![cfg(feature = "tokio")]
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ocicat_bgp::net::{self, Event, Goodbye};
use ocicat_bgp::speaker::{Config, Dial, Password, PeerConfig};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

/// Looks, 50 ms apart: more than any step takes, even on a busy machine.
const TRIES: u32 = 400;

/// Runs a test in a namespace of its own; skips it where there can be none.
fn in_namespace(test: impl FnOnce() + Send) {
    if std::env::var_os("OCICAT_NO_KERNEL_TESTS").is_some() || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn config() -> Config {
    Config::new(NonZeroU32::new(65_001).unwrap(), Ipv4Addr::new(10, 0, 0, 1))
}

fn peer(address: IpAddr) -> PeerConfig {
    let peer = PeerConfig::new(address, NonZeroU32::new(65_002).unwrap());
    PeerConfig { dial: Dial::Passive, ..peer }
}

#[test]
fn keys_without_room_name_the_limit_and_the_others_hold() {
    in_namespace(|| {
        let limit = "/proc/sys/net/core/optmem_max";
        if std::fs::write(limit, "20480").is_err() {
            eprintln!("skipped: before Linux 6.8 the limit is not of the namespace");
            return;
        }
        ip("link set lo up");
        let mut config = config();
        config.listen = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)];
        for last in 1..=200 {
            let password = Password::Key("secret".into());
            let peer = PeerConfig { password, ..peer(Ipv4Addr::new(127, 0, 9, last).into()) };
            config.peers.insert(format!("peer-{last}").as_str().into(), peer);
        }
        let mut running = net::spawn(config).unwrap();
        let refused = loop {
            let events = running.events.blocking_recv().unwrap();
            let refused = events.into_iter().find_map(|event| {
                let Event::Listening { refused, .. } = event else { return None };
                Some(refused)
            });
            if let Some(refused) = refused {
                break refused;
            }
        };
        assert!((1..200).contains(&refused.len()), "{} of 200", refused.len());
        for (_, why) in refused {
            assert!(why.contains("net.core.optmem_max"), "{why}");
        }
        running.handle.stop(Goodbye::Restart).unwrap();
        running.thread.join().unwrap();
    });
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn of(&self, interface: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(interface)).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_link_that_is_down_is_one_line_in_the_log_until_it_is_up() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    in_namespace(|| {
        ip("link add eth0 type veth peer name far");
        let mut config = config();
        let unnumbered = peer(Ipv6Addr::UNSPECIFIED.into());
        let unnumbered = PeerConfig { interface: Some("eth0".into()), ..unnumbered };
        config.peers.insert("tor".into(), unnumbered);
        let running = net::spawn(config).unwrap();
        // Three tries.
        thread::sleep(Duration::from_millis(2500));
        let said = log.of("eth0");
        assert!(said.len() == 1 && said[0].contains("routers cannot be found"), "{said:#?}");
        ip("link set eth0 up");
        ip("link set far up");
        let begins =
            || log.of("eth0").last().is_some_and(|line| line.contains("advertising ourselves"));
        let begun = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(50));
            begins()
        });
        assert!(begun, "{:#?}", log.of("eth0"));
        running.handle.stop(Goodbye::Restart).unwrap();
        running.thread.join().unwrap();
    });
}
