//! What a rule is made of: a small closed set of nft expressions, and constructors that read like nft.
//!
//! ```
//! use ocicat_felix::nft::{Field, Rule, statement::*};
//!
//! let rule = Rule::new([iifname("oci*"), jump("from-pod")]);
//! assert_eq!(rule.to_string(), r#"iifname "oci*" jump from-pod"#);
//! let rule = Rule::new([not_in([Field::Iifname, Field::IpSaddr], "sources"), counter(), drop()]);
//! assert_eq!(rule.to_string(), "iifname . ip saddr != @sources counter drop");
//! ```

use ipnet::IpNet;

use super::{
    key::FieldType,
    table::{Name, Verdict},
};

/// One statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Goes on when the packet has (or has not) this property.
    Match(Sense, Test),
    /// Goes on when the key is (or is not) in the set.
    Lookup {
        /// The fields that make the key.
        key: Vec<Field>,
        /// In or not in.
        sense: Sense,
        /// The set.
        set: Name,
    },
    /// Takes the verdict that the map has for the key; goes on when it has none.
    Vmap {
        /// The fields that make the key.
        key: Vec<Field>,
        /// The verdict map.
        map: Name,
    },
    /// Counts packets and bytes.
    Counter,
    /// Writes the packet to the kernel log behind this prefix.
    Log {
        /// At most 127 bytes.
        prefix: Name,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Rewrites the source to the address of the outgoing interface.
    Masquerade(PortChoice),
    /// No connection tracking for this packet.
    Notrack,
    /// An expression that we do not make: somebody else's rule in our table. Text for people.
    Foreign(Name),
}

impl Statement {
    /// The tests without which this statement means nothing, in the order in which nft puts them before it.
    pub(super) fn implies(&self) -> Vec<Self> {
        let family = |family| is(Test::Nfproto(family));
        let family_of = |net: &IpNet| match net {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        };
        match self {
            Self::Match(_, Test::Saddr(net) | Test::Daddr(net)) => vec![family(family_of(net))],
            Self::Match(_, Test::IcmpType(_)) => vec![family(Family::Ipv4), l4proto(1)],
            Self::Match(_, Test::Icmpv6Type(_)) => vec![family(Family::Ipv6), l4proto(58)],
            Self::Lookup { key, .. } | Self::Vmap { key, .. } => {
                key.iter().find_map(|field| field.family()).map(family).into_iter().collect()
            }
            Self::Match(..)
            | Self::Counter
            | Self::Log { .. }
            | Self::Verdict(_)
            | Self::Masquerade(_)
            | Self::Notrack
            | Self::Foreign(_) => Vec::new(),
        }
    }

    pub(super) fn is_protocol_test(&self) -> bool {
        matches!(self, Self::Match(Sense::Is, Test::Nfproto(_) | Test::L4proto(_)))
    }
}

/// Whether a test must hold or must not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// `==`, in.
    Is,
    /// `!=`, not in.
    IsNot,
}

/// A property of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// `iifname "eth0"`, or `"oci*"` for a prefix.
    Iifname(Name),
    /// `oifname …`.
    Oifname(Name),
    /// `meta nfproto ipv4`.
    Nfproto(Family),
    /// `meta l4proto tcp`.
    L4proto(u8),
    /// `ip saddr …` or `ip6 saddr …`.
    Saddr(IpNet),
    /// `ip daddr …` or `ip6 daddr …`.
    Daddr(IpNet),
    /// `th sport 53`.
    Sport(u16),
    /// `th dport 53`.
    Dport(u16),
    /// `icmp type 8`.
    IcmpType(u8),
    /// `icmpv6 type 135`.
    Icmpv6Type(u8),
    /// `ct state established,related`: any of these, when the sense is [`Sense::Is`]; with
    /// [`Sense::IsNot`] nft compares the whole word, so give one state only.
    CtState(CtState),
    /// `ct status dnat`; the same remark.
    CtStatus(CtStatus),
    /// `fib daddr type local`.
    FibDaddrType(AddressType),
    /// `fib saddr . iif oif exists`: the way back to the source leads over the incoming interface (RFC 3704 §2.2).
    ReversePath,
}

/// A field of the packet that can be part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Name of the incoming interface.
    Iifname,
    /// Name of the outgoing interface.
    Oifname,
    /// Transport protocol.
    L4proto,
    /// IPv4 source.
    IpSaddr,
    /// IPv4 destination.
    IpDaddr,
    /// IPv6 source.
    Ip6Saddr,
    /// IPv6 destination.
    Ip6Daddr,
    /// Source port of any transport protocol that has ports in the usual place.
    ThSport,
    /// Destination port.
    ThDport,
}

impl Field {
    /// The type of the field's values.
    pub fn field_type(self) -> FieldType {
        match self {
            Self::Iifname | Self::Oifname => FieldType::Ifname,
            Self::L4proto => FieldType::InetProto,
            Self::IpSaddr | Self::IpDaddr => FieldType::Ipv4Addr,
            Self::Ip6Saddr | Self::Ip6Daddr => FieldType::Ipv6Addr,
            Self::ThSport | Self::ThDport => FieldType::InetService,
        }
    }

