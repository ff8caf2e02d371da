//! Every number that a registry assigned, in one place and under the registry's own names.
//!
//! Registries: "BGP Parameters", "Address Family Numbers", "SAFI Parameters", "Capability Codes",
//! "BGP Well-known Communities", "RPKI". Nothing here has behaviour beyond naming a code for a reader.

/// TCP port of BGP (RFC 4271 §8.2.1).
pub const BGP_PORT: u16 = 179;
/// The only protocol version in use (RFC 4271 §4.2).
pub const BGP_VERSION: u8 = 4;
/// Stands in two octets for an AS number that needs four (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// Address family numbers.
pub mod afi {
    /// IPv4.
    pub const IPV4: u16 = 1;
    /// IPv6.
    pub const IPV6: u16 = 2;
}

/// Subsequent address family identifiers.
pub mod safi {
    /// Unicast forwarding.
    pub const UNICAST: u8 = 1;
}

/// Message types (RFC 4271 §4.1, RFC 2918 §3).
pub mod message {
    /// Opens the session.
    pub const OPEN: u8 = 1;
    /// Announces and withdraws routes.
    pub const UPDATE: u8 = 2;
    /// Ends the session with a reason.
    pub const NOTIFICATION: u8 = 3;
    /// Says that the speaker lives.
    pub const KEEPALIVE: u8 = 4;
    /// Asks for the routes again, or brackets the answer (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 5;
}

/// Optional parameters of an OPEN (RFC 5492 §4, RFC 9072 §2).
pub mod parameter {
    /// Carries capabilities.
    pub const CAPABILITIES: u8 = 2;
    /// Says that the parameters use the extended form; also the length octet's escape value.
    pub const EXTENDED_LENGTH: u8 = 255;
}

/// Capability codes.
pub mod capability {
    /// Multiprotocol extensions (RFC 4760 §8).
    pub const MULTIPROTOCOL: u8 = 1;
    /// Route refresh (RFC 2918 §2).
    pub const ROUTE_REFRESH: u8 = 2;
    /// Extended next-hop encoding (RFC 8950 §4).
    pub const EXTENDED_NEXT_HOP: u8 = 5;
    /// Messages up to 65535 octets (RFC 8654 §3).
    pub const EXTENDED_MESSAGE: u8 = 6;
    /// Role of the peer (RFC 9234 §4.1).
    pub const ROLE: u8 = 9;
    /// Graceful restart (RFC 4724 §3, RFC 8538 §2).
    pub const GRACEFUL_RESTART: u8 = 64;
    /// Four-octet AS numbers (RFC 6793 §3).
    pub const FOUR_OCTET_AS: u8 = 65;
    /// Several paths per prefix (RFC 7911 §4).
    pub const ADD_PATH: u8 = 69;
    /// Enhanced route refresh (RFC 7313 §3.1).
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
    /// Long-lived graceful restart (RFC 9494 §3.1).
    pub const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
    /// Host and domain name (draft-walton-bgp-hostname-capability).
    pub const FQDN: u8 = 73;
    /// Name and version of the software (draft-abraitis-bgp-version-capability).
    pub const SOFTWARE_VERSION: u8 = 75;
}

/// Path attribute type codes.
pub mod attribute {
    /// RFC 4271 §5.1.1.
    pub const ORIGIN: u8 = 1;
    /// RFC 4271 §5.1.2.
    pub const AS_PATH: u8 = 2;
    /// RFC 4271 §5.1.3.
    pub const NEXT_HOP: u8 = 3;
    /// RFC 4271 §5.1.4.
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// RFC 4271 §5.1.5.
    pub const LOCAL_PREF: u8 = 5;
    /// RFC 4271 §5.1.6.
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// RFC 4271 §5.1.7.
    pub const AGGREGATOR: u8 = 7;
    /// RFC 1997.
    pub const COMMUNITIES: u8 = 8;
    /// RFC 4456 §8.
    pub const ORIGINATOR_ID: u8 = 9;
    /// RFC 4456 §8.
    pub const CLUSTER_LIST: u8 = 10;
    /// RFC 4760 §3.
    pub const MP_REACH_NLRI: u8 = 14;
    /// RFC 4760 §4.
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// RFC 4360 §2.
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// RFC 6793 §3.
    pub const AS4_PATH: u8 = 17;
    /// RFC 6793 §3.
    pub const AS4_AGGREGATOR: u8 = 18;
    /// RFC 5701 §2.
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    /// RFC 8092 §3.
    pub const LARGE_COMMUNITIES: u8 = 32;
    /// Only to customer (RFC 9234 §5).
    pub const ONLY_TO_CUSTOMER: u8 = 35;

