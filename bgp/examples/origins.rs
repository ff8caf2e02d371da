//! What a cache of the RPKI costs that tells all of the world's payloads: how long the speaker is busy
//! with them, how long at most before it looks at anything else, and what they take in memory.
//!
//! ```text
//! cargo run --release -p ocicat-bgp --example origins
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ocicat_bgp::speaker::{Config, Input, Output, Speaker};

/// As many as there were in 2026, of which one in five is of IPv6.
const RECORDS: u32 = 700_000;
/// As much as the edge hands over at once.
const AT_ONCE: usize = 64 * 1024;

#[expect(clippy::disallowed_methods, reason = "an example may look at the clock")]
fn main() {
    let cache: SocketAddr = ([192, 0, 2, 1], 323).into();
    let mut config = Config::new(NonZeroU32::MIN, Ipv4Addr::LOCALHOST);
    config.caches.insert(cache);
    let mut speaker = Speaker::new(config, 1, Instant::now());
    let conn = loop {
        match speaker.poll_output() {
            Some(Output::ConnectCache { conn, .. }) => break conn,
            Some(_) => {}
            None => panic!("the cache is not dialled"),
        }
    };
    speaker.handle(Instant::now(), Input::Connected { conn, local: cache });
    let answer = answer();
    let mut busy = Duration::ZERO;
    let mut longest = Duration::ZERO;
    let mut note = |began: Instant| {
        let took = began.elapsed();
        busy += took;
        longest = longest.max(took);
    };
    for bytes in answer.chunks(AT_ONCE) {
        let began = Instant::now();
        speaker.handle(began, Input::Received { conn, bytes });
        note(began);
        drain(&mut speaker);
        while speaker.poll_timeout().is_some_and(|at| at <= began) {
            let began = Instant::now();
            speaker.handle_timeout(began);
            note(began);
            drain(&mut speaker);
        }
    }
    let records: usize = speaker.caches(Instant::now())[0].records.iter().sum();
    assert_eq!(records, RECORDS as usize, "everything was heard");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let resident = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: usize = resident.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mib = kib.saturating_sub(answer.len() / 1024) / 1024;
    println!(
        "{RECORDS} records: {:.0} ms, {:.1} ms at most at once, {mib} MiB",
        ms(busy),
        ms(longest)
    );
}

fn drain(speaker: &mut Speaker) {
    while speaker.poll_output().is_some() {}
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The whole answer to a Reset Query (RFC 8210 §5).
fn answer() -> Vec<u8> {
    let mut stream = Vec::new();
    pdu(&mut stream, 3, &[]);
    for number in 0..RECORDS {
        let asn = (1 + number % 60_000).to_be_bytes();
        // Spread as hashes are, and each its own: an odd factor maps 24 bits one to one.
        let place = number.wrapping_mul(0x9E_3779) << 8;
        if number % 5 == 0 {
            let mut address = [0; 16];
            address[0] = 0x20;
            address[1..5].copy_from_slice(&place.to_be_bytes());
            pdu(&mut stream, 6, &[&[1, 48, 48, 0][..], &address, &asn].concat());
        } else {
            let address = place.to_be_bytes();
            pdu(&mut stream, 4, &[&[1, 24, 24, 0][..], &address, &asn].concat());
        }
    }
    let serial_and_times = [1_u32, 3600, 600, 7200].map(u32::to_be_bytes).concat();
    pdu(&mut stream, 7, &serial_and_times);
    stream
}

fn pdu(stream: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u32::try_from(8 + body.len()).expect("PDUs are short");
    stream.extend([1, kind, 0, 9]);
    stream.extend(length.to_be_bytes());
    stream.extend(body);
}
