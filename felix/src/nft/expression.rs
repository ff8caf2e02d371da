//! The statements of a rule as the kernel's expressions: loads into registers, comparisons, lookups.
//!
//! The form is that of nft 1.0.6, so that every `nft list ruleset` reads it; what nft puts before a
//! statement without being told (`meta nfproto ipv4` before `ip saddr`) is put here too.

use ipnet::IpNet;

use super::{
    encode::{put_value, put_verdict},
    statement::{AddressType, Family, Field, PortChoice, Sense, Statement, Test},
    table::Name,
    uapi::*,
    wire::Writer,
};

/// The flags of [`Test::ReversePath`].
pub(super) const REVERSE_PATH: u32 = NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;

/// The first register, 16 bytes wide.
const REG_1: u32 = 1;

pub(super) fn put_statements(w: &mut Writer, statements: &[Statement]) {
    // The family and the protocol that the rule established last.
    let mut known: [Option<Statement>; 2] = [None, None];
    let mut learn = |test: &Statement| {
        let place = &mut known[usize::from(matches!(test, Statement::Match(_, Test::L4proto(_))))];
        place.replace(test.clone()).as_ref() != Some(test)
    };
    for statement in statements {
        for test in statement.implies() {
            if learn(&test) {
                put_statement(w, &test);
            }
        }
        put_statement(w, statement);
        if statement.is_protocol_test() {
            learn(statement);
        }
    }
}

fn put_statement(w: &mut Writer, statement: &Statement) {
    match statement {
        Statement::Match(sense, test) => put_test(w, *sense, test),
        Statement::Lookup { key, sense, set } => {
            put_key(w, key);
            put(w, "lookup", |w| {
                w.string(NFTA_LOOKUP_SET, set);
                w.be32(NFTA_LOOKUP_SREG, REG_1);
                if *sense == Sense::IsNot {
                    w.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
                }
            });
        }
        Statement::Vmap { key, map } => {
            put_key(w, key);
            put(w, "lookup", |w| {
                w.string(NFTA_LOOKUP_SET, map);
                w.be32(NFTA_LOOKUP_SREG, REG_1);
                w.be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
            });
        }
        Statement::Counter => put(w, "counter", |w| {
            w.attribute(NFTA_COUNTER_BYTES, &[0; 8]);
            w.attribute(NFTA_COUNTER_PACKETS, &[0; 8]);
        }),
        Statement::Log { prefix } => put(w, "log", |w| w.string(NFTA_LOG_PREFIX, prefix)),
        Statement::Verdict(verdict) => put(w, "immediate", |w| {
            w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            w.nest(NFTA_IMMEDIATE_DATA, |w| put_verdict(w, verdict));
        }),
        Statement::Masquerade(PortChoice::Keep) => put(w, "masq", |_| {}),
        Statement::Masquerade(PortChoice::FullyRandom) => put(w, "masq", |w| {
            w.be32(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
        }),
        Statement::Notrack => put(w, "notrack", |_| {}),
        // Never desired; the kernel knows no such expression and says so.
        Statement::Foreign(_) => put(w, "foreign", |_| {}),
    }
}

fn put(w: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    w.nest(NFTA_LIST_ELEM, |w| {
        w.string(NFTA_EXPR_NAME, name);
        w.nest(NFTA_EXPR_DATA, body);
    });
}

/// Loads the fields side by side, each from a 32-bit boundary on.
fn put_key(w: &mut Writer, key: &[Field]) {
    let mut slot = 0;
    for field in key {
        put_field(w, *field, register(slot));
        slot += u32::try_from(field.field_type().padded() / 4).expect("16 bytes at most");
    }
}

/// The register that starts at this 32-bit slot: the wide ones have the low numbers.
fn register(slot: u32) -> u32 {
    const NFT_REG32_00: u32 = 8;
    if slot.is_multiple_of(4) { REG_1 + slot / 4 } else { NFT_REG32_00 + slot }
}

fn put_field(w: &mut Writer, field: Field, register: u32) {
    use {NFT_PAYLOAD_NETWORK_HEADER as NETWORK, NFT_PAYLOAD_TRANSPORT_HEADER as TRANSPORT};
    match field {
        Field::Iifname => put_meta(w, NFT_META_IIFNAME, register),
        Field::Oifname => put_meta(w, NFT_META_OIFNAME, register),
        Field::L4proto => put_meta(w, NFT_META_L4PROTO, register),
        Field::IpSaddr => put_payload(w, (NETWORK, 12, 4), register),
        Field::IpDaddr => put_payload(w, (NETWORK, 16, 4), register),
        Field::Ip6Saddr => put_payload(w, (NETWORK, 8, 16), register),
        Field::Ip6Daddr => put_payload(w, (NETWORK, 24, 16), register),
        Field::ThSport => put_payload(w, (TRANSPORT, 0, 2), register),
        Field::ThDport => put_payload(w, (TRANSPORT, 2, 2), register),
    }
}

fn put_meta(w: &mut Writer, key: u32, register: u32) {
    put(w, "meta", |w| {
        w.be32(NFTA_META_KEY, key);
        w.be32(NFTA_META_DREG, register);
    });
}

fn put_payload(w: &mut Writer, (base, offset, len): (u32, u32, u32), register: u32) {
    put(w, "payload", |w| {
        w.be32(NFTA_PAYLOAD_DREG, register);
        w.be32(NFTA_PAYLOAD_BASE, base);
        w.be32(NFTA_PAYLOAD_OFFSET, offset);
        w.be32(NFTA_PAYLOAD_LEN, len);
    });
}

fn put_test(w: &mut Writer, sense: Sense, test: &Test) {
    match test {
        Test::Iifname(name) => put_name_test(w, NFT_META_IIFNAME, sense, name),
        Test::Oifname(name) => put_name_test(w, NFT_META_OIFNAME, sense, name),
        Test::Nfproto(family) => {
            put_meta(w, NFT_META_NFPROTO, REG_1);
            put_compare(w, sense, &[family_number(*family)]);
        }
        Test::L4proto(number) => {
            put_meta(w, NFT_META_L4PROTO, REG_1);
            put_compare(w, sense, &[*number]);
        }
        Test::Saddr(net) => put_address_test(w, sense, net, (12, 8)),
        Test::Daddr(net) => put_address_test(w, sense, net, (16, 24)),
        Test::Sport(port) => {
            put_field(w, Field::ThSport, REG_1);
            put_compare(w, sense, &port.to_be_bytes());
        }
        Test::Dport(port) => {
            put_field(w, Field::ThDport, REG_1);
            put_compare(w, sense, &port.to_be_bytes());
        }
        Test::IcmpType(number) | Test::Icmpv6Type(number) => {
            put_payload(w, (NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1), REG_1);
            put_compare(w, sense, &[*number]);
        }
        Test::CtState(bits) => put_bits_test(w, NFT_CT_STATE, sense, bits.0),
        Test::CtStatus(bits) => put_bits_test(w, NFT_CT_STATUS, sense, bits.0),
        Test::FibDaddrType(kind) => {
            put(w, "fib", |w| {
                w.be32(NFTA_FIB_DREG, REG_1);
                w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                w.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            });
            put_compare(w, sense, &address_type_number(*kind).to_ne_bytes());
        }
        Test::ReversePath => {
            put(w, "fib", |w| {
                w.be32(NFTA_FIB_DREG, REG_1);
                w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_OIF);
                w.be32(NFTA_FIB_FLAGS, REVERSE_PATH);
            });
            put_compare(w, sense, &1_u32.to_ne_bytes());
        }
    }
}

