//! What the command line asks about the speaker, and what it is told.

use k8s_openapi::ByteString;
use ocicat_bgp::wire::Family;
use serde::{Deserialize, Serialize};

use super::PeerRow;

/// Which paths are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteQuery {
    /// Only this prefix, or the prefixes that hold this address.
    pub prefix: Option<String>,
    /// Only what this peer told, or is told.
    pub peer: Option<String>,
    /// Which of them.
    pub which: Which,
}

/// Which paths, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Everything that the speaker knows.
    #[default]
    All,
    /// What peers told.
    Received,
    /// What peers told and may be used.
    Accepted,
    /// What peers told and may not be used.
    Rejected,
    /// What a peer is told.
    Advertised,
}

/// Everything about one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerView {
    /// What the list of peers says of it.
    #[serde(flatten)]
    pub row: PeerRow,
    /// The object that it is from.
    pub origin: String,
    /// The configuration in force, as names and values.
    pub settings: Vec<(String, String)>,
    /// The peer's BGP Identifier.
    pub router_id: Option<String>,
    /// What the peer calls itself (draft-walton-bgp-hostname-capability); harmless characters alone.
    pub hostname: Option<String>,
    /// Which software the peer says that it is (draft-abraitis-bgp-version-capability).
    pub software: Option<String>,
    /// Time between our keepalives, in seconds.
    pub keepalive_seconds: Option<u64>,
    /// Timers that run, and the seconds that are left.
    pub timers: Vec<(String, u64)>,
    /// Error code and subcode of the last NOTIFICATION, either way (RFC 4271 §4.5).
    pub last_error_code: Option<(u8, u8)>,
    /// Who ended the last session: `us`, `peer` or `transport`.
    pub last_error_by: Option<String>,
    /// Why the last attempt to connect failed, until a session stands.
    pub connect_error: Option<String>,
    /// What happened to its sessions, the newest last.
    pub history: Vec<Event>,
}

/// A prefix, and why its paths are used or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// Which.
    pub prefix: String,
    /// Its route as it should be in the kernel, as an `ip route` line; absent when there should be none of ours.
    pub kernel: Option<String>,
    /// Its paths, the best first.
    pub paths: Vec<PathView>,
}

/// A path, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathView {
    /// What the list of routes says of it.
    #[serde(flatten)]
    pub row: super::RouteRow,
    /// ORIGIN.
    pub origin: String,
    /// What became of it, in words.
    pub why: String,
    /// The rule of the import filter that decided: object, list and number.
    pub rule: Option<String>,
    /// What import changed, in words.
    pub changed: Vec<String>,
}

/// Who is to tell what again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshQuery {
    /// The peer's name.
    pub peer: String,
    /// Every family of the session if absent.
    pub family: Option<FamilyName>,
}

/// What a peer was asked to tell again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshView {
    /// The peer's name.
    pub peer: String,
    /// `ipv4`, `ipv6`.
    pub families: Vec<String>,
    /// Whether the peer marks the end, and what it has not named by then is taken out (RFC 7313).
    pub enhanced: bool,
}

/// A monitoring station (BMP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StationRow {
    /// Its address and port.
    pub station: String,
    /// What it is told of, in the words of the annotation.
    pub tables: Vec<String>,
    /// How often it is told statistics; absent: never.
    pub statistics_seconds: Option<u64>,
    /// `down`, `telling` while the tables are told from the beginning, `current` when only changes are.
    pub state: String,
    /// How long it has been up, or down, in seconds.
    pub since_seconds: u64,
    /// Messages sent.
    pub messages: u64,
    /// Octets sent.
    pub octets: u64,
    /// Changes that wait to be told.
    pub waiting: u64,
    /// How often everything was told from the beginning.
    pub dumps: u64,
    /// How often the connection was given up because the station was too far behind.
    pub swamped: u64,
    /// Why the last connection ended, or could not be made.
    pub last_error: Option<String>,
}

