//! `Display`: a table and a transaction as an operator would type them into `nft -f`.

use std::{
    fmt::{self, Display, Formatter, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{
    key::{FieldType, Key, KeyType},
    statement::{
        AddressType, CtState, CtStatus, Family, Field, PortChoice, Sense, Statement, Test,
    },
    table::{
        Base, ChainType, Element, Hook, Matching, Policy, Rule, SetKind, SetType, Table, Verdict,
    },
    transaction::{Op, Transaction},
};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.name)?;
        for (name, set) in &self.sets {
            writeln!(f, "\t{} {name} {{ {}", noun(set.of), Definition(set.of))?;
            let elements = set.elements.iter().map(|(key, verdict)| (key, verdict.as_ref()));
            if !set.elements.is_empty() {
                writeln!(f, "\t\telements = {{ {} }}", Elements(set.of, elements))?;
            }
            writeln!(f, "\t}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(base) = &chain.base {
                writeln!(f, "\t\t{base}")?;
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Transaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for op in &self.ops {
            op.write(&self.table, f)?;
        }
        Ok(())
    }
}

impl Op {
    /// The change as one line of `nft -f`, without the newline, long lists of elements cut.
    pub fn summary(&self, table: &str) -> String {
        let mut line = Cut { text: String::new(), left: 160 };
        // Fails when there is enough text.
        let whole = write!(line, "{}", OpIn(self, table)).is_ok();
        line.text.truncate(line.text.trim_end().len());
        if !whole {
            line.text.push('…');
        }
        line.text
    }

    fn write(&self, table: &str, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable => writeln!(f, "add table inet {table}"),
            Self::DeleteTable => writeln!(f, "delete table inet {table}"),
            Self::AddChain(name, Some(base)) => {
                writeln!(f, "add chain inet {table} {name} {{ {base} }}")
            }
            Self::AddChain(name, None) => writeln!(f, "add chain inet {table} {name}"),
            Self::FlushChain(name) => writeln!(f, "flush chain inet {table} {name}"),
            Self::DeleteChain(name) => writeln!(f, "delete chain inet {table} {name}"),
            Self::AddSet(name, of) => {
                writeln!(f, "add {} inet {table} {name} {{ {} }}", noun(*of), Definition(*of))
            }
            Self::FlushSet(name, of) => writeln!(f, "flush {} inet {table} {name}", noun(*of)),
            Self::DeleteSet(name, of) => writeln!(f, "delete {} inet {table} {name}", noun(*of)),
            Self::AddRule(chain, rule) => writeln!(f, "add rule inet {table} {chain} {rule}"),
            Self::AddElements(set, of, elements) => {
                let elements =
                    elements.iter().map(|Element { key, verdict }| (key, verdict.as_ref()));
                let elements = Elements(*of, elements);
                writeln!(f, "add element inet {table} {set} {{ {elements} }}")
            }
            Self::DeleteElements(set, of, keys) => {
                let elements = Elements(*of, keys.iter().map(|key| (key, None)));
                writeln!(f, "delete element inet {table} {set} {{ {elements} }}")
            }
        }
    }
}

/// Takes so many bytes and no more: an operation may be 100,000 elements.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(self.left);
        self.text.push_str(&text[..end]);
        self.left -= end;
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

struct OpIn<'a>(&'a Op, &'a str);

impl Display for OpIn<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.write(self.1, f)
    }
}

fn noun(of: SetType) -> &'static str {
    match of.kind {
        SetKind::Members | SetKind::Foreign => "set",
        SetKind::Verdicts => "map",
    }
}

struct Definition(SetType);

impl Display for Definition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", self.0.key)?;
        match self.0.kind {
            SetKind::Verdicts => f.write_str(" : verdict;")?,
            SetKind::Members | SetKind::Foreign => f.write_str(";")?,
        }
        match self.0.matching {
            Matching::Exact => Ok(()),
            Matching::Ranges => f.write_str(" flags interval;"),
        }
    }
}

struct Elements<I>(SetType, I);

impl<'a, I: Iterator<Item = (&'a Key, Option<&'a Verdict>)> + Clone> Display for Elements<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, (key, verdict)) in self.1.clone().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            key.write(self.0, f)?;
            if let Some(verdict) = verdict {
                write!(f, " : {verdict}")?;
            }
        }
        Ok(())
    }
}

impl Display for KeyType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, field) in self.fields().enumerate() {
            let dot = if index > 0 { " . " } else { "" };
            write!(f, "{dot}{}", field.name())?;
        }
        Ok(())
    }
}

impl Key {
    /// The key as nft prints it in a set of type `of`.
    pub fn text(&self, of: SetType) -> String {
        struct In<'a>(&'a Key, SetType);
        impl Display for In<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                self.0.write(self.1, f)
            }
        }
        In(self, of).to_string()
    }

    fn write(&self, of: SetType, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = self.as_bytes();
        if bytes.len() != of.key_len() {
            return write!(f, "{self:?}");
        }
        let (first, last) = match of.matching {
            Matching::Exact => (bytes, bytes),
            Matching::Ranges => bytes.split_at(bytes.len() / 2),
        };
        let mut at = 0;
        for (field, width) in of.key.widths() {
            if at > 0 {
                f.write_str(" . ")?;
            }
            let value = at..at + field.width();
            write_field(field, &first[value.clone()], &last[value], f)?;
            at += width;
        }
        Ok(())
    }
}