    /// The registry's name of a type code, for logs and listings.
    #[must_use]
    pub fn name(code: u8) -> &'static str {
        match code {
            ORIGIN => "ORIGIN",
            AS_PATH => "AS_PATH",
            NEXT_HOP => "NEXT_HOP",
            MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            LOCAL_PREF => "LOCAL_PREF",
            ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AGGREGATOR => "AGGREGATOR",
            COMMUNITIES => "COMMUNITIES",
            ORIGINATOR_ID => "ORIGINATOR_ID",
            CLUSTER_LIST => "CLUSTER_LIST",
            MP_REACH_NLRI => "MP_REACH_NLRI",
            MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
            AS4_PATH => "AS4_PATH",
            AS4_AGGREGATOR => "AS4_AGGREGATOR",
            IPV6_EXTENDED_COMMUNITIES => "IPV6_EXTENDED_COMMUNITIES",
            LARGE_COMMUNITIES => "LARGE_COMMUNITIES",
            ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
            _ => "unassigned here",
        }
    }
}

/// AS_PATH segment types (RFC 4271 §4.3, RFC 5065 §3).
pub mod segment {
    /// Unordered; no longer permitted (RFC 9774 §3).
    pub const AS_SET: u8 = 1;
    /// Ordered, nearest AS first.
    pub const AS_SEQUENCE: u8 = 2;
    /// Ordered, within a confederation.
    pub const AS_CONFED_SEQUENCE: u8 = 3;
    /// Unordered, within a confederation; no longer permitted.
    pub const AS_CONFED_SET: u8 = 4;
}

/// NOTIFICATION error codes (RFC 4271 §4.5, RFC 7313 §5).
pub mod error {
    /// Message header error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN message error.
    pub const OPEN_MESSAGE: u8 = 2;
    /// UPDATE message error.
    pub const UPDATE_MESSAGE: u8 = 3;
    /// Hold timer expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite state machine error.
    pub const FINITE_STATE_MACHINE: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH message error.
    pub const ROUTE_REFRESH_MESSAGE: u8 = 7;
    /// Send hold timer expired (RFC 9687 §4).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Subcodes of a message header error (RFC 4271 §6.1).
pub mod header_error {
    /// The marker is not all ones.
    pub const CONNECTION_NOT_SYNCHRONIZED: u8 = 1;
    /// The length does not fit the type.
    pub const BAD_MESSAGE_LENGTH: u8 = 2;
    /// The type is not known.
    pub const BAD_MESSAGE_TYPE: u8 = 3;
}

/// Subcodes of an OPEN message error (RFC 4271 §6.2, RFC 5492 §5, RFC 9234 §4.2).
pub mod open_error {
    /// Malformed, and no other subcode says how.
    pub const UNSPECIFIC: u8 = 0;
    /// Version other than 4.
    pub const UNSUPPORTED_VERSION_NUMBER: u8 = 1;
    /// AS number is not the configured one.
    pub const BAD_PEER_AS: u8 = 2;
    /// Router identifier is zero or our own.
    pub const BAD_BGP_IDENTIFIER: u8 = 3;
    /// Optional parameter not known.
    pub const UNSUPPORTED_OPTIONAL_PARAMETER: u8 = 4;
    /// Hold time of 1 or 2 seconds, or refused by configuration.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// A capability that we insist on is missing.
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// The roles of both ends do not fit.
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of an UPDATE message error (RFC 4271 §6.3).
pub mod update_error {
    /// The attribute list cannot be walked.
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    /// A well-known attribute that we do not know.
    pub const UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE: u8 = 2;
    /// A mandatory attribute is absent.
    pub const MISSING_WELL_KNOWN_ATTRIBUTE: u8 = 3;
    /// Flags do not fit the type.
    pub const ATTRIBUTE_FLAGS_ERROR: u8 = 4;
    /// Length does not fit the type.
    pub const ATTRIBUTE_LENGTH_ERROR: u8 = 5;
    /// ORIGIN beyond 2.
    pub const INVALID_ORIGIN_ATTRIBUTE: u8 = 6;
    /// NEXT_HOP that is no host address.
    pub const INVALID_NEXT_HOP_ATTRIBUTE: u8 = 8;
    /// An optional attribute that we know is wrong.
    pub const OPTIONAL_ATTRIBUTE_ERROR: u8 = 9;
    /// A prefix cannot be read.
    pub const INVALID_NETWORK_FIELD: u8 = 10;
    /// AS_PATH cannot be read.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of a finite state machine error (RFC 6608 §3).
pub mod fsm_error {
    /// Unexpected message in OpenSent.
    pub const OPEN_SENT: u8 = 1;
    /// Unexpected message in OpenConfirm.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in Established.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of a ROUTE-REFRESH message error (RFC 7313 §5).
pub mod route_refresh_error {
    /// The length is not that of the subtype.
    pub const INVALID_MESSAGE_LENGTH: u8 = 1;
}

/// Well-known communities.
pub mod community {
    /// RFC 8326: the route is about to go away.
    pub const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;
    /// RFC 9494: the route is stale.
    pub const LLGR_STALE: u32 = 0xFFFF_0006;
    /// RFC 9494: do not keep the route when it gets stale.
    pub const NO_LLGR: u32 = 0xFFFF_0007;
    /// RFC 7999: discard the traffic.
    pub const BLACKHOLE: u32 = 0xFFFF_029A;
    /// RFC 1997: do not leave the AS (or confederation).
    pub const NO_EXPORT: u32 = 0xFFFF_FF01;
    /// RFC 1997: do not advertise at all.
    pub const NO_ADVERTISE: u32 = 0xFFFF_FF02;
    /// RFC 1997: do not advertise to external peers.
    pub const NO_EXPORT_SUBCONFED: u32 = 0xFFFF_FF03;
}

/// Bidirectional Forwarding Detection: registry "Bidirectional Forwarding Detection (BFD)
/// Parameters", and UDP ports of "Service Name and Transport Protocol Port Number".
pub mod bfd {
    /// The only protocol version in use (RFC 5880 §4.1).
    pub const VERSION: u8 = 1;
    /// UDP port of sessions with a neighbour on the same link (RFC 5881 §4).
    pub const SINGLE_HOP_PORT: u16 = 3784;
    /// UDP port of sessions across routers (RFC 5883 §5).
    pub const MULTIHOP_PORT: u16 = 4784;
    /// Where the source port of a session must lie (RFC 5881 §4).
    pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