/// A cache of the RPKI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheRow {
    /// Its address and port.
    pub cache: String,
    /// `down`, `loading` while it is asked, `current` when we have what it has, `no-data` when it has nothing yet.
    pub state: String,
    /// How long the connection has been up, or down, in seconds.
    pub since_seconds: u64,
    /// The version of the protocol on the connection.
    pub version: Option<u8>,
    /// The cache's session.
    pub session: Option<u16>,
    /// The number of its data that we have.
    pub serial: Option<u32>,
    /// Records of IPv4 prefixes that count.
    pub ipv4: usize,
    /// Records of IPv6 prefixes that count.
    pub ipv6: usize,
    /// How many seconds ago its last answer was complete; absent: none is, or the data have expired.
    pub age_seconds: Option<u64>,
    /// In how many seconds the data expire, unless it answers before.
    pub expires_seconds: Option<u64>,
    /// Complete answers.
    pub answers: u64,
    /// Why the last connection ended, or could not be made, until it has answered again.
    pub last_error: Option<String>,
}

/// Which slice of the table is wanted as an MRT dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DumpQuery {
    /// Only this family.
    pub family: Option<FamilyName>,
    /// Where to go on; absent: from the beginning.
    pub from: Option<DumpPlace>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyName {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Ipv4 => Self::Ipv4,
            FamilyName::Ipv6 => Self::Ipv6,
        }
    }
}

impl From<Family> for FamilyName {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Ipv4,
            Family::Ipv6 => Self::Ipv6,
        }
    }
}

/// Where a dump goes on; only of use to say it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpPlace {
    /// Peers in the index.
    pub peers: u16,
    /// The family.
    pub family: FamilyName,
    /// The row in it.
    pub row: u32,
    /// The number of the next record.
    pub sequence: u32,
}

/// A slice of an MRT dump (RFC 6396).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpPage {
    /// Whole records, in Base64.
    pub records: ByteString,
    /// Where to go on; absent: this was the last.
    pub next: Option<DumpPlace>,
}

/// Something that happened, on the stream of `bgp-events`: one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// A session came up.
    SessionUp {
        /// When, in seconds since 1970.
        at: u64,
        /// With whom.
        peer: String,
    },
    /// A session went down, or was refused.
    SessionDown {
        /// When, in seconds since 1970.
        at: u64,
        /// With whom.
        peer: String,
        /// The state that it was in.
        was: String,
        /// Why.
        reason: String,
        /// Error code and subcode of the NOTIFICATION, if there was one.
        code: Option<(u8, u8)>,
    },
    /// The chosen paths of a prefix changed.
    RouteChanged {
        /// When, in seconds since 1970.
        at: u64,
        /// Which.
        prefix: String,
        /// Next hop and peer of each path in use.
        paths: Vec<(String, String)>,
    },
    /// No path heard from a peer leads to a prefix any more.
    RouteWithdrawn {
        /// When, in seconds since 1970.
        at: u64,
        /// Which.
        prefix: String,
    },
    /// The reader was too slow.
    Missed {
        /// So many events were not sent.
        events: u64,
    },
}

/// How far this node's leave of its peers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It has not begun.
    Serving,
    /// Peers are asked to choose other ways (RFC 8326), and still may use ours.
    Leaving,
    /// Peers are told nothing any more.
    Gone,
}

/// The answer to a drain or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    /// What is so now.
    pub stage: Stage,
    /// Why it goes on although it was to end: the Node object asks for it.
    pub by_node: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_the_name_that_tables_print_and_no_other() {
        for family in Family::ALL {
            let name = format!("\"{}\"", crate::tables::family_name(family));
            let read: FamilyName = serde_json::from_str(&name).unwrap();
            assert_eq!(Family::from(read), family);
            assert_eq!(FamilyName::from(family), read);
        }
        let error = serde_json::from_str::<FamilyName>("\"ipv5\"").unwrap_err().to_string();
        assert!(error.contains("ipv5") && error.contains("ipv4"), "{error}");
    }
}
