//! From a transaction to one netlink batch, as nft itself would write it.

use super::{
    expression,
    key::{FieldType, Key, KeyType},
    table::{Base, ChainType, Element, Hook, Matching, Policy, Rule, SetKind, SetType, Verdict},
    transaction::{Op, Transaction},
    uapi::*,
    wire::Writer,
};

/// No list of elements exceeds this, so that its length fits into an attribute's 16 bits.
const LIST_MAX: usize = 60_000;

/// A batch of netlink messages: all of them happen, or none.
#[derive(Debug)]
pub struct Batch {
    /// To be sent in one piece.
    pub bytes: Vec<u8>,
    /// The sequence number of the batch's first message; the change of [`Self::ops`]`[0]` has the next.
    pub first_seq: u32,
    /// For each message between begin and end, the index into [`Transaction::ops`].
    pub ops: Vec<usize>,
}

impl Batch {
    /// The change that the message of this sequence number makes.
    pub fn op_of(&self, seq: u32) -> Option<usize> {
        let index = seq.wrapping_sub(self.first_seq).checked_sub(1)?;
        self.ops.get(usize::try_from(index).ok()?).copied()
    }

    /// The sequence number of the message that the kernel is asked to acknowledge.
    pub fn acknowledged(&self) -> u32 {
        // As many messages as fit into memory; sequence numbers wrap.
        self.first_seq.wrapping_add(u32::try_from(self.ops.len()).unwrap_or(u32::MAX))
    }
}

/// The batch for `transaction`. The kernel refuses it when its generation is no longer `generation`.
pub fn encode(transaction: &Transaction, generation: Option<u32>, first_seq: u32) -> Batch {
    let mut out = Encoder {
        table: &transaction.table,
        out: Writer::default(),
        seq: first_seq,
        ops: Vec::new(),
        op: 0,
        last: 0,
    };
    out.out.message(NFNL_MSG_BATCH_BEGIN, request(0), first_seq, |w| {
        batch_header(w);
        if let Some(generation) = generation {
            w.be32(NFNL_BATCH_GENID, generation);
        }
    });
    for (index, op) in transaction.ops.iter().enumerate() {
        out.op = index;
        out.op(op);
    }
    // A batch without an end is dropped by the kernel without a word: only the answer to this flag tells.
    // It is on the last change, not on the end, because kernels before 6.10 ignore it there.
    if !out.ops.is_empty() {
        out.out.add_flags(out.last, NLM_F_ACK);
    }
    let end = out.seq.wrapping_add(1);
    out.out.message(NFNL_MSG_BATCH_END, request(0), end, batch_header);
    Batch { bytes: out.out.into_bytes(), first_seq, ops: out.ops }
}

fn request(flags: u16) -> u16 {
    const NLM_F_REQUEST: u16 = 1;
    flags | NLM_F_REQUEST
}

fn batch_header(w: &mut Writer) {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    w.raw(&[NFPROTO_UNSPEC, 0, high, low]);
}

/// The netlink type of an nf_tables message.
pub(crate) fn message_type(message: u8) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | u16::from(message)
}

/// `struct nfgenmsg` of the family `inet`.
pub(crate) const INET_HEADER: [u8; 4] = [NFPROTO_INET, 0, 0, 0];

struct Encoder<'a> {
    table: &'a str,
    out: Writer,
    seq: u32,
    ops: Vec<usize>,
    op: usize,
    /// Where the last message starts.
    last: usize,
}