    /// Diagnostic codes (RFC 5880 §4.1).
    pub mod diagnostic {
        /// No reason.
        pub const NONE: u8 = 0;
        /// Nothing was heard for the detection time.
        pub const TIME_EXPIRED: u8 = 1;
        /// The echo function failed.
        pub const ECHO_FAILED: u8 = 2;
        /// The neighbour said that it is down.
        pub const NEIGHBOR_DOWN: u8 = 3;
        /// The forwarding plane was reset.
        pub const FORWARDING_RESET: u8 = 4;
        /// The path is down, by another's word.
        pub const PATH_DOWN: u8 = 5;
        /// A part of a concatenated path is down.
        pub const CONCATENATED_PATH_DOWN: u8 = 6;
        /// The operator ended it.
        pub const ADMIN_DOWN: u8 = 7;
        /// A part of the reverse concatenated path is down.
        pub const REVERSE_CONCATENATED_PATH_DOWN: u8 = 8;
    }
}

/// BMP (RFC 7854 §10, RFC 8671 §9, RFC 9069 §8).
pub mod bmp {
    /// Version.
    pub const VERSION: u8 = 3;

    /// Message types.
    pub mod message {
        /// Route Monitoring.
        pub const ROUTE_MONITORING: u8 = 0;
        /// Statistics Report.
        pub const STATISTICS_REPORT: u8 = 1;
        /// Peer Down Notification.
        pub const PEER_DOWN: u8 = 2;
        /// Peer Up Notification.
        pub const PEER_UP: u8 = 3;
        /// Initiation.
        pub const INITIATION: u8 = 4;
        /// Termination.
        pub const TERMINATION: u8 = 5;
    }

    /// Peer types.
    pub mod peer_type {
        /// A peer of the only instance there is.
        pub const GLOBAL: u8 = 0;
        /// The Loc-RIB.
        pub const LOC_RIB: u8 = 3;
    }

    /// Flags of a per-peer header.
    pub mod peer_flag {
        /// V: the address is an IPv6 one.
        pub const IPV6: u8 = 0x80;
        /// L: after policy.
        pub const POST_POLICY: u8 = 0x40;
        /// A: AS paths have two octets for each AS.
        pub const TWO_OCTET_AS: u8 = 0x20;
        /// O: Adj-RIB-Out.
        pub const ADJ_RIB_OUT: u8 = 0x10;
    }

    /// Types of information in Initiation and Peer Up.
    pub mod information {
        /// sysDescr.
        pub const SYS_DESCR: u16 = 1;
        /// sysName.
        pub const SYS_NAME: u16 = 2;
        /// VRF or table name.
        pub const TABLE_NAME: u16 = 3;
    }

