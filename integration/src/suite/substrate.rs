//! The lab itself: if these fail, no other test means anything.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, Test};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::probe::{
    Attempt, EarlySender, Flow, LONG, Outcome, Protocol, SHORT, Server, Stream, send,
};
use crate::router::gobgp::GoBgp;
use crate::router::{Config, Daemon as _, Family, Neighbor, Presence};
use crate::spec::{Numbering, rack};
use crate::wait::until;

pub(super) const TESTS: &[Test] = &[
    Test::new(
        "substrate: probes tell reached, refused, unreachable, dropped and one-way apart",
        outcomes,
    ),
    Test::new("substrate: a stream counts its losses and an early sender its packets", streams),
    Test::new(
        "substrate: two GoBGP speakers exchange routes and the router's kernel follows",
        gobgp,
    ),
    Test::new("substrate: erasing a run ends its processes and removes its namespaces", erasing),
];

/// Two namespaces with a link: `left` is 10.1.0.1 and fd00:1::1, `right` the same with 2.
fn pair(bench: &Bench) -> Result<[Netns; 2]> {
    let left = Netns::create(&bench.run.netns("left"))?;
    let right = Netns::create(&bench.run.netns("right"))?;
    left.ip(&format!("link add eth0 type veth peer name eth0 netns {}\n", right.name()))?;
    for (number, netns) in [(1, &left), (2, &right)] {
        netns.ip(&format!(
            "addr add 10.1.0.{number}/24 dev eth0\naddr add fd00:1::{number}/64 dev eth0 nodad\nlink set eth0 up\n"
        ))?;
    }
    Ok([left, right])
}

const RIGHT: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

fn outcomes(bench: &Bench) -> Result<()> {
    let [left, right] = pair(bench)?;
    let addresses: Vec<IpAddr> = RIGHT.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let all = [
        (Protocol::Tcp, 80),
        (Protocol::Udp, 53),
        (Protocol::Sctp, 7777),
        (Protocol::Tcp, 81),
        (Protocol::Udp, 54),
        (Protocol::Udp, 55),
        (Protocol::Sctp, 7778),
    ];
    let mut server = Server::start(&right, &addresses, &all)?;
    let mut servers = [&mut server];
    // Requests to 81, 54 and 7778 are dropped; requests to 55 pass and their answers do not.
    right.run(
        "nft",
        &["table inet t { chain in { type filter hook input priority 0; tcp dport 81 drop; udp dport 54 drop; \
           sctp dport 7778 drop; tcp dport 83 reject; }; \
           chain out { type filter hook output priority 0; udp sport 55 drop; }; }"],
    )?;
    let expected = [
        (Protocol::Tcp, 80, Outcome::Reached),
        (Protocol::Udp, 53, Outcome::Reached),
        (Protocol::Sctp, 7777, Outcome::Reached),
        (Protocol::Icmp, 0, Outcome::Reached),
        (Protocol::Tcp, 82, Outcome::Refused),
        (Protocol::Udp, 56, Outcome::Refused),
        (Protocol::Tcp, 81, Outcome::Dropped),
        (Protocol::Udp, 54, Outcome::Dropped),
        (Protocol::Sctp, 7778, Outcome::Dropped),
        (Protocol::Udp, 55, Outcome::OneWay),
    ];
    for address in addresses {
        let attempts: Vec<Attempt<'_>> = expected
            .iter()
            .map(|(protocol, port, outcome)| Attempt {
                from: &left,
                flow: Flow { to: SocketAddr::new(address, *port), protocol: *protocol },
                patience: if *outcome == Outcome::Dropped { SHORT } else { LONG },
            })
            .collect();
        let found = send(&attempts, &mut servers)?;
        for (attempt, (found, (_, _, wanted))) in attempts.iter().zip(found.iter().zip(expected)) {
            ensure!(*found == wanted, "{}: {found}, not {wanted}", attempt.flow);
        }
    }
    let nowhere = Flow { to: "198.51.100.1:80".parse()?, protocol: Protocol::Tcp };
    let attempt = Attempt { from: &left, flow: nowhere, patience: SHORT };
    ensure!(
        send(&[attempt], &mut servers)? == [Outcome::Unreachable],
        "no route, yet not unreachable"
    );
    Ok(())
}

