//! nftables as values: what a table holds, what changes it, and how both are read by people and by the kernel.
//!
//! - `table`, `key`, `statement`: the nouns. One [`Table`] of [`Chain`]s and [`Set`]s.
//! - `transaction`: [`Transaction`], an atomic list of changes; executes in memory as it does in the kernel.
//! - `diff`: from what is to what should be.
//! - `text`: `Display` is what an operator would type into `nft -f`.
//!
//! Pure: no socket, no clock. `dataplane::kernel` moves the bytes.

mod diff;
mod key;
pub mod statement;
mod table;
mod text;
mod transaction;

pub use diff::diff;
pub use key::{FieldType, Key, KeyType, MAX_FIELDS, Part};
pub use statement::{
    AddressType, CtState, CtStatus, Family, Field, PortChoice, Sense, Statement, Test,
};
pub use table::{
    Base, Chain, ChainType, Element, Hook, Matching, Name, Policy, Rule, Set, SetKind, SetType,
    Table, Verdict,
};
pub use transaction::{Op, Refused, Transaction, Why};