fn write_field(field: FieldType, first: &[u8], last: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    match field {
        FieldType::Ipv4Addr | FieldType::Ipv6Addr => write_addresses(first, last, f),
        FieldType::InetProto if first == last => Protocol(first[0]).fmt(f),
        FieldType::Ifname => write_ifname(first, f),
        FieldType::InetProto | FieldType::InetService => {
            write!(f, "{}", number(first))?;
            if first == last { Ok(()) } else { write!(f, "-{}", number(last)) }
        }
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(number(bytes)).into(),
    }
}

fn write_addresses(first: &[u8], last: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{}", address(first))?;
    if first == last {
        return Ok(());
    }
    let host_bits = number(first) ^ number(last);
    let is_block = host_bits & host_bits.wrapping_add(1) == 0 && number(first) & host_bits == 0;
    if is_block {
        // At most 128 bits.
        write!(f, "/{}", first.len() * 8 - host_bits.count_ones() as usize)
    } else {
        write!(f, "-{}", address(last))
    }
}

fn write_ifname(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    write!(f, "\"{}\"", String::from_utf8_lossy(&bytes[..end]))
}

struct Protocol(u8);

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("icmp"),
            6 => f.write_str("tcp"),
            17 => f.write_str("udp"),
            58 => f.write_str("ipv6-icmp"),
            132 => f.write_str("sctp"),
            other => write!(f, "{other}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        let (hook, priority) = (self.hook, self.priority);
        write!(f, "type {kind} hook {hook} priority {priority}; policy {policy};")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Ingress => "ingress",
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, statement) in self.statements.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{statement}")?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(sense, test) => {
                write!(f, "{} {}", test.selector(), sense.prefix())?;
                test.write_value(f)
            }
            Self::Lookup { key, sense, set } => {
                write!(f, "{} {}@{set}", Fields(key), sense.prefix())
            }
            Self::Vmap { key, map } => write!(f, "{} vmap @{map}", Fields(key)),
            Self::Counter => f.write_str("counter"),
            Self::Log { prefix } => write!(f, "log prefix \"{prefix}\""),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Masquerade(PortChoice::Keep) => f.write_str("masquerade"),
            Self::Masquerade(PortChoice::FullyRandom) => f.write_str("masquerade fully-random"),
            Self::Notrack => f.write_str("notrack"),
            Self::Foreign(what) => write!(f, "<{what}>"),
        }
    }
}

impl Sense {
    fn prefix(self) -> &'static str {
        match self {
            Self::Is => "",
            Self::IsNot => "!= ",
        }
    }
}

impl Test {
    fn selector(&self) -> &'static str {
        match self {
            Self::Iifname(_) => "iifname",
            Self::Oifname(_) => "oifname",
            Self::Nfproto(_) => "meta nfproto",
            Self::L4proto(_) => "meta l4proto",
            Self::Saddr(IpNet::V4(_)) => "ip saddr",
            Self::Saddr(IpNet::V6(_)) => "ip6 saddr",
            Self::Daddr(IpNet::V4(_)) => "ip daddr",
            Self::Daddr(IpNet::V6(_)) => "ip6 daddr",
            Self::Sport(_) => "th sport",
            Self::Dport(_) => "th dport",
            Self::IcmpType(_) => "icmp type",
            Self::Icmpv6Type(_) => "icmpv6 type",
            Self::CtState(_) => "ct state",
            Self::CtStatus(_) => "ct status",
            Self::FibDaddrType(_) => "fib daddr type",
            Self::ReversePath => "fib saddr . iif oif",
        }
    }

    fn write_value(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iifname(name) | Self::Oifname(name) => write!(f, "\"{name}\""),
            Self::Nfproto(Family::Ipv4) => f.write_str("ipv4"),
            Self::Nfproto(Family::Ipv6) => f.write_str("ipv6"),
            Self::L4proto(number) => Protocol(*number).fmt(f),
            Self::Saddr(net) | Self::Daddr(net) if net.prefix_len() == net.max_prefix_len() => {
                net.addr().fmt(f)
            }
            Self::Saddr(net) | Self::Daddr(net) => net.trunc().fmt(f),
            Self::Sport(port) | Self::Dport(port) => port.fmt(f),
            Self::IcmpType(number) | Self::Icmpv6Type(number) => number.fmt(f),
            Self::CtState(CtState(bits)) => write_bits(*bits, &CtState::NAMES, f),
            Self::CtStatus(CtStatus(bits)) => write_bits(*bits, &CtStatus::NAMES, f),
            Self::ReversePath => f.write_str("exists"),
            Self::FibDaddrType(kind) => f.write_str(match kind {
                AddressType::Unicast => "unicast",
                AddressType::Local => "local",
                AddressType::Broadcast => "broadcast",
                AddressType::Multicast => "multicast",
            }),
        }
    }
}

fn write_bits(bits: u32, names: &[(u32, &str)], f: &mut Formatter<'_>) -> fmt::Result {
    let known: u32 = names.iter().map(|(bit, _)| bit).sum();
    if bits == 0 || bits & !known != 0 {
        return write!(f, "{bits:#x}");
    }
    let said: Vec<&str> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    f.write_str(&said.join(","))
}

struct Fields<'a>(&'a [Field]);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let dot = if index > 0 { " . " } else { "" };
            write!(f, "{dot}{field}")?;
        }
        Ok(())
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iifname => "iifname",
            Self::Oifname => "oifname",
            Self::L4proto => "meta l4proto",
            Self::IpSaddr => "ip saddr",
            Self::IpDaddr => "ip daddr",
            Self::Ip6Saddr => "ip6 saddr",
            Self::Ip6Daddr => "ip6 daddr",
            Self::ThSport => "th sport",
            Self::ThDport => "th dport",
        })
    }
}