fn streams(bench: &Bench) -> Result<()> {
    let [left, right] = pair(bench)?;
    let addresses: Vec<IpAddr> = RIGHT.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let mut server = Server::start(&right, &addresses, &[(Protocol::Udp, 7)])?;
    let target = SocketAddr::new(addresses[0], 7);

    let stream = Stream::start(&left, target, 1000)?;
    std::thread::sleep(Duration::from_millis(500));
    let report = stream.finish()?;
    ensure!(report.lost() == 0 && report.sent >= 400, "on a quiet link: {report:?}");

    let stream = Stream::start(&left, target, 1000)?;
    std::thread::sleep(Duration::from_millis(200));
    right.ip("link set eth0 down\n")?;
    std::thread::sleep(Duration::from_millis(200));
    right.ip("link set eth0 up\n")?;
    std::thread::sleep(Duration::from_millis(300));
    let report = stream.finish()?;
    ensure!(report.lost() >= 100 && report.answered >= 100, "with 200 ms of no link: {report:?}");
    ensure!(report.longest_silence >= Duration::from_millis(150), "{report:?}");

    // The sender is there before its address is.
    left.ip("addr del 10.1.0.1/24 dev eth0\n")?;
    let before = server.count();
    let early = EarlySender::start(&left, &[target])?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(server.count() == before, "packets came without an address");
    left.ip("addr add 10.1.0.1/24 dev eth0\n")?;
    until(LONG, "an early packet arrives", || Ok(server.count() > before))?;
    ensure!(early.finish().accepted > 0, "arrived, but was not counted");
    Ok(())
}

fn gobgp(bench: &Bench) -> Result<()> {
    let mut lab = Lab::create(&bench.run, rack(1, Numbering::PerRack), &bench.binaries)?;
    let config = lab.router_config();
    lab.start_router(&config)?;
    // In the place of the agent, another GoBGP.
    let node = lab.spec.nodes[0].clone();
    let neighbors = vec![
        Neighbor::new(node.ipv4.into(), node.gateway_ipv4().into(), 64_500),
        Neighbor::new(node.ipv6.into(), node.gateway_ipv6().into(), 64_500),
    ];
    let peer = Config::new(node.as_number, node.ipv4, neighbors);
    let peer = GoBgp::start(lab.agents[0].netns(), &bench.run.directory().join("peer"), &peer)?;
    let router = lab.router_daemon()?;
    router.wait_established(Duration::from_secs(20))?;
    for prefix in &node.pod_cidrs {
        peer.add(prefix, None)?;
        router.wait_route(prefix, Presence::There, LONG)?;
    }
    peer.wait_route("192.0.2.0/24", Presence::There, LONG)?;
    peer.wait_route("2001:db8:2::/64", Presence::There, LONG)?;
    let learned = router.learned()?;
    ensure!(learned.len() == 2, "learned {learned:?}");
    ensure!(
        router.table(Family::Ipv4)?[&node.pod_cidrs[0].parse()?][0].as_path == [node.as_number]
    );

    let shows = |family: &str, wanted: &str| -> Result<bool> {
        Ok(lab.router.run("ip", &[family, "route", "show", "proto", "186"])?.contains(wanted))
    };
    until(LONG, "the IPv4 route is in the kernel", || shows("-4", "10.65.1.0/24 via 10.0.1.10"))?;
    until(LONG, "the IPv6 route is in the kernel", || {
        shows("-6", "fd00:65:1::/64 via fd00:10:1::10")
    })?;
    peer.remove(&node.pod_cidrs[0])?;
    router.wait_route(&node.pod_cidrs[0], Presence::Gone, LONG)?;
    until(LONG, "the IPv4 route left the kernel", || shows("-4", "10.65.1.0").map(|shown| !shown))?;
    Ok(())
}

fn erasing(bench: &Bench) -> Result<()> {
    let claim = crate::run::Run::claim()?;
    let netns = Netns::create(&claim.run.netns("x"))?;
    let mut sleeper = netns.spawn(std::process::Command::new("sleep").arg("1000"))?;
    ensure!(claim.run.namespaces()? == [netns.name().to_owned()]);
    claim.run.erase()?;
    ensure!(!sleeper.wait()?.success(), "the process ended by itself");
    ensure!(claim.run.namespaces()?.is_empty() && !claim.run.directory().exists());
    ensure!(bench.run.directory().exists(), "erased someone else's run");
    Ok(())
}
