//! nftables as values: what a table holds, what changes it, and how both are read by people and by the kernel.
//!
//! - `table`, `key`, `statement`: the nouns. One [`Table`] of [`Chain`]s and [`Set`]s.
//! - `transaction`: [`Transaction`], an atomic list of changes; executes in memory as it does in the kernel.
//! - `diff`: from what is to what should be.
//! - `text`: `Display` is what an operator would type into `nft -f`.
//! - `encode`, `expression` and `decode`, `register`: the netlink form, the one that nft itself would send.
//!
//! Pure: no socket, no clock. `dataplane::kernel` moves the bytes.

mod decode;
mod diff;
mod encode;
mod expression;
mod key;
mod register;
pub mod statement;
mod table;
mod text;
mod transaction;
pub(crate) mod uapi;
pub(crate) mod wire;

pub use decode::{Counted, DecodeError, Dump};
pub use diff::diff;
pub use encode::{Batch, encode};
pub(crate) use encode::{INET_HEADER, message_type};
pub use key::{FieldType, Key, KeyType, MAX_FIELDS, Part};
pub use statement::{
    AddressType, CtState, CtStatus, Family, Field, PortChoice, Sense, Statement, Test,
};
pub use table::{
    Base, Chain, ChainType, Element, Hook, Matching, Name, Policy, Rule, Set, SetKind, SetType,
    Table, Verdict,
};
pub use transaction::{Op, Refused, Transaction, Why};
