//! The kernel's expressions back to statements: a small machine that follows what is in the registers.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    decode::{value, verdict},
    expression::{REVERSE_PATH, address_type_number, family_number},
    statement::{
        AddressType, CtState, CtStatus, Family, Field, PortChoice, Sense, Statement, Test, is,
    },
    table::Name,
    uapi::*,
    wire::{attributes, be32, find, ne32, string},
};

/// The statements of a list of expressions. What is not one of ours becomes [`Statement::Foreign`].
pub(super) fn statements(expressions: &[u8]) -> Vec<Statement> {
    let mut machine = Machine::default();
    for (_, expression) in attributes(expressions) {
        let name = find(expression, NFTA_EXPR_NAME).and_then(string).unwrap_or("?");
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        if machine.execute(name, data).is_none() {
            machine.done.push(Statement::Foreign(name.into()));
        }
    }
    if !machine.loads.is_empty() {
        machine.done.push(Statement::Foreign("a load without use".into()));
    }
    machine.done
}

#[derive(Default)]
struct Machine {
    done: Vec<Statement>,
    /// What the registers hold that no statement has used yet, by 32-bit slot.
    loads: Vec<(u32, Load)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Load {
    Meta(u32),
    Payload { base: u32, offset: u32, len: u32 },
    Ct(u32),
    FibDaddrType,
    ReversePath,
    Masked(Box<Load>, Vec<u8>),
}

impl Machine {
    /// `None` when this is not one of our expressions, or not in our use of it.
    fn execute(&mut self, name: &str, data: &[u8]) -> Option<()> {
        let statement = match name {
            "meta" => {
                return self.load(data, NFTA_META_DREG, Load::Meta(number(data, NFTA_META_KEY)?));
            }
            "payload" => {
                let base = number(data, NFTA_PAYLOAD_BASE)?;
                let offset = number(data, NFTA_PAYLOAD_OFFSET)?;
                let len = number(data, NFTA_PAYLOAD_LEN)?;
                return self.load(data, NFTA_PAYLOAD_DREG, Load::Payload { base, offset, len });
            }
            "ct" => return self.load(data, NFTA_CT_DREG, Load::Ct(number(data, NFTA_CT_KEY)?)),
            "fib" => {
                let flags = number(data, NFTA_FIB_FLAGS)?;
                let load = match (number(data, NFTA_FIB_RESULT)?, flags) {
                    (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR) => Load::FibDaddrType,
                    (NFT_FIB_RESULT_OIF, REVERSE_PATH) => Load::ReversePath,
                    _ => return None,
                };
                return self.load(data, NFTA_FIB_DREG, load);
            }
            "bitwise" => return self.mask(data),
            // nft swaps the one byte of `meta l4proto` in interval concatenations: nothing happens.
            "byteorder" => {
                let slot = slot(number(data, NFTA_BYTEORDER_SREG)?)?;
                let l4proto = (slot, Load::Meta(NFT_META_L4PROTO));
                return self.loads.contains(&l4proto).then_some(());
            }
            "cmp" => self.compare(data)?,
            "lookup" => self.lookup(data)?,
            "immediate" => Statement::Verdict(verdict(find(data, NFTA_IMMEDIATE_DATA)?)?),
            "counter" => Statement::Counter,
            "log" => log(data)?,
            "masq" => Statement::Masquerade(match find(data, NFTA_MASQ_FLAGS).and_then(be32) {
                None | Some(0) => PortChoice::Keep,
                Some(NF_NAT_RANGE_PROTO_RANDOM_FULLY) => PortChoice::FullyRandom,
                Some(_) => return None,
            }),
            "notrack" => Statement::Notrack,
            _ => return None,
        };
        self.done.push(statement);
        Some(())
    }

    fn load(&mut self, data: &[u8], register: u16, load: Load) -> Option<()> {
        let slot = slot(number(data, register)?)?;
        self.loads.retain(|(at, _)| *at != slot);
        self.loads.push((slot, load));
        Some(())
    }

    fn take(&mut self, slot: u32) -> Option<Load> {
        let index = self.loads.iter().position(|(at, _)| *at == slot)?;
        Some(self.loads.remove(index).1)
    }

    fn mask(&mut self, data: &[u8]) -> Option<()> {
        let (from, to) = (number(data, NFTA_BITWISE_SREG)?, number(data, NFTA_BITWISE_DREG)?);
        let mask = value(find(data, NFTA_BITWISE_MASK)?)?;
        let xor = value(find(data, NFTA_BITWISE_XOR)?)?;
        if from != to || xor.iter().any(|byte| *byte != 0) {
            return None;
        }
        let load = self.take(slot(from)?)?;
        self.loads.push((slot(to)?, Load::Masked(Box::new(load), mask.to_vec())));
        Some(())
    }

