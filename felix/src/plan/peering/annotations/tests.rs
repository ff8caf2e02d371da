use super::*;
use crate::datastore::Kind;
use ocicat_bgp::speaker::{Introduce, OriginValidation};

/// A peer with a local AS number of its own.
fn untouched() -> PeerConfig {
    let local_as = Some(LocalAs::from(NonZeroU32::MIN));
    PeerConfig { local_as, ..PeerConfig::new(Ipv4Addr::LOCALHOST.into(), NonZeroU32::MIN) }
}

fn read(given: &[(&str, &str)]) -> (PeerConfig, Vec<String>) {
    let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut problems = Vec::new();
    let (knobs, _) = of_peer(&Key::cluster(Kind::BgpPeer, "tor"), &given, &mut problems);
    let mut peer = untouched();
    knobs.apply(&mut peer);
    (peer, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn each_knob_sets_its_field() {
    let (peer, problems) = read(&[
        ("hold-time", "9s"),
        ("connect-retry", "2s"),
        ("delay-open", "4s"),
        ("passive", "true"),
        ("shortest-hold-time", "3s"),
        ("max-prefixes", "1000 restart 5m"),
        ("max-advertised", "500"),
        ("long-lived-stale-time", "1h"),
        ("add-path-receive", "true"),
        ("add-path-send", "4"),
        ("as-override", "true"),
        ("remove-private-as", "replace"),
        ("families", "ipv6"),
        ("default-originate", "true"),
        ("role", "customer strict"),
        ("send-hold-time", "10s"),
        ("tcp-ao", "send-id=1 receive-id=2"),
        ("multihop", "3"),
        ("graceful-restart", "off"),
        ("local-as-mode", "prepend"),
        ("tcp-mss", "1400"),
        ("announce-hostname", "false"),
        ("announce-software", "true"),
        ("origin-validation", "mark"),
    ]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(peer.hold_time.secs(), 9);
    assert_eq!(peer.connect_retry, Duration::from_secs(2));
    assert_eq!(peer.delay_open, Some(Duration::from_secs(4)));
    assert_eq!(peer.dial, Dial::Passive);
    assert_eq!(peer.shortest_hold_time.map(HoldTime::secs), Some(3));
    let then = LimitAction::Restart(Duration::from_secs(300));
    assert_eq!(peer.max_paths.map(|max| (max.limit.get(), max.then)), Some((1000, then)));
    assert_eq!(peer.max_advertised, NonZeroU32::new(500));
    assert_eq!(peer.long_lived, Some(Duration::from_secs(3600)));
    assert_eq!((peer.add_path.receive, peer.add_path.send), (Receive::Several, NonZeroU8::new(4)));
    assert_eq!(peer.as_override, AsOverride::Replace);
    assert_eq!(peer.default_route, DefaultRoute::Originated);
    let role = PeerRole { role: Role::Customer, silent: SilentPeer::Refused };
    assert_eq!(peer.role, Some(role));
    assert_eq!(peer.send_hold, Some(Duration::from_secs(10)));
    assert!(matches!(peer.signing, Signing::TcpAo(ao) if (ao.send_id, ao.receive_id) == (1, 2)));
    assert_eq!(peer.remove_private, RemovePrivate::Replace);
    assert_eq!(peer.local_as.map(|local_as| local_as.mode), Some(LocalAsMode::Prepend));
    assert!(peer.families.contains(Family::Ipv6) && !peer.families.contains(Family::Ipv4));
    assert_eq!(peer.ttl, Ttl::Multihop(NonZeroU8::new(3).unwrap()));
    assert_eq!(peer.graceful_restart, PeerRestart::Disabled);
    assert_eq!(peer.origin_validation, Some(OriginValidation::Mark));
    assert_eq!(peer.tcp_mss, NonZeroU16::new(1400));
    let introduce = Introduce { hostname: Disclosure::Withheld, software: Disclosure::Told };
    assert_eq!(peer.introduce, introduce);
}

#[test]
fn what_cannot_be_read_names_object_annotation_and_value_and_changes_nothing() {
    let untouched = untouched();
    for (name, text) in [
        ("hold-time", "2s"),
        ("hold-time", "20h"),
        ("connect-retry", "0s"),
        ("passive", "yes"),
        ("max-prefixes", "0"),
        ("families", "ipv5"),
        ("role", "customer maybe"),
        ("multihop", "256"),
        ("tcp-mss", "80"),
        ("tcp-mss", "40000"),
        ("announce-hostname", "node-1"),
        ("graceful-restart", ""),
        ("origin-validation", "on"),
        ("rpki", "192.0.2.1:323"),
        ("local-as-mode", "between"),
        ("max-prefixes", "10 explode"),
        ("add-path-send", "0"),
        ("remove-private-as", "some"),
        ("long-lived-stale-time", "9999h"),
        ("multipath", "4"),
        ("interface", "eth0,"),
        ("interface", "an-interface-with-a-long-name"),
        ("remote-as", "0"),
        ("listen-range", "10.0.0.0"),
        ("listen-limit", "0"),
        ("aggregates", "10.65.0.0/16"),
        ("export-while", "0.0.0.0/0"),
        ("hold-tiem", "9s"),
    ] {
        let (peer, problems) = read(&[(name, text)]);
        assert_eq!(peer, untouched, "{name}");
        let start = format!("BGPPeer tor: metadata.annotations[bgp.ocicat.io/{name}]: ");
        let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
        assert!(problem.starts_with(&start) && problem.contains(&format!("{text:?}")), "{problem}");
    }
}

/// A password would be one of TCP MD5 otherwise, which nobody asked for.
#[test]
fn a_session_whose_tcp_ao_cannot_be_read_stays_down() {
    let (peer, problems) = read(&[("tcp-ao", "send-id=1")]);
    assert_eq!(peer.signing, Signing::Unreadable);
    let said = "\"send-id=1\" is not like \"send-id=1 receive-id=1 algorithm=hmac-sha1-96\"";
    let said = format!(
        "BGPPeer tor: metadata.annotations[bgp.ocicat.io/tcp-ao]: {said}; the session stays down"
    );
    assert_eq!(problems, [said]);
}

#[test]
fn aggregates_are_a_list() {
    let read = aggregates("10.65.1.0/16, fd00:65::/32 summary-only").unwrap();
    let read: Vec<String> = read.iter().map(|(p, s)| format!("{p} {s:?}")).collect();
    assert_eq!(read, ["10.65.0.0/16 Told", "fd00:65::/32 Hidden"]);
    for wrong in ["", "10.65.0.0/16,", "10.65.0.0/16 hidden", "10.65.0.0"] {
        assert!(aggregates(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_annotation_stands_in_the_documentation() {
    let documentation = include_str!("../../../../../manifests/BGP-API.md");
    let of_peer = OF_PEER.iter().map(|(name, _)| name);
    let whom = WHOM.iter().map(|(name, _)| name);
    let of_filter = OF_FILTER.iter().map(|(name, _)| name);
    let of_speaker = OF_SPEAKER.iter().map(|(name, _)| name);
    for name in of_peer.chain(whom).chain(of_speaker).chain(of_filter) {
        assert!(documentation.contains(&format!("`{ANNOTATION_PREFIX}{name}`")), "{name}");
    }
}
