//! Every case against every speaker, in a few labs for each: the node with its agent, and the speaker
//! on the router.
//!
//! A case that a speaker cannot do says so, with the reason, and is counted.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::super::{Bench, Test};
use super::{CLIENT, ESTABLISHED, exchange, restarts, sessions, wait_kernel};
use crate::lab::Lab;
use crate::object::Object;
use crate::progress::format_duration;
use crate::router::{Announcement, Config, Daemon, Family, Hops, Neighbor, Presence, Program};
use crate::spec::{Numbering, Spec, rack};

/// Something that must be so between the agent and any speaker.
pub(super) struct Case {
    /// A sentence.
    pub(super) name: &'static str,
    pub(super) body: fn(&mut Meeting) -> Result<()>,
    /// Who cannot do it, and why.
    pub(super) cannot: &'static [(Program, &'static str)],
}

/// A lab in which an agent and a speaker have met.
#[derive(Debug)]
pub(super) struct Meeting {
    pub(super) lab: Lab,
    pub(super) peer: Box<dyn Daemon>,
    pub(super) program: Program,
    pub(super) terms: Terms,
}

/// How a speaker and the agent talk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) router_as: u32,
    pub(super) node_as: u32,
    pub(super) transport: Transport,
    hops: Hops,
    graceful_restart: Option<u32>,
    max_prefixes: Option<u32>,
}

/// What the sessions run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// A session for each family.
    Each,
    /// One over IPv4 for both.
    Ipv4,
    /// One over IPv6 for both (RFC 8950).
    Ipv6,
}

/// A kind of lab, and what is tried in it.
struct Chapter {
    terms: Terms,
    cases: &'static [&'static Case],
}

/// Different autonomous systems, the plainest of sessions.
const EXTERNAL: Chapter = Chapter {
    terms: Terms {
        router_as: 64_500,
        node_as: 64_513,
        transport: Transport::Each,
        hops: Hops::Usual,
        graceful_restart: None,
        max_prefixes: Some(sessions::LIMIT),
    },
    cases: &[
        &exchange::BOTH_WAYS,
        &exchange::COMMUNITIES,
        &exchange::PREPENDED,
        &exchange::REFRESH,
        &exchange::ASKED,
        &exchange::MANY_IN,
        &exchange::MANY_OUT,
        &sessions::FAREWELL,
        &sessions::PEER_KILLED,
        &sessions::SILENCE,
        &sessions::AGENT_KILLED,
        &sessions::TOO_MANY,
    ],
};

/// AS numbers of four octets, one session for both families, the TTL checked, graceful restart.
const FULL: Chapter = Chapter {
    terms: Terms {
        router_as: 4_200_000_000,
        node_as: 4_200_000_013,
        transport: Transport::Ipv4,
        hops: Hops::Gtsm,
        graceful_restart: Some(60),
        max_prefixes: None,
    },
    cases: &[&exchange::BOTH_WAYS, &sessions::TTL, &restarts::AGENT, &restarts::PEER],
};

/// The same with a session for each family: on an eBGP session over IPv4, OpenBGPD tells ::1 as its
/// next hop of IPv6 routes, at least on Linux.
const FULL_EACH: Chapter =
    Chapter { terms: Terms { transport: Transport::Each, ..FULL.terms }, cases: FULL.cases };

/// The same autonomous system, and one session over IPv6.
const INTERNAL: Chapter = Chapter {
    terms: Terms {
        router_as: 64_512,
        node_as: 64_512,
        transport: Transport::Ipv6,
        hops: Hops::Usual,
        graceful_restart: None,
        max_prefixes: None,
    },
    cases: &[&exchange::BOTH_WAYS, &exchange::COMMUNITIES, &exchange::MANY_OUT],
};

/// The same over IPv4, for who does not speak RFC 8950.
const INTERNAL_IPV4: Chapter = Chapter {
    terms: Terms { transport: Transport::Ipv4, ..INTERNAL.terms },
    cases: INTERNAL.cases,
};

