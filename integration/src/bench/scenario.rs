//! What is measured: who speaks to the daemon under test in each scenario.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::table::Family;

/// The daemon under test.
pub(crate) const DAEMON_AS: u32 = 64_512;
pub(crate) const DAEMON_IPV4: Ipv4Addr = Ipv4Addr::new(10, 99, 255, 254);
pub(crate) const DAEMON_IPV6: Ipv6Addr = Ipv6Addr::new(0xFD99, 0, 0, 0, 0, 0, 0, 0xFFFF);

/// Prefixes and attribute sets of one table: about twelve prefixes share their attributes.
pub(crate) const TABLE: (u32, u32) = (100_000, 8_290);
pub(crate) const LARGE_TABLE: (u32, u32) = (800_000, 66_320);
pub(crate) const SMALL_TABLE: (u32, u32) = (10_000, 829);
/// Senders of scenario b.
pub(crate) const RIVALS: u32 = 10;
/// Senders of scenario d.
pub(crate) const CROWD: u32 = 30;
/// Peers of scenario g.
pub(crate) const MESH: u32 = 800;
/// Receivers of scenario j.
pub(crate) const AUDIENCE: u32 = 30;

/// A row of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// One sender with 100,000 prefixes, one receiver.
    A,
    /// Ten senders with the same 100,000 prefixes, one of them the best for each.
    B,
    /// One sender with 800,000 prefixes.
    C,
    /// 30 senders with 10,000 prefixes each, all told to all and to one receiver more.
    D,
    /// 100,000 prefixes are withdrawn; or their session goes down.
    E,
    /// One receiver more, when the table is full.
    F,
    /// 800 internal sessions with four prefixes each.
    G,
    /// 8,000 changes per second, of 800,000 prefixes.
    H,
    /// As c, in IPv6.
    I,
    /// 30 receivers, one of which stops reading.
    J,
}

/// Scenarios that are measured in one life of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Play {
    /// a, then f, then e.
    One,
    /// b.
    Rivals,
    /// c, then f.
    Large,
    /// d, then f.
    Crowd,
    /// g.
    Mesh,
    /// h.
    Churn,
    /// i.
    LargeIpv6,
    /// j.
    Audience,
}

/// One end of a session, on the tester's side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
}

impl Scenario {
    /// In which play it is measured. A late receiver of the large tables comes with theirs.
    pub(crate) const fn play(self) -> Play {
        match self {
            Self::A | Self::E | Self::F => Play::One,
            Self::B => Play::Rivals,
            Self::C => Play::Large,
            Self::D => Play::Crowd,
            Self::G => Play::Mesh,
            Self::H => Play::Churn,
            Self::I => Play::LargeIpv6,
            Self::J => Play::Audience,
        }
    }

    /// All plays that a choice of scenarios needs.
    pub(crate) fn needed(chosen: &[Self]) -> BTreeSet<Play> {
        chosen.iter().map(|scenario| scenario.play()).collect()
    }
}

impl Play {
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::LargeIpv6 => Family::Ipv6,
            Self::One
            | Self::Rivals
            | Self::Large
            | Self::Crowd
            | Self::Mesh
            | Self::Churn
            | Self::Audience => Family::Ipv4,
        }
    }

    /// The sessions that the daemon is configured for, in the order in which the tester counts them.
    pub(crate) fn peers(self) -> Vec<Peer> {
        let count = match self {
            Self::One | Self::Large => 3,
            Self::Rivals => RIVALS + 1,
            Self::Crowd => CROWD + 2,
            Self::Mesh => MESH + 1,
            Self::Churn | Self::LargeIpv6 => 2,
            Self::Audience => AUDIENCE + 1,
        };
        let internal = |number| self == Self::Mesh && number > 0;
        let peer = |number| Peer {
            address: address(self.family(), number),
            asn: if internal(number) { DAEMON_AS } else { 64_600 + number },
        };
        (0..count).map(peer).collect()
    }

    /// The daemon's own address.
    pub(crate) const fn daemon(self) -> IpAddr {
        match self.family() {
            Family::Ipv4 => IpAddr::V4(DAEMON_IPV4),
            Family::Ipv6 => IpAddr::V6(DAEMON_IPV6),
        }
    }
}

/// The most sessions that any play has.
pub(crate) const MOST_PEERS: u32 = MESH + 1;

/// The tester's address with this number.
pub(crate) fn address(family: Family, number: u32) -> IpAddr {
    let [.., high, low] = (number / 250 * 256 + number % 250 + 1).to_be_bytes();
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 99, high, low).into(),
        Family::Ipv6 => {
            Ipv6Addr::new(0xFD99, 0, 0, 0, 0, 0, 0, u16::from_be_bytes([high, low])).into()
        }
    }
}

/// The router identifier of the tester's session with this number.
pub(crate) fn router_id(number: usize) -> Ipv4Addr {
    match address(Family::Ipv4, u32::try_from(number).expect("at most some hundreds")) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("asked for IPv4"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_an_address_of_its_own() {
        let peers = Play::Mesh.peers();
        let addresses: BTreeSet<IpAddr> = peers.iter().map(|peer| peer.address).collect();
        assert_eq!(addresses.len(), MOST_PEERS as usize);
        assert!(!addresses.contains(&Play::Mesh.daemon()));
    }

    #[test]
    fn what_is_measured_in_one_play_is_played_once() {
        let chosen = [Scenario::F, Scenario::A, Scenario::E];
        assert_eq!(Scenario::needed(&chosen), BTreeSet::from([Play::One]));
    }
}