fn put_compare(w: &mut Writer, sense: Sense, value: &[u8]) {
    let op = match sense {
        Sense::Is => NFT_CMP_EQ,
        Sense::IsNot => NFT_CMP_NEQ,
    };
    put(w, "cmp", |w| {
        w.be32(NFTA_CMP_SREG, REG_1);
        w.be32(NFTA_CMP_OP, op);
        put_value(w, NFTA_CMP_DATA, value);
    });
}

fn put_mask(w: &mut Writer, mask: &[u8]) {
    put(w, "bitwise", |w| {
        w.be32(NFTA_BITWISE_SREG, REG_1);
        w.be32(NFTA_BITWISE_DREG, REG_1);
        w.be32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).expect("16 bytes at most"));
        put_value(w, NFTA_BITWISE_MASK, mask);
        put_value(w, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
    });
}

/// A whole name is compared with its zeros, a prefix without.
fn put_name_test(w: &mut Writer, key: u32, sense: Sense, name: &Name) {
    put_meta(w, key, REG_1);
    match name.strip_suffix('*') {
        Some(prefix) => put_compare(w, sense, &prefix.as_bytes()[..prefix.len().min(15)]),
        None => {
            let mut padded = [0; 16];
            let len = name.len().min(15);
            padded[..len].copy_from_slice(&name.as_bytes()[..len]);
            put_compare(w, sense, &padded);
        }
    }
}

/// A prefix of whole bytes is compared as these bytes, any other behind a mask.
fn put_address_test(w: &mut Writer, sense: Sense, net: &IpNet, (v4_at, v6_at): (u32, u32)) {
    let (network, mask, offset): (Vec<u8>, Vec<u8>, u32) = match net {
        IpNet::V4(net) => (net.network().octets().into(), net.netmask().octets().into(), v4_at),
        IpNet::V6(net) => (net.network().octets().into(), net.netmask().octets().into(), v6_at),
    };
    let bits = net.prefix_len();
    let whole = bits.is_multiple_of(8) && bits > 0;
    let len = if whole { usize::from(bits / 8) } else { network.len() };
    let load = (NFT_PAYLOAD_NETWORK_HEADER, offset, u32::try_from(len).expect("16 bytes at most"));
    put_payload(w, load, REG_1);
    if !whole {
        put_mask(w, &mask);
    }
    put_compare(w, sense, &network[..len]);
}

/// Any of the bits; the opposite compares the whole word, as nft does.
fn put_bits_test(w: &mut Writer, key: u32, sense: Sense, bits: u32) {
    put(w, "ct", |w| {
        w.be32(NFTA_CT_KEY, key);
        w.be32(NFTA_CT_DREG, REG_1);
    });
    match sense {
        Sense::Is => {
            put_mask(w, &bits.to_ne_bytes());
            put_compare(w, Sense::IsNot, &[0; 4]);
        }
        Sense::IsNot => put_compare(w, Sense::IsNot, &bits.to_ne_bytes()),
    }
}

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => NFPROTO_IPV4,
        Family::Ipv6 => NFPROTO_IPV6,
    }
}

/// `RTN_*`.
pub(super) fn address_type_number(kind: AddressType) -> u32 {
    match kind {
        AddressType::Unicast => 1,
        AddressType::Local => 2,
        AddressType::Broadcast => 3,
        AddressType::Multicast => 5,
    }
}