    fn compare(&mut self, data: &[u8]) -> Option<Statement> {
        let load = self.take(slot(number(data, NFTA_CMP_SREG)?)?)?;
        let value = value(find(data, NFTA_CMP_DATA)?)?;
        let sense = match number(data, NFTA_CMP_OP)? {
            NFT_CMP_EQ => Sense::Is,
            NFT_CMP_NEQ => Sense::IsNot,
            _ => return None,
        };
        let test = match load {
            Load::Meta(key) => meta_test(key, value)?,
            Load::Payload { base, offset, len } => {
                if value.len() != usize::try_from(len).ok()? {
                    return None;
                }
                self.payload_test(base, offset, value, None)?
            }
            Load::Ct(key) if sense == Sense::IsNot => ct_test(key, ne32(value)?)?,
            Load::Ct(_) => return None,
            Load::FibDaddrType => Test::FibDaddrType(address_type(ne32(value)?)?),
            Load::ReversePath => (ne32(value)? == 1).then_some(Test::ReversePath)?,
            Load::Masked(load, mask) => return self.masked_test(&load, &mask, sense, value),
        };
        Some(Statement::Match(sense, test))
    }

    fn masked_test(
        &self,
        load: &Load,
        mask: &[u8],
        sense: Sense,
        value: &[u8],
    ) -> Option<Statement> {
        match *load {
            // "Any of these bits" is "masked with them not zero".
            Load::Ct(key) if sense == Sense::IsNot && value.iter().all(|byte| *byte == 0) => {
                Some(is(ct_test(key, ne32(mask)?)?))
            }
            Load::Payload { base, offset, len } if value.len() == usize::try_from(len).ok()? => {
                let test = self.payload_test(base, offset, value, Some(mask))?;
                Some(Statement::Match(sense, test))
            }
            Load::Payload { .. }
            | Load::Ct(_)
            | Load::Meta(_)
            | Load::FibDaddrType
            | Load::ReversePath
            | Load::Masked(..) => None,
        }
    }

    /// The family that the rule established last.
    fn family(&self) -> Option<Family> {
        self.done.iter().rev().find_map(|statement| {
            let Statement::Match(Sense::Is, Test::Nfproto(family)) = statement else { return None };
            Some(*family)
        })
    }

    /// The transport protocol that the rule established last.
    fn l4proto(&self) -> Option<u8> {
        self.done.iter().rev().find_map(|statement| {
            let Statement::Match(Sense::Is, Test::L4proto(number)) = statement else { return None };
            Some(*number)
        })
    }

    fn payload_test(&self, base: u32, at: u32, value: &[u8], mask: Option<&[u8]>) -> Option<Test> {
        let port = || Some(u16::from_be_bytes(value.try_into().ok()?));
        match (base, self.family(), at, value.len(), mask) {
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, 0, 2, None) => Some(Test::Sport(port()?)),
            (NFT_PAYLOAD_TRANSPORT_HEADER, _, 2, 2, None) => Some(Test::Dport(port()?)),
            (NFT_PAYLOAD_TRANSPORT_HEADER, Some(Family::Ipv4), 0, 1, None)
                if self.l4proto() == Some(1) =>
            {
                Some(Test::IcmpType(value[0]))
            }
            (NFT_PAYLOAD_TRANSPORT_HEADER, Some(Family::Ipv6), 0, 1, None)
                if self.l4proto() == Some(58) =>
            {
                Some(Test::Icmpv6Type(value[0]))
            }
            (NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv4), 12, 1..=4, _) => {
                Some(Test::Saddr(block4(value, mask)?))
            }
            (NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv4), 16, 1..=4, _) => {
                Some(Test::Daddr(block4(value, mask)?))
            }
            (NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv6), 8, 1..=16, _) => {
                Some(Test::Saddr(block6(value, mask)?))
            }
            (NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv6), 24, 1..=16, _) => {
                Some(Test::Daddr(block6(value, mask)?))
            }
            _ => None,
        }
    }

    fn lookup(&mut self, data: &[u8]) -> Option<Statement> {
        let name: Name = find(data, NFTA_LOOKUP_SET).and_then(string)?.into();
        let mut at = slot(number(data, NFTA_LOOKUP_SREG)?)?;
        let mut key = Vec::new();
        while let Some(load) = self.take(at) {
            let field = self.field(&load)?;
            at += u32::try_from(field.field_type().padded() / 4).ok()?;
            key.push(field);
        }
        let inverted = find(data, NFTA_LOOKUP_FLAGS).and_then(be32).unwrap_or(0);
        match (find(data, NFTA_LOOKUP_DREG).and_then(be32), inverted) {
            _ if key.is_empty() => None,
            (None, 0) => Some(Statement::Lookup { key, sense: Sense::Is, set: name }),
            (None, NFT_LOOKUP_F_INV) => {
                Some(Statement::Lookup { key, sense: Sense::IsNot, set: name })
            }
            (Some(NFT_REG_VERDICT), 0) => Some(Statement::Vmap { key, map: name }),
            _ => None,
        }
    }

    fn field(&self, load: &Load) -> Option<Field> {
        let family = self.family();
        match *load {
            Load::Meta(NFT_META_IIFNAME) => Some(Field::Iifname),
            Load::Meta(NFT_META_OIFNAME) => Some(Field::Oifname),
            Load::Meta(NFT_META_L4PROTO) => Some(Field::L4proto),
            Load::Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset, len } => {
                match (family?, offset, len) {
                    (Family::Ipv4, 12, 4) => Some(Field::IpSaddr),
                    (Family::Ipv4, 16, 4) => Some(Field::IpDaddr),
                    (Family::Ipv6, 8, 16) => Some(Field::Ip6Saddr),
                    (Family::Ipv6, 24, 16) => Some(Field::Ip6Daddr),
                    _ => None,
                }
            }
            Load::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, len: 2 } => {
                Some(Field::ThSport)
            }
            Load::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, len: 2 } => {
                Some(Field::ThDport)
            }
            Load::Meta(_)
            | Load::Payload { .. }
            | Load::Ct(_)
            | Load::FibDaddrType
            | Load::ReversePath
            | Load::Masked(..) => None,
        }
    }
}