pub(super) const TESTS: &[Test] = &[
    Test::new("interop: GoBGP, eBGP, a session for each family", |bench| {
        meet(bench, Program::GoBgp, &EXTERNAL)
    })
    .limit(120),
    Test::new("interop: GoBGP, eBGP, four octets, one session, GTSM, graceful restart", |bench| {
        meet(bench, Program::GoBgp, &FULL)
    })
    .limit(120),
    Test::new("interop: GoBGP, iBGP, one session over IPv6", |bench| {
        meet(bench, Program::GoBgp, &INTERNAL)
    }),
    Test::new("interop: BIRD, eBGP, a session for each family", |bench| {
        meet(bench, Program::Bird, &EXTERNAL)
    })
    .limit(120),
    Test::new("interop: BIRD, eBGP, four octets, one session, GTSM, graceful restart", |bench| {
        meet(bench, Program::Bird, &FULL)
    })
    .limit(120),
    Test::new("interop: BIRD, iBGP, one session over IPv6", |bench| {
        meet(bench, Program::Bird, &INTERNAL)
    }),
    Test::new("interop: FRR, eBGP, a session for each family", |bench| {
        meet(bench, Program::Frr, &EXTERNAL)
    })
    .limit(120),
    Test::new("interop: FRR, eBGP, four octets, one session, GTSM, graceful restart", |bench| {
        meet(bench, Program::Frr, &FULL)
    })
    .limit(120),
    Test::new("interop: FRR, iBGP, one session over IPv6", |bench| {
        meet(bench, Program::Frr, &INTERNAL)
    }),
    Test::new("interop: OpenBGPD, eBGP, a session for each family", |bench| {
        meet(bench, Program::OpenBgpd, &EXTERNAL)
    })
    .limit(120),
    Test::new(
        "interop: OpenBGPD, eBGP, four octets, two sessions, GTSM, graceful restart",
        |bench| meet(bench, Program::OpenBgpd, &FULL_EACH),
    )
    .limit(120),
    Test::new("interop: OpenBGPD, iBGP, one session over IPv4", |bench| {
        meet(bench, Program::OpenBgpd, &INTERNAL_IPV4)
    }),
    Test::new("interop: ExaBGP, eBGP, a session for each family", |bench| {
        meet(bench, Program::ExaBgp, &EXTERNAL)
    })
    .limit(120),
    Test::new("interop: ExaBGP, eBGP, four octets, one session, GTSM, graceful restart", |bench| {
        meet(bench, Program::ExaBgp, &FULL)
    })
    .limit(120),
    Test::new("interop: ExaBGP, iBGP, one session over IPv6", |bench| {
        meet(bench, Program::ExaBgp, &INTERNAL)
    }),
];

