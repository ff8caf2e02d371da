//! The nouns: a table of chains and sets, as plain values with public fields.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    key::{Key, KeyType},
    statement::Statement,
};

/// The name of a table, chain or set. Cheap to clone: a chain's name is in every element that goes to it.
pub type Name = Arc<str>;

/// One nftables table of the family `inet` (IPv4 and IPv6 together).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The table's name.
    pub name: Name,
    /// Chains by name.
    pub chains: BTreeMap<Name, Chain>,
    /// Sets and verdict maps by name; nft keeps both in one name space.
    pub sets: BTreeMap<Name, Set>,
}

impl Table {
    /// A table without chains and sets.
    pub fn new(name: impl Into<Name>) -> Self {
        Self { name: name.into(), chains: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// Whether there is neither chain nor set.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty()
    }
}

/// A chain: a list of rules, entered from a hook of the kernel (base chain) or by a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel enters this chain; `None` when only verdicts lead here.
    pub base: Option<Base>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that verdicts lead to.
    pub fn regular(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { base: None, rules: rules.into_iter().collect() }
    }

    /// A chain that the kernel enters at a hook.
    pub fn base(base: Base, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { base: Some(base), rules: rules.into_iter().collect() }
    }
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: ChainType,
    /// The hook.
    pub hook: Hook,
    /// Lower runs first; `filter` is 0, `srcnat` 100.
    pub priority: i32,
    /// What happens to a packet that no rule decided.
    pub policy: Policy,
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Judges packets.
    Filter,
    /// Sees the first packet of each connection, may translate it.
    Nat,
    /// Routes a locally made packet again after changes.
    Route,
}

/// A hook of the kernel's packet path. The numbers are `enum nf_inet_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To a local socket.
    Input,
    /// Through this machine.
    Forward,
    /// From a local socket.
    Output,
    /// After routing.
    Postrouting,
    /// On arrival at a device (never used by us; read back from strangers).
    Ingress,
}

/// The verdict of a base chain's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Let it pass.
    Accept,
    /// Discard it.
    Drop,
}

/// One rule: statements from left to right, the first match that fails ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What the rule does, in order.
    pub statements: Vec<Statement>,
    /// A remark for whoever reads `nft list ruleset`; at most [`Rule::COMMENT_MAX`] bytes.
    pub comment: Option<Name>,
}

impl Rule {
    /// The longest comment that nft prints, in bytes.
    pub const COMMENT_MAX: usize = 127;

    /// The rule without comment. A test of family or protocol that the statement behind it implies is left
    /// out (`meta nfproto ipv4 ip saddr …` is `ip saddr …`): the kernel form of both is the same.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        let mut kept: Vec<Statement> = Vec::new();
        for statement in statements {
            let implied = statement.implies();
            let tests = kept.iter().rev().take_while(|s| s.is_protocol_test()).count();
            let mut at = 0;
            let first = kept.len() - tests;
            kept.retain(|test| {
                at += 1;
                at <= first || !implied.contains(test)
            });
            kept.push(statement);
        }
        Self { statements: kept, comment: None }
    }

    /// The same rule with a comment, cut to [`Rule::COMMENT_MAX`] bytes; quotation marks, backslashes
    /// and control characters, which nft's syntax cannot carry, become `'`.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        let end = text.floor_char_boundary(Self::COMMENT_MAX);
        let unquotable = |c: char| c == '"' || c == '\\' || c.is_control();
        self.comment = Some(text[..end].replace(unquotable, "'").into());
        self
    }
}

/// A named set or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What its elements look like.
    pub of: SetType,
    /// The elements by key. `None` in sets, a verdict in verdict maps.
    pub elements: BTreeMap<Key, Option<Verdict>>,
}

impl Set {
    /// A set without elements.
    pub fn new(of: SetType) -> Self {
        Self { of, elements: BTreeMap::new() }
    }

    /// The same set with these elements.
    #[must_use]
    pub fn with(mut self, elements: impl IntoIterator<Item = Element>) -> Self {
        self.elements.extend(elements.into_iter().map(|e| (e.key, e.verdict)));
        self
    }
}

/// What a set's elements look like: key, verdict or not, values or ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetType {
    /// The fields of the key.
    pub key: KeyType,
    /// Set or verdict map.
    pub kind: SetKind,
    /// Single values or ranges.
    pub matching: Matching,
}

impl SetType {
    /// The length in bytes of an element's [`Key`].
    pub fn key_len(&self) -> usize {
        match self.matching {
            Matching::Exact => self.key.width(),
            Matching::Ranges => 2 * self.key.width(),
        }
    }
}

/// Whether the lookup answers yes or no, or a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// nft's `set`.
    Members,
    /// nft's `map … : verdict`. Whenever a rule, or an element that leads to a chain, changes, the kernel
    /// walks every element of every verdict map that it can reach, once for each rule that looks it up:
    /// with 2,000 chains that look up maps of 1,000, rewriting one chain takes 66 ms. With sets
    /// (`ip saddr @peers return`), which it need not walk, 0.4 ms.
    Verdicts,
    /// Somebody else's set in our table, of a type that we do not make. Never desired; replaced.
    Foreign,
}

/// How a set compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// A hash table: constant time to look up and to change.
    Exact,
    /// `flags interval`: a tree (one field) or pipapo (concatenation; deleting costs time in proportion
    /// to the set). Ranges must not overlap.
    Ranges,
}

/// One element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Key,
    /// Its answer, in verdict maps.
    pub verdict: Option<Verdict>,
}

impl Element {
    /// An element of a set.
    pub fn member(key: impl Into<Key>) -> Self {
        Self { key: key.into(), verdict: None }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Key>, verdict: Verdict) -> Self {
        Self { key: key.into(), verdict: Some(verdict) }
    }
}

/// What happens to the packet next.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It has passed this base chain.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// The next rule.
    Continue,
    /// Another chain; its end returns here.
    Jump(Name),
    /// Another chain; its end returns to our caller.
    Goto(Name),
}

impl Verdict {
    /// Goes to `chain`, without coming back.
    pub fn goto(chain: impl Into<Name>) -> Self {
        Self::Goto(chain.into())
    }

    /// Goes to `chain` and comes back at its end.
    pub fn jump(chain: impl Into<Name>) -> Self {
        Self::Jump(chain.into())
    }

    /// The chain that this leads to.
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return | Self::Continue => None,
        }
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