fn number(data: &[u8], attribute: u16) -> Option<u32> {
    find(data, attribute).and_then(be32)
}

/// The 32-bit slot where a register starts.
fn slot(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

fn log(data: &[u8]) -> Option<Statement> {
    if find(data, NFTA_LOG_GROUP).is_some() {
        return None;
    }
    let prefix = find(data, NFTA_LOG_PREFIX).and_then(string)?.into();
    Some(Statement::Log { prefix })
}

fn meta_test(key: u32, value: &[u8]) -> Option<Test> {
    match (key, value) {
        (NFT_META_IIFNAME, name) => Some(Test::Iifname(pattern(name)?)),
        (NFT_META_OIFNAME, name) => Some(Test::Oifname(pattern(name)?)),
        (NFT_META_L4PROTO, [number]) => Some(Test::L4proto(*number)),
        (NFT_META_NFPROTO, [number]) => [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .find(|family| family_number(*family) == *number)
            .map(Test::Nfproto),
        _ => None,
    }
}

/// An interface name; a shorter comparison than the whole 16 bytes is a prefix.
fn pattern(name: &[u8]) -> Option<Name> {
    let text = string(name)?;
    Some(if name.len() < 16 { format!("{text}*").into() } else { text.into() })
}

fn ct_test(key: u32, bits: u32) -> Option<Test> {
    match key {
        NFT_CT_STATE => Some(Test::CtState(CtState(bits))),
        NFT_CT_STATUS => Some(Test::CtStatus(CtStatus(bits))),
        _ => None,
    }
}

fn address_type(number: u32) -> Option<AddressType> {
    use AddressType::*;
    [Unicast, Local, Broadcast, Multicast]
        .into_iter()
        .find(|kind| address_type_number(*kind) == number)
}

/// The block whose network starts with `bytes`; its length is theirs, or the mask's.
fn block4(bytes: &[u8], mask: Option<&[u8]>) -> Option<IpNet> {
    let ip = Ipv4Addr::from(padded::<4>(bytes)?);
    let bits = prefix_len(bytes, mask)?;
    Some(Ipv4Net::new(ip, bits).ok().filter(|net| net.network() == ip)?.into())
}

fn block6(bytes: &[u8], mask: Option<&[u8]>) -> Option<IpNet> {
    let ip = Ipv6Addr::from(padded::<16>(bytes)?);
    let bits = prefix_len(bytes, mask)?;
    Some(Ipv6Net::new(ip, bits).ok().filter(|net| net.network() == ip)?.into())
}

fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut whole = [0; N];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(whole)
}

fn prefix_len(bytes: &[u8], mask: Option<&[u8]>) -> Option<u8> {
    let Some(mask) = mask else { return u8::try_from(bytes.len() * 8).ok() };
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask.iter().take_while(|byte| **byte == 0xff).count();
    let rest = mask.get(leading).map_or(0, |byte| byte.leading_ones());
    let contiguous = u32::try_from(leading * 8).ok()? + rest == ones;
    (contiguous && mask.len() == bytes.len()).then(|| u8::try_from(ones).ok())?
}