/// What the speakers of these tests cannot do: one line for each.
pub(super) fn not_applicable(chosen: &[&Test]) -> Vec<String> {
    let chapters = [&EXTERNAL, &FULL, &INTERNAL];
    let cases = chapters.into_iter().flat_map(|chapter| chapter.cases);
    let lines = cases.flat_map(|case| {
        let of = |program| format!("interop: {program}, ");
        let cannot = case.cannot.iter();
        cannot
            .filter(move |(program, _)| {
                chosen.iter().any(|test| test.name.starts_with(&of(program)))
            })
            .map(|(program, why)| format!("{program}: {}: {why}", case.name))
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Tries all cases of a chapter, also after one that failed.
fn meet(bench: &Bench, program: Program, chapter: &Chapter) -> Result<()> {
    let mut meeting = Meeting::begin(bench, program, chapter.terms)?;
    let mut failed = Vec::new();
    for case in chapter.cases {
        if let Some((_, why)) = case.cannot.iter().find(|(who, _)| *who == program) {
            println!("     -        - {}: {why}", case.name);
            continue;
        }
        let start = Instant::now();
        let done = (case.body)(&mut meeting);
        let took = format_duration(start.elapsed());
        match done {
            Ok(()) => println!("     - {took:>8} {}", case.name),
            Err(error) => {
                println!("     ! {took:>8} {}: {error:#}\n{}", case.name, meeting.agent_log());
                failed.push(case.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{program}: {}", failed.join("; "));
    }
    Ok(())
}

impl Meeting {
    fn begin(bench: &Bench, program: Program, terms: Terms) -> Result<Self> {
        let spec = terms.spec();
        let mut lab = bench.bare(spec)?;
        let config = terms.config(&lab.spec);
        let directory = lab.directory().join("tor");
        if program == Program::GoBgp && terms.graceful_restart.is_some() {
            // It programs no kernel, and here packets have to get through.
            lab.follow_router()?;
        }
        let peer = program.start(&lab.router, &directory, &config)?;
        lab.start_agents()?;
        let mut meeting = Self { lab, peer, program, terms };
        meeting.peer.wait_established(ESTABLISHED).with_context(|| meeting.agent_log())?;
        meeting.announce_client()?;
        Ok(meeting)
    }

    /// Has the speaker announce what lies behind it; again after a restart, as some forget it.
    pub(super) fn announce_client(&mut self) -> Result<()> {
        let routes = CLIENT.map(|net| Announcement::plain(net.parse().expect("a prefix")));
        self.peer.announce(&routes)
    }

    pub(super) fn agent_log(&self) -> String {
        self.lab.agents[0].log_tail()
    }

    /// The agent is up, and both ends have each other's routes.
    pub(super) fn wait_whole(&self) -> Result<()> {
        self.peer.wait_established(ESTABLISHED).with_context(|| self.agent_log())?;
        for network in CLIENT {
            wait_kernel(&self.lab, 0, network, Presence::There)
                .with_context(|| format!("{:?}", self.lab.agents[0].ask(&["bgp", "routes"])))?;
        }
        for cidr in &self.lab.spec.nodes[0].pod_cidrs {
            self.peer
                .wait_route(cidr, Presence::There, crate::probe::LONG)
                .with_context(|| self.agent_log())?;
        }
        Ok(())
    }

    /// The agent's view of its peers.
    pub(super) fn peer_rows(&self) -> Result<Vec<Value>> {
        self.lab.agents[0].json(&["bgp", "peers"])
    }

    /// The agent's view of the first session.
    pub(super) fn peer_row(&self) -> Result<Value> {
        self.peer_rows()?.into_iter().next().context("the agent has no peer")
    }

    /// The paths that the agent has.
    pub(super) fn route_rows(&self) -> Result<Vec<Value>> {
        self.lab.agents[0].json(&["bgp", "routes"])
    }

    /// The node's address on the first session.
    pub(super) fn node_address(&self) -> IpAddr {
        let node = &self.lab.spec.nodes[0];
        match self.terms.transport {
            Transport::Each | Transport::Ipv4 => node.ipv4.into(),
            Transport::Ipv6 => node.ipv6.into(),
        }
    }

    /// Gives the node these pod networks besides its own.
    pub(super) fn give_pod_networks(&self, more: &[String]) -> Result<()> {
        let mut node = self.find("Node", "node1")?.clone();
        let mut all = self.lab.spec.nodes[0].pod_cidrs.clone();
        all.extend_from_slice(more);
        node.0["spec"]["podCIDRs"] = json!(all);
        self.lab.store.put(&node)
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Result<&Object> {
        let mut all = self.lab.spec.objects.iter();
        all.find(|object| object.kind() == kind && object.name() == name)
            .with_context(|| format!("no {kind} {name}"))
    }
}

impl Terms {
    /// A rack of one node by these terms.
    fn spec(self) -> Spec {
        let mut spec = rack(1, Numbering::PerRack);
        spec.router.as_number = self.router_as;
        spec.nodes[0].as_number = self.node_as;
        let unwanted = match self.transport {
            Transport::Each => "",
            Transport::Ipv4 => "tor-r1-v6",
            Transport::Ipv6 => "tor-r1",
        };
        spec.objects.retain(|object| object.name() != unwanted);
        for object in &mut spec.objects {
            if object.kind() == "Node" {
                object.0["metadata"]["annotations"]["projectcalico.org/ASNumber"] =
                    json!(self.node_as.to_string());
            }
            if object.kind() == "BGPPeer" {
                object.0["spec"]["asNumber"] = json!(self.router_as);
                match self.hops {
                    Hops::Usual => {}
                    Hops::Gtsm => object.0["spec"]["ttlSecurity"] = json!(1),
                }
            }
        }
        spec
    }

    /// The speaker's side.
    fn config(self, spec: &Spec) -> Config {
        let node = &spec.nodes[0];
        let ipv4 = Neighbor::new(node.gateway_ipv4().into(), node.ipv4.into(), self.node_as);
        let ipv6 = Neighbor::new(node.gateway_ipv6().into(), node.ipv6.into(), self.node_as);
        let both = |neighbor, other: &Neighbor| Neighbor {
            families: Family::BOTH.to_vec(),
            other_local: Some(other.local),
            ..neighbor
        };
        let mut neighbors = match self.transport {
            Transport::Each => vec![ipv4, ipv6],
            Transport::Ipv4 => vec![both(ipv4, &ipv6)],
            Transport::Ipv6 => vec![both(ipv6, &ipv4)],
        };
        for neighbor in &mut neighbors {
            neighbor.hops = self.hops;
            neighbor.graceful_restart = self.graceful_restart;
            neighbor.max_prefixes = self.max_prefixes;
        }
        Config::new(self.router_as, node.gateway_ipv4(), neighbors)
    }
}

/// The time in which a thousand routes get through.
pub(super) const MANY: Duration = Duration::from_secs(15);