    /// The family that a packet must be of to have this field; nft tests it without being told.
    pub fn family(self) -> Option<Family> {
        match self {
            Self::IpSaddr | Self::IpDaddr => Some(Family::Ipv4),
            Self::Ip6Saddr | Self::Ip6Daddr => Some(Family::Ipv6),
            Self::Iifname | Self::Oifname | Self::L4proto | Self::ThSport | Self::ThDport => None,
        }
    }
}

/// An address family; the numbers are `NFPROTO_IPV4` and `NFPROTO_IPV6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 2.
    Ipv4,
    /// 10.
    Ipv6,
}

/// States of connection tracking; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtState(pub u32);

impl CtState {
    /// The packet fits no connection.
    pub const INVALID: Self = Self(1);
    /// A reply has been seen.
    pub const ESTABLISHED: Self = Self(2);
    /// A new connection that belongs to one that exists, or an ICMP error for it.
    pub const RELATED: Self = Self(4);
    /// The first packet.
    pub const NEW: Self = Self(8);
    /// `notrack` was said.
    pub const UNTRACKED: Self = Self(64);
    pub(super) const NAMES: [(u32, &str); 5] =
        [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];

    /// Any of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Status of a connection; a set of bits (`enum ip_conntrack_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtStatus(pub u32);

impl CtStatus {
    /// Its source was rewritten.
    pub const SNAT: Self = Self(1 << 4);
    /// Its destination was rewritten.
    pub const DNAT: Self = Self(1 << 5);
    pub(super) const NAMES: [(u32, &str); 5] =
        [(1, "expected"), (2, "seen-reply"), (4, "assured"), (16, "snat"), (32, "dnat")];
}

/// What the routing tables say of an address (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// Reached through a gateway or on a link.
    Unicast,
    /// One of this machine.
    Local,
    /// A broadcast address.
    Broadcast,
    /// A multicast address.
    Multicast,
}

/// How a translated source port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// Keeps the port if it is free.
    Keep,
    /// `fully-random`.
    FullyRandom,
}

/// `iifname NAME`; a trailing `*` matches a prefix.
pub fn iifname(name: &str) -> Statement {
    is(Test::Iifname(name.into()))
}

/// `oifname NAME`; a trailing `*` matches a prefix.
pub fn oifname(name: &str) -> Statement {
    is(Test::Oifname(name.into()))
}

/// The packet has the property.
pub fn is(test: Test) -> Statement {
    Statement::Match(Sense::Is, test)
}

/// The packet has not the property.
pub fn is_not(test: Test) -> Statement {
    Statement::Match(Sense::IsNot, test)
}

/// `ct state …`: any of these.
pub fn ct_state(any: CtState) -> Statement {
    is(Test::CtState(any))
}

/// `meta l4proto N`.
pub fn l4proto(number: u8) -> Statement {
    is(Test::L4proto(number))
}

/// `th dport N`.
pub fn dport(port: u16) -> Statement {
    is(Test::Dport(port))
}

/// `icmpv6 type N`.
pub fn icmpv6_type(number: u8) -> Statement {
    is(Test::Icmpv6Type(number))
}

/// `FIELD . FIELD @set`.
pub fn in_set(key: impl IntoIterator<Item = Field>, set: impl Into<Name>) -> Statement {
    Statement::Lookup { key: key.into_iter().collect(), sense: Sense::Is, set: set.into() }
}

/// `FIELD . FIELD != @set`.
pub fn not_in(key: impl IntoIterator<Item = Field>, set: impl Into<Name>) -> Statement {
    Statement::Lookup { key: key.into_iter().collect(), sense: Sense::IsNot, set: set.into() }
}

/// `FIELD . FIELD vmap @map`.
pub fn vmap(key: impl IntoIterator<Item = Field>, map: impl Into<Name>) -> Statement {
    Statement::Vmap { key: key.into_iter().collect(), map: map.into() }
}

/// `counter`.
pub fn counter() -> Statement {
    Statement::Counter
}

/// `accept`.
pub fn accept() -> Statement {
    Statement::Verdict(Verdict::Accept)
}

/// `drop`.
pub fn drop() -> Statement {
    Statement::Verdict(Verdict::Drop)
}

/// `return`.
pub fn return_() -> Statement {
    Statement::Verdict(Verdict::Return)
}

/// `jump CHAIN`.
pub fn jump(chain: impl Into<Name>) -> Statement {
    Statement::Verdict(Verdict::jump(chain))
}

/// `goto CHAIN`.
pub fn goto(chain: impl Into<Name>) -> Statement {
    Statement::Verdict(Verdict::goto(chain))
}

/// `masquerade fully-random`.
pub fn masquerade() -> Statement {
    Statement::Masquerade(PortChoice::FullyRandom)
}

/// `notrack`.
pub fn notrack() -> Statement {
    Statement::Notrack
}