impl Encoder<'_> {
    fn message(&mut self, kind: u8, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.seq = self.seq.wrapping_add(1);
        self.ops.push(self.op);
        self.last = self.out.len();
        self.out.message(message_type(kind), request(flags), self.seq, |w| {
            w.raw(&INET_HEADER);
            body(w);
        });
    }

    fn op(&mut self, op: &Op) {
        let table = self.table;
        let named = |name: &str, at: u16| {
            let name = name.to_owned();
            move |w: &mut Writer| {
                w.string(NFTA_CHAIN_TABLE, table);
                w.string(at, &name);
            }
        };
        match op {
            Op::AddTable => self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, |w| {
                w.string(NFTA_TABLE_NAME, table);
            }),
            Op::DeleteTable => {
                self.message(NFT_MSG_DELTABLE, 0, |w| w.string(NFTA_TABLE_NAME, table));
            }
            Op::AddChain(name, base) => self.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, |w| {
                w.string(NFTA_CHAIN_TABLE, table);
                w.string(NFTA_CHAIN_NAME, name);
                if let Some(base) = base {
                    put_base(w, base);
                }
            }),
            Op::FlushChain(name) => self.message(NFT_MSG_DELRULE, 0, named(name, NFTA_RULE_CHAIN)),
            Op::DeleteChain(name) => {
                self.message(NFT_MSG_DELCHAIN, 0, named(name, NFTA_CHAIN_NAME));
            }
            Op::AddSet(name, of) => self.set(name, *of),
            Op::FlushSet(name, _) => {
                self.message(NFT_MSG_DELSETELEM, 0, named(name, NFTA_SET_ELEM_LIST_SET));
            }
            Op::DeleteSet(name, _) => self.message(NFT_MSG_DELSET, 0, named(name, NFTA_SET_NAME)),
            Op::AddRule(chain, rule) => self.rule(chain, rule),
            Op::AddElements(set, of, elements) => {
                let elements =
                    elements.iter().map(|Element { key, verdict }| (key, verdict.as_ref()));
                self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, *of, elements);
            }
            Op::DeleteElements(set, of, keys) => {
                let elements = keys.iter().map(|key| (key, None));
                self.elements(NFT_MSG_DELSETELEM, 0, set, *of, elements);
            }
        }
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        let table = self.table;
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w| {
            w.string(NFTA_RULE_TABLE, table);
            w.string(NFTA_RULE_CHAIN, chain);
            w.nest(NFTA_RULE_EXPRESSIONS, |w| expression::put_statements(w, &rule.statements));
            if let Some(comment) = &rule.comment {
                w.attribute(NFTA_RULE_USERDATA, &comment_data(comment));
            }
        });
    }

    fn set(&mut self, name: &str, of: SetType) {
        let table = self.table;
        // Only has to differ within the batch.
        let id = self.seq.wrapping_add(1);
        self.message(NFT_MSG_NEWSET, NLM_F_CREATE, |w| {
            w.string(NFTA_SET_TABLE, table);
            w.string(NFTA_SET_NAME, name);
            w.be32(NFTA_SET_FLAGS, set_flags(of));
            w.be32(NFTA_SET_KEY_TYPE, key_type_number(of.key));
            w.be32(NFTA_SET_KEY_LEN, length(of.key.width()));
            if of.kind == SetKind::Verdicts {
                w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            }
            w.be32(NFTA_SET_ID, id);
            if of.key.is_concatenation() && of.matching == Matching::Ranges {
                w.nest(NFTA_SET_DESC, |w| w.nest(NFTA_SET_DESC_CONCAT, |w| put_fields(w, of.key)));
            }
            let mut data = vec![UDATA_SET_KEYBYTEORDER, 4];
            data.extend_from_slice(&byte_order(of.key).to_ne_bytes());
            w.attribute(NFTA_SET_USERDATA, &data);
        });
    }

    /// One message, or several when the list is long.
    fn elements<'a>(
        &mut self,
        kind: u8,
        flags: u16,
        set: &str,
        of: SetType,
        elements: impl Iterator<Item = (&'a Key, Option<&'a Verdict>)>,
    ) {
        let table = self.table;
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            self.message(kind, flags, |w| {
                w.string(NFTA_SET_ELEM_LIST_TABLE, table);
                w.string(NFTA_SET_ELEM_LIST_SET, set);
                w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                    let start = w.len();
                    while w.len() - start < LIST_MAX
                        && let Some((key, verdict)) = elements.next()
                    {
                        put_element(w, of, key, verdict);
                    }
                });
            });
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("keys are at most 64 bytes")
}

fn put_fields(w: &mut Writer, key: KeyType) {
    for field in key.fields() {
        w.nest(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, length(field.width())));
    }
}