    /// Types of information in Termination, and the reason.
    pub mod termination {
        /// Text.
        pub const STRING: u16 = 0;
        /// Reason.
        pub const REASON: u16 = 1;
        /// Closed by the operator.
        pub const ADMINISTRATIVELY_CLOSED: u16 = 0;
    }

    /// Reasons of a Peer Down.
    pub mod peer_down {
        /// We closed, with a NOTIFICATION.
        pub const LOCAL_NOTIFICATION: u8 = 1;
        /// We closed, without.
        pub const LOCAL: u8 = 2;
        /// The peer closed, with a NOTIFICATION.
        pub const REMOTE_NOTIFICATION: u8 = 3;
        /// The peer closed, without, or the connection was lost.
        pub const REMOTE: u8 = 4;
        /// No longer monitored.
        pub const DE_CONFIGURED: u8 = 5;
    }

    /// Statistics.
    pub mod statistic {
        /// Routes in Adj-RIBs-In.
        pub const ADJ_RIB_IN: u16 = 7;
        /// Routes in the Loc-RIB.
        pub const LOC_RIB: u16 = 8;
        /// Routes in a family's Adj-RIB-In.
        pub const FAMILY_ADJ_RIB_IN: u16 = 9;
        /// Routes in a family's Loc-RIB.
        pub const FAMILY_LOC_RIB: u16 = 10;
        /// Routes in post-policy Adj-RIB-Out.
        pub const ADJ_RIB_OUT: u16 = 15;
        /// Routes in a family's post-policy Adj-RIB-Out.
        pub const FAMILY_ADJ_RIB_OUT: u16 = 17;
    }
}

/// MRT (RFC 6396 §4, RFC 8050 §4).
pub mod mrt {
    /// Type of table dumps.
    pub const TABLE_DUMP_V2: u16 = 13;

    /// Subtypes of table dumps.
    pub mod subtype {
        /// The peers.
        pub const PEER_INDEX_TABLE: u16 = 1;
        /// An IPv4 prefix.
        pub const RIB_IPV4_UNICAST: u16 = 2;
        /// An IPv6 prefix.
        pub const RIB_IPV6_UNICAST: u16 = 4;
        /// An IPv4 prefix whose paths have identifiers.
        pub const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
        /// An IPv6 prefix whose paths have identifiers.
        pub const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
    }

    /// Bits of the type of a peer.
    pub mod peer_type {
        /// Its address is an IPv6 one.
        pub const IPV6: u8 = 1;
        /// Its AS number has four octets.
        pub const FOUR_OCTET_AS: u8 = 2;
    }
}

/// The RPKI to Router protocol (RFC 8210 §14).
pub mod rpki_rtr {
    /// PDU types.
    pub mod pdu {
        /// The cache has something new.
        pub const SERIAL_NOTIFY: u8 = 0;
        /// Asks for what changed.
        pub const SERIAL_QUERY: u8 = 1;
        /// Asks for everything.
        pub const RESET_QUERY: u8 = 2;
        /// Begins an answer.
        pub const CACHE_RESPONSE: u8 = 3;
        /// An origin of an IPv4 prefix.
        pub const IPV4_PREFIX: u8 = 4;
        /// An origin of an IPv6 prefix.
        pub const IPV6_PREFIX: u8 = 6;
        /// Ends an answer.
        pub const END_OF_DATA: u8 = 7;
        /// What changed is not known: everything has to be asked for.
        pub const CACHE_RESET: u8 = 8;
        /// A key of BGPsec.
        pub const ROUTER_KEY: u8 = 9;
        /// Something was wrong.
        pub const ERROR_REPORT: u8 = 10;
    }

    /// Error codes.
    pub mod error {
        /// Corrupt Data.
        pub const CORRUPT_DATA: u16 = 0;
        /// Internal Error.
        pub const INTERNAL_ERROR: u16 = 1;
        /// No Data Available.
        pub const NO_DATA_AVAILABLE: u16 = 2;
        /// Unsupported Protocol Version.
        pub const UNSUPPORTED_VERSION: u16 = 4;
        /// Unsupported PDU Type.
        pub const UNSUPPORTED_PDU: u16 = 5;
        /// Withdrawal of Unknown Record.
        pub const UNKNOWN_WITHDRAWAL: u16 = 6;
        /// Duplicate Announcement Received.
        pub const DUPLICATE_ANNOUNCEMENT: u16 = 7;
        /// Unexpected Protocol Version.
        pub const UNEXPECTED_VERSION: u16 = 8;
    }
}
