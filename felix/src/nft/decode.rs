//! From the kernel's dumps back to a table.
//!
//! What we wrote reads back equal to what was written. What we would not write (another program's rule in
//! our table) reads as something that no desired table contains, so that the next difference removes it.

use std::collections::BTreeMap;

use super::{
    encode::{chain_type_name, hook_number, set_flags, type_number},
    key::{FieldType, Key, KeyType, MAX_FIELDS},
    register,
    table::{
        Base, Chain, ChainType, Hook, Matching, Name, Policy, Rule, Set, SetKind, SetType, Table,
        Verdict,
    },
    uapi::*,
    wire::{attributes, be32, be64, find, string},
};

/// A message of a dump that lacks what the kernel always sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nf_tables message {message} without {what}")]
pub struct DecodeError {
    /// `NFT_MSG_…`.
    pub message: u8,
    /// What is missing.
    pub what: &'static str,
}

/// What a rule of ours has counted since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The rule's chain.
    pub chain: Name,
    /// The rule's comment, which is what tells rules of a chain apart.
    pub comment: Option<Name>,
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

impl Counted {
    /// The counter of a rule in a dump of rules; `None` when the rule has none, or is not of `table`.
    pub(crate) fn in_rule(table: &str, payload: &[u8]) -> Option<Self> {
        let body = payload.get(4..)?;
        find(body, NFTA_RULE_TABLE).and_then(string).filter(|name| *name == table)?;
        let chain = find(body, NFTA_RULE_CHAIN).and_then(string)?.into();
        let counter = attributes(find(body, NFTA_RULE_EXPRESSIONS)?)
            .find(|(_, e)| find(e, NFTA_EXPR_NAME).and_then(string) == Some("counter"))
            .and_then(|(_, expression)| find(expression, NFTA_EXPR_DATA))?;
        Some(Self {
            chain,
            comment: find(body, NFTA_RULE_USERDATA).and_then(comment),
            packets: find(counter, NFTA_COUNTER_PACKETS).and_then(be64)?,
            bytes: find(counter, NFTA_COUNTER_BYTES).and_then(be64)?,
        })
    }
}

/// Collects the messages of dumps into one table.
#[derive(Debug)]
pub struct Dump {
    table: Table,
    /// The elements of interval trees as the kernel has them: first keys, and keys first outside.
    trees: BTreeMap<Name, Vec<TreeElement>>,
    torn: bool,
}

#[derive(Debug)]
struct TreeElement {
    key: Vec<u8>,
    /// Ends sort before starts of the same key: ranges may touch.
    start: bool,
    verdict: Option<Verdict>,
}

impl Dump {
    /// Collects what belongs to the `inet` table of this name.
    pub fn new(table: impl Into<Name>) -> Self {
        Self { table: Table::new(table), trees: BTreeMap::new(), torn: false }
    }

    /// The sets seen so far, which is whose elements to ask for.
    pub fn sets(&self) -> impl Iterator<Item = &Name> {
        self.table.sets.keys()
    }

    /// Whether an element came twice. Then others are missing: the kernel resumes a long dump by counting,
    /// and a hash table that grows meanwhile (for a while after a bulk load) changes the order.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Takes one message of a dump: its type, and what follows the netlink header. Sets have to come
    /// before their elements.
    ///
    /// # Errors
    /// When the message is incomplete.
    pub fn push(&mut self, message: u8, payload: &[u8]) -> Result<(), DecodeError> {
        let missing = |what| DecodeError { message, what };
        let (header, body) = payload.split_at_checked(4).ok_or(missing("a header"))?;
        // Chains, rules, sets and lists of elements all name their table first.
        let table = find(body, NFTA_CHAIN_TABLE).and_then(string).ok_or(missing("a table"))?;
        if header[0] != NFPROTO_INET || table != &*self.table.name {
            return Ok(());
        }
        match message {
            NFT_MSG_NEWCHAIN => self.chain(body).ok_or(missing("a name or hook")),
            NFT_MSG_NEWRULE => self.rule(body).ok_or(missing("a chain")),
            NFT_MSG_NEWSET => self.set(body).ok_or(missing("a name or key")),
            NFT_MSG_NEWSETELEM => self.elements(body).ok_or(missing("a set or key")),
            _ => Ok(()),
        }
    }