fn put_base(w: &mut Writer, base: &Base) {
    w.nest(NFTA_CHAIN_HOOK, |w| {
        w.be32(NFTA_HOOK_HOOKNUM, hook_number(base.hook));
        w.attribute(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
    });
    w.be32(NFTA_CHAIN_POLICY, u32::from(base.policy == Policy::Accept));
    w.string(NFTA_CHAIN_TYPE, chain_type_name(base.kind));
}

/// `enum nf_inet_hooks`.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
        Hook::Ingress => 5,
    }
}

pub(super) fn chain_type_name(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

pub(super) fn set_flags(of: SetType) -> u32 {
    let map = match of.kind {
        SetKind::Verdicts => NFT_SET_MAP,
        SetKind::Members | SetKind::Foreign => 0,
    };
    let ranges = match of.matching {
        Matching::Exact => 0,
        Matching::Ranges if of.key.is_concatenation() => NFT_SET_INTERVAL | NFT_SET_CONCAT,
        Matching::Ranges => NFT_SET_INTERVAL,
    };
    map | ranges
}

pub(super) fn type_number(field: FieldType) -> u32 {
    match field {
        FieldType::Ipv4Addr => TYPE_IPADDR,
        FieldType::Ipv6Addr => TYPE_IP6ADDR,
        FieldType::InetProto => TYPE_INET_PROTOCOL,
        FieldType::InetService => TYPE_INET_SERVICE,
        FieldType::Ifname => TYPE_IFNAME,
    }
}

fn key_type_number(key: KeyType) -> u32 {
    key.fields().fold(0, |sum, field| sum << TYPE_BITS | type_number(field))
}

/// What nft remembers of a key's byte order; nothing for a concatenation.
fn byte_order(key: KeyType) -> u32 {
    let mut fields = key.fields();
    match (fields.next(), fields.next()) {
        (Some(FieldType::Ifname), None) => BYTEORDER_HOST,
        (Some(_), None) => BYTEORDER_BIG_ENDIAN,
        _ => 0,
    }
}

fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(Rule::COMMENT_MAX)];
    let len = u8::try_from(text.len() + 1).expect("at most 128");
    let mut data = vec![UDATA_RULE_COMMENT, len];
    data.extend_from_slice(text);
    data.push(0);
    data
}

fn put_element(w: &mut Writer, of: SetType, key: &Key, verdict: Option<&Verdict>) {
    let bytes = key.as_bytes();
    let (first, last) = match of.matching {
        Matching::Exact => (bytes, None),
        Matching::Ranges => {
            let (first, last) = bytes.split_at(bytes.len() / 2);
            (first, Some(last))
        }
    };
    let concatenation = of.key.is_concatenation();
    w.nest(NFTA_LIST_ELEM, |w| {
        put_value(w, NFTA_SET_ELEM_KEY, first);
        if let Some(last) = last.filter(|_| concatenation) {
            put_value(w, NFTA_SET_ELEM_KEY_END, last);
        }
        if let Some(verdict) = verdict {
            w.nest(NFTA_SET_ELEM_DATA, |w| put_verdict(w, verdict));
        }
    });
    // A tree of one field holds the first key outside as an element of its own; the last range has none.
    if let Some(outside) = last.filter(|_| !concatenation).and_then(successor) {
        w.nest(NFTA_LIST_ELEM, |w| {
            put_value(w, NFTA_SET_ELEM_KEY, &outside);
            w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        });
    }
}

/// The next number, `None` behind the last.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

pub(super) fn put_value(w: &mut Writer, kind: u16, value: &[u8]) {
    w.nest(kind, |w| w.attribute(NFTA_DATA_VALUE, value));
}

pub(super) fn put_verdict(w: &mut Writer, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Accept => NF_ACCEPT,
        Verdict::Drop => NF_DROP,
        Verdict::Return => NFT_RETURN,
        Verdict::Continue => NFT_CONTINUE,
        Verdict::Jump(_) => NFT_JUMP,
        Verdict::Goto(_) => NFT_GOTO,
    };
    w.nest(NFTA_DATA_VERDICT, |w| {
        w.attribute(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = verdict.target() {
            w.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}
