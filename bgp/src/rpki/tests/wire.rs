//! PDUs as octets.

use std::time::Duration;

use proptest::prelude::*;

use super::vrp;
use crate::rpki::pdu::{self, HEADER_LEN, MAX_LEN, Malformed};
use crate::rpki::{Change, Pdu, Timing, drive, reencode_is_stable};

fn octets(version: u8, pdu: Pdu<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    pdu::put(&mut out, version, pdu);
    out
}

/// The figures of RFC 8210 §5, filled in by hand.
#[test]
fn pdus_are_laid_out_as_the_rfc_draws_them() {
    let timing = [3600, 600, 7200].map(Duration::from_secs);
    let timing = Timing { refresh: timing[0], retry: timing[1], expire: timing[2] };
    let record = |change, text| Pdu::Record { change, vrp: vrp(text) };
    let v6 = "2001:db8::/32-48 AS65002";
    let cases: [(u8, Pdu<'_>, &[u8]); 11] = [
        (
            1,
            Pdu::SerialNotify { session: 0x1234, serial: 7 },
            &[1, 0, 0x12, 0x34, 0, 0, 0, 12, 0, 0, 0, 7],
        ),
        (
            0,
            Pdu::SerialQuery { session: 0x1234, serial: 7 },
            &[0, 1, 0x12, 0x34, 0, 0, 0, 12, 0, 0, 0, 7],
        ),
        (1, Pdu::ResetQuery, &[1, 2, 0, 0, 0, 0, 0, 8]),
        (1, Pdu::CacheResponse { session: 2 }, &[1, 3, 0, 2, 0, 0, 0, 8]),
        (
            1,
            record(Change::Announced, "192.0.2.0/24-28 AS65001"),
            &[1, 4, 0, 0, 0, 0, 0, 20, 1, 24, 28, 0, 192, 0, 2, 0, 0, 0, 0xfd, 0xe9],
        ),
        (
            1,
            record(Change::Withdrawn, v6),
            &[
                1, 6, 0, 0, 0, 0, 0, 32, 0, 32, 48, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0xfd, 0xea,
            ],
        ),
        (
            0,
            Pdu::EndOfData { session: 2, serial: 7, timing: None },
            &[0, 7, 0, 2, 0, 0, 0, 12, 0, 0, 0, 7],
        ),
        (
            1,
            Pdu::EndOfData { session: 2, serial: 7, timing: Some(timing) },
            &[
                1, 7, 0, 2, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0x0e, 0x10, 0, 0, 2, 0x58, 0, 0, 0x1c,
                0x20,
            ],
        ),
        (1, Pdu::CacheReset, &[1, 8, 0, 0, 0, 0, 0, 8]),
        (
            1,
            Pdu::RouterKey { flags: 1, body: &[9; 25] },
            &[
                1, 9, 1, 0, 0, 0, 0, 33, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
                9, 9, 9, 9, 9, 9,
            ],
        ),
        (
            1,
            Pdu::ErrorReport { code: 2, about: &[5, 6], text: b"no" },
            &[1, 10, 0, 2, 0, 0, 0, 20, 0, 0, 0, 2, 5, 6, 0, 0, 0, 2, b'n', b'o'],
        ),
    ];
    for (version, pdu, expected) in cases {
        assert_eq!(octets(version, pdu), expected, "{pdu:?}");
        let frame = pdu::parse(expected).unwrap().unwrap();
        assert_eq!((frame.version, frame.pdu, frame.octets), (version, pdu, expected));
        for short in 0..expected.len() {
            assert_eq!(pdu::parse(&expected[..short]), Ok(None), "{pdu:?}, {short} octets of it");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_before_it_is_waited_for() {
    let header = |kind: u8, length: u32| {
        let mut octets = vec![1, kind, 0, 0];
        octets.extend(length.to_be_bytes());
        octets
    };
    for (kind, length) in
        [(0, 8), (2, 9), (4, 21), (6, 20), (7, 12), (9, 31), (10, 15), (10, 65_536), (10, u32::MAX)]
    {
        let wrong = pdu::parse(&header(kind, length)).unwrap_err();
        assert_eq!(wrong, Malformed::Length { kind, length });
        assert_eq!(wrong.code(), 0);
    }
    let unknown = pdu::parse(&header(11, 12)).unwrap_err();
    assert_eq!((unknown.code(), unknown), (5, Malformed::Type(11)));
    assert_eq!(pdu::parse(&header(10, u32::try_from(MAX_LEN).unwrap())), Ok(None));
    assert_eq!(header(2, 8).len(), HEADER_LEN);
}

#[test]
fn a_record_has_lengths_that_its_family_can_have() {
    let record =
        octets(1, Pdu::Record { change: Change::Announced, vrp: vrp("192.0.2.0/24-28 AS65001") });
    for (length, max_length) in [(33, 33), (24, 33), (24, 23)] {
        let mut wrong = record.clone();
        (wrong[9], wrong[10]) = (length, max_length);
        let error = pdu::parse(&wrong).unwrap_err();
        assert_eq!(error.code(), 0, "{error}");
    }
}

#[test]
fn the_parts_of_an_error_report_fill_it() {
    let report = octets(1, Pdu::ErrorReport { code: 0, about: &[1, 2], text: b"text" });
    for (at, count) in [(11, 1), (11, 3), (11, 200), (17, 3), (17, 5)] {
        let mut wrong = report.clone();
        wrong[at] = count;
        assert!(pdu::parse(&wrong).is_err(), "octet {at} is {count}");
    }
}

#[test]
fn times_are_within_the_limits_of_the_rfc() {
    let timing = |refresh, retry, expire| {
        let [refresh, retry, expire] = [refresh, retry, expire].map(Duration::from_secs);
        Timing { refresh, retry, expire }.clamped()
    };
    assert_eq!(timing(0, 0, 0), timing(1, 1, 600));
    assert_eq!(timing(u64::MAX, u64::MAX, u64::MAX), timing(86_400, 7200, 172_800));
    // Nothing expires before it is asked for again.
    assert_eq!(timing(3600, 10, 600).expire, Duration::from_secs(3600));
}

/// A cache's stream, for the most part well formed.
fn said() -> impl Strategy<Value = Vec<u8>> {
    (0u8..12, any::<bool>(), 0u8..3, 0u8..3, prop::collection::vec(any::<u8>(), 0..8)).prop_map(
        |(kind, one, x, y, junk)| {
            let version = u8::from(one);
            let (session, serial) = (u16::from(x), u32::from(y));
            let record = |change| {
                let vrp = vrp(&format!("10.{x}.0.0/16-{} AS{y}", 16 + x));
                octets(version, Pdu::Record { change, vrp })
            };
            match kind {
                0 | 1 => octets(version, Pdu::CacheResponse { session: 1 }),
                2 => octets(version, Pdu::CacheResponse { session }),
                3 | 4 => record(Change::Announced),
                5 => record(Change::Withdrawn),
                6 | 7 => {
                    let timing = one.then(Timing::default);
                    octets(version, Pdu::EndOfData { session: 1, serial, timing })
                }
                8 => octets(version, Pdu::CacheReset),
                9 => octets(version, Pdu::SerialNotify { session, serial }),
                10 => octets(
                    version,
                    Pdu::ErrorReport { code: u16::from(2 * x), about: &junk, text: &junk },
                ),
                _ => junk,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_read_is_written_as_it_was(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        reencode_is_stable(&octets);
    }

    #[test]
    fn whatever_a_cache_says_the_changes_add_up(
        steps in prop::collection::vec((0u8..24, said()), 0..60),
    ) {
        let mut script = vec![0, 0];
        for (opcode, said) in steps {
            // Mostly it speaks.
            script.extend([if opcode < 8 { opcode } else { 4 }, u8::try_from(said.len()).unwrap()]);
            script.extend(said);
        }
        drive(&script);
    }
}