    /// The table.
    pub fn finish(mut self) -> Table {
        for (name, elements) in std::mem::take(&mut self.trees) {
            if let Some(set) = self.table.sets.get_mut(&name) {
                set.elements = ranges(elements);
            }
        }
        self.table
    }

    fn chain(&mut self, body: &[u8]) -> Option<()> {
        let name = find(body, NFTA_CHAIN_NAME).and_then(string)?;
        let base = match find(body, NFTA_CHAIN_HOOK) {
            Some(hook) => Some(base(body, hook)?),
            None => None,
        };
        self.table.chains.entry(name.into()).or_default().base = base;
        Some(())
    }

    fn rule(&mut self, body: &[u8]) -> Option<()> {
        let chain = find(body, NFTA_RULE_CHAIN).and_then(string)?;
        let expressions = find(body, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        let mut rule = Rule::new(register::statements(expressions));
        rule.comment = find(body, NFTA_RULE_USERDATA).and_then(comment);
        let chain: &mut Chain = self.table.chains.entry(chain.into()).or_default();
        chain.rules.push(rule);
        Some(())
    }

    fn set(&mut self, body: &[u8]) -> Option<()> {
        let name = find(body, NFTA_SET_NAME).and_then(string)?;
        let flags = find(body, NFTA_SET_FLAGS).map_or(Some(0), be32)?;
        // An anonymous set lives and dies with its rule.
        if flags & NFT_SET_ANONYMOUS == 0 {
            self.table.sets.insert(name.into(), Set::new(set_type(body, flags)?));
        }
        Some(())
    }

    fn elements(&mut self, body: &[u8]) -> Option<()> {
        let name = find(body, NFTA_SET_ELEM_LIST_SET).and_then(string)?;
        let Some(set) = self.table.sets.get_mut(name) else { return Some(()) };
        if set.of.kind == SetKind::Foreign {
            return Some(());
        }
        let is_tree = set.of.matching == Matching::Ranges && !set.of.key.is_concatenation();
        let list = find(body, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        let mut tree = Vec::new();
        for (_, element) in attributes(list) {
            let key = value(find(element, NFTA_SET_ELEM_KEY)?)?;
            let verdict = match find(element, NFTA_SET_ELEM_DATA) {
                Some(data) => Some(verdict(data)?),
                None => None,
            };
            if is_tree {
                let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(be32).unwrap_or(0);
                let start = flags & NFT_SET_ELEM_INTERVAL_END == 0;
                tree.push(TreeElement { key: key.to_vec(), start, verdict });
            } else {
                let before = set.elements.insert(element_key(set.of, element, key)?, verdict);
                self.torn |= before.is_some();
            }
        }
        if is_tree {
            self.trees.entry(name.into()).or_default().append(&mut tree);
        }
        Some(())
    }
}

/// The key of an element that is not of a tree: one key, or the first and last of a range.
fn element_key(of: SetType, element: &[u8], first: &[u8]) -> Option<Key> {
    Some(match of.matching {
        Matching::Exact => Key::from_bytes(first),
        Matching::Ranges => {
            let last = find(element, NFTA_SET_ELEM_KEY_END).map_or(Some(first), value)?;
            Key::from_bytes(&[first, last].concat())
        }
    })
}

fn base(body: &[u8], hook: &[u8]) -> Option<Base> {
    use {ChainType::*, Hook::*};
    let number = find(hook, NFTA_HOOK_HOOKNUM).and_then(be32)?;
    let hooks = [Prerouting, Input, Forward, Output, Postrouting, Ingress];
    let priority = find(hook, NFTA_HOOK_PRIORITY).and_then(be32)?;
    let kind = find(body, NFTA_CHAIN_TYPE).and_then(string)?;
    Some(Base {
        kind: [Filter, Nat, Route].into_iter().find(|k| chain_type_name(*k) == kind)?,
        hook: hooks.into_iter().find(|hook| hook_number(*hook) == number)?,
        priority: priority.cast_signed(),
        policy: match find(body, NFTA_CHAIN_POLICY).and_then(be32) {
            Some(0) => Policy::Drop,
            _ => Policy::Accept,
        },
    })
}

fn comment(data: &[u8]) -> Option<Name> {
    let [UDATA_RULE_COMMENT, len, text @ ..] = data else { return None };
    text.get(..usize::from(*len)).and_then(string).map(Name::from)
}

fn set_type(body: &[u8], flags: u32) -> Option<SetType> {
    let number = find(body, NFTA_SET_KEY_TYPE).map_or(Some(0), be32)?;
    let len = find(body, NFTA_SET_KEY_LEN).and_then(be32)?;
    let data = find(body, NFTA_SET_DATA_TYPE).and_then(be32);
    let matching = if flags & NFT_SET_INTERVAL == 0 { Matching::Exact } else { Matching::Ranges };
    let kind = match data {
        Some(NFT_DATA_VERDICT) => SetKind::Verdicts,
        Some(_) => SetKind::Foreign,
        None => SetKind::Members,
    };
    let foreign = SetType {
        key: KeyType::new(&[FieldType::Ifname]),
        kind: SetKind::Foreign,
        matching: Matching::Exact,
    };
    let known = key_type(number).map(|key| SetType { key, kind, matching }).filter(|of| {
        of.kind != SetKind::Foreign
            && set_flags(*of) == flags
            && usize::try_from(len).is_ok_and(|len| len == of.key.width())
    });
    Some(known.unwrap_or(foreign))
}

fn key_type(mut number: u32) -> Option<KeyType> {
    let mut fields = Vec::new();
    while number != 0 {
        fields.insert(0, field_type(number & ((1 << TYPE_BITS) - 1))?);
        number >>= TYPE_BITS;
    }
    (1..=MAX_FIELDS).contains(&fields.len()).then(|| KeyType::new(&fields))
}

fn field_type(number: u32) -> Option<FieldType> {
    use FieldType::*;
    [Ipv4Addr, Ipv6Addr, InetProto, InetService, Ifname]
        .into_iter()
        .find(|field| type_number(*field) == number)
}

/// Pairs the starts of ranges with their ends.
fn ranges(mut elements: Vec<TreeElement>) -> BTreeMap<Key, Option<Verdict>> {
    elements.sort_by(|a, b| (&a.key, a.start).cmp(&(&b.key, b.start)));
    let mut ranges = BTreeMap::new();
    let mut open: Option<TreeElement> = None;
    for element in elements {
        if let Some(start) = open.take() {
            let key = [&start.key[..], &predecessor(&element.key)].concat();
            ranges.insert(Key::from_bytes(&key), start.verdict);
        }
        // An end without a start before it is nft's mark for "nothing from zero on".
        open = Some(element).filter(|element| element.start);
    }
    if let Some(start) = open {
        let key = [&start.key[..], &vec![0xff; start.key.len()]].concat();
        ranges.insert(Key::from_bytes(&key), start.verdict);
    }
    ranges
}

fn predecessor(key: &[u8]) -> Vec<u8> {
    let mut before = key.to_vec();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    before
}

/// The bytes in `NFTA_DATA_VALUE`.
pub(super) fn value(data: &[u8]) -> Option<&[u8]> {
    find(data, NFTA_DATA_VALUE)
}

pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = find(data, NFTA_DATA_VERDICT)?;
    let code = find(verdict, NFTA_VERDICT_CODE).and_then(be32)?.cast_signed();
    let chain = || find(verdict, NFTA_VERDICT_CHAIN).and_then(string).map(Name::from);
    Some(match code {
        NF_ACCEPT => Verdict::Accept,
        NF_DROP => Verdict::Drop,
        NFT_RETURN => Verdict::Return,
        NFT_CONTINUE => Verdict::Continue,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        _ => return None,
    })
}
