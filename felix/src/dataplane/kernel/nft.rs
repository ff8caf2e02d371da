//! The owner of our nftables table in the kernel: one socket, one writer.
//!
//! The kernel counts generations of the whole ruleset, not of our table. A batch names the generation that
//! it was made for and is refused when another program committed meanwhile; then the notifications tell
//! whether that touched our table. If not, the same batch is sent again for the new generation.

use std::{io, thread, time::Duration};

use nix::sys::socket::SockProtocol;

use super::{
    super::{CommitError, Rejection},
    socket::{Answer, Dumped, Socket},
};
use crate::nft::{
    Batch, Counted, Dump, INET_HEADER, Name, Table, Transaction, encode, message_type,
    uapi::*,
    wire::{self, Header},
};

/// `NFNLGRP_NFTABLES` is group 7.
const NFTABLES_GROUP: u32 = 1 << 6;
/// What the kernel answers to a batch for another generation.
const ERESTART: i32 = 85;
/// How often a batch is sent again because of commits to other tables.
const ATTEMPTS: u32 = 32;
/// Between two attempts to read, growing.
const PAUSE: Duration = Duration::from_millis(1);
/// Notifications of other programs' bulk loads fit in here; ours are filtered out.
const NOTIFICATION_BUFFER: usize = 8 << 20;

/// Our table in the kernel.
pub struct Nft {
    table: Name,
    socket: Socket,
    watch: Watch,
    generation: u32,
}

impl Nft {
    /// Opens the sockets. Needs `CAP_NET_ADMIN`. Read before committing: a commit is refused when the
    /// table was touched since.
    ///
    /// # Errors
    /// When the kernel gives no netfilter socket.
    pub fn open(table: impl Into<Name>) -> io::Result<Self> {
        let table = table.into();
        let mut socket = Socket::open(SockProtocol::NetlinkNetFilter, 0)?;
        let watch = Watch::open(table.clone(), socket.port())?;
        let generation = generation(&mut socket)?;
        Ok(Self { table, socket, watch, generation })
    }

    /// The address of the socket that commits; notifications of our own changes carry it.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The name of our table.
    pub fn table(&self) -> &Name {
        &self.table
    }

    /// Reads our table; an empty one when there is none.
    ///
    /// # Errors
    /// When the kernel refuses, or the table changes faster than it can be read.
    pub fn read(&mut self) -> io::Result<Table> {
        for attempt in 0..ATTEMPTS {
            // The kernel may need a moment to settle.
            thread::sleep(PAUSE * attempt);
            self.watch.drain()?;
            let before = generation(&mut self.socket)?;
            let (table, dumped) = match self.dump() {
                // A set went while we asked for its elements.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                other => other?,
            };
            self.generation = generation(&mut self.socket)?;
            // Element dumps do not say when commits interrupted them: only an equal generation does.
            if dumped == Dumped::Whole && self.generation == before {
                return Ok(table);
            }
        }
        Err(io::Error::other(format!("table {} changes faster than it can be read", self.table)))
    }

    fn exists(&mut self) -> io::Result<bool> {
        let body = |w: &mut wire::Writer| {
            w.raw(&INET_HEADER);
            w.string(NFTA_TABLE_NAME, &self.table);
        };
        match self.socket.request(message_type(NFT_MSG_GETTABLE), 0, body, |_, _| ()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn dump(&mut self) -> io::Result<(Table, Dumped)> {
        let mut dump = Dump::new(self.table.clone());
        if !self.exists()? {
            return Ok((dump.finish(), Dumped::Whole));
        }
        let table = self.table.clone();
        let mut whole = Dumped::Whole;
        for kind in [NFT_MSG_GETCHAIN, NFT_MSG_GETSET, NFT_MSG_GETRULE] {
            let dumped = self.dump_into(&mut dump, kind, |w| {
                // The kernel filters rules and sets by table; all of its chains it gives anyway.
                if kind != NFT_MSG_GETCHAIN {
                    w.string(NFTA_RULE_TABLE, &table);
                }
            })?;
            whole = whole.and(dumped);
        }
        let sets: Vec<Name> = dump.sets().cloned().collect();
        for set in sets {
            let dumped = self.dump_into(&mut dump, NFT_MSG_GETSETELEM, |w| {
                w.string(NFTA_SET_ELEM_LIST_TABLE, &table);
                w.string(NFTA_SET_ELEM_LIST_SET, &set);
            })?;
            whole = whole.and(dumped);
        }
        if dump.is_torn() {
            whole = Dumped::Interrupted;
        }
        Ok((dump.finish(), whole))
    }

    fn dump_into(
        &mut self,
        dump: &mut Dump,
        kind: u8,
        body: impl FnOnce(&mut wire::Writer),
    ) -> io::Result<Dumped> {
        let mut bad = None;
        let header = |w: &mut wire::Writer| {
            w.raw(&INET_HEADER);
            body(w);
        };
        let dumped = self.socket.dump(message_type(kind), header, |header, payload| {
            if let Err(error) = dump.push(message_of(header), payload) {
                bad = Some(error);
            }
        })?;
        match bad {
            None => Ok(dumped),
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// The counters of our rules.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self) -> io::Result<Vec<Counted>> {
        let mut counted = Vec::new();
        let Self { table, socket, .. } = self;
        let body = |w: &mut wire::Writer| w.raw(&INET_HEADER);
        socket.dump(message_type(NFT_MSG_GETRULE), body, |_, payload| {
            counted.extend(Counted::in_rule(table, payload));
        })?;
        Ok(counted)
    }

    /// Commits the transaction: all of it or nothing.
    ///
    /// # Errors
    /// See [`CommitError`] for what to do about each.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        if transaction.is_empty() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            if self.watch.drain()? == Seen::Ours {
                return Err(CommitError::Drifted(self.table.to_string()));
            }
            let batch = encode(transaction, Some(self.generation), self.socket.next_seq());
            match self.send(&batch, transaction)? {
                Sent::Committed => {
                    self.generation = next_generation(self.generation);
                    return Ok(());
                }
                Sent::Stale => self.generation = generation(&mut self.socket)?,
            }
        }
        Err(CommitError::Unknown("other programs commit faster than we do".into()))
    }

    fn send(&mut self, batch: &Batch, transaction: &Transaction) -> Result<Sent, CommitError> {
        // One sequence number more for the end of the batch.
        self.socket.send(&batch.bytes, batch.acknowledged().wrapping_add(1))?;
        let answers = self
            .socket
            .answers()
            .map_err(|error| CommitError::Unknown(format!("the answers were lost: {error}")))?;
        judge(&answers, batch, transaction)
    }
}

enum Sent {
    Committed,
    /// Nothing happened: the ruleset has another generation.
    Stale,
}

/// What the answers to a batch mean. Any error means that nothing happened; so does silence, for all that
/// is known.
fn judge(
    answers: &[Answer],
    batch: &Batch,
    transaction: &Transaction,
) -> Result<Sent, CommitError> {
    if answers.iter().any(|a| a.seq == batch.first_seq && a.errno == ERESTART) {
        return Ok(Sent::Stale);
    }
    let rejections: Vec<Rejection> = answers
        .iter()
        .filter(|answer| answer.errno != 0)
        .map(|answer| Rejection {
            change: match batch.op_of(answer.seq) {
                Some(op) => transaction.ops[op].summary(&transaction.table),
                None => "the transaction as a whole".into(),
            },
            errno: answer.errno,
        })
        .collect();
    if !rejections.is_empty() {
        return Err(CommitError::Rejected(rejections));
    }
    if answers.iter().any(|answer| answer.seq == batch.acknowledged()) {
        return Ok(Sent::Committed);
    }
    Err(CommitError::Unknown("the kernel did not acknowledge".into()))
}

impl Dumped {
    fn and(self, other: Self) -> Self {
        if self == Self::Whole { other } else { self }
    }
}

/// The generation of the ruleset.
fn generation(socket: &mut Socket) -> io::Result<u32> {
    let mut generation = None;
    let header = |w: &mut wire::Writer| w.raw(&INET_HEADER);
    socket.request(message_type(NFT_MSG_GETGEN), 0, header, |_, payload| {
        generation =
            payload.get(4..).and_then(|body| wire::find(body, NFTA_GEN_ID)).and_then(wire::be32);
    })?;
    generation.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no generation id"))
}

/// Zero is left out when the counter wraps.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// The nf_tables message of a netlink type.
fn message_of(header: Header) -> u8 {
    header.kind.to_le_bytes()[0]
}

/// Hears what other programs do to our table.
pub(super) struct Watch {
    table: Name,
    pub(super) socket: Socket,
}

/// What the notifications were about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Other tables, if anything.
    Others,
    /// Our table; or some were lost, and it may have been.
    Ours,
}

impl Watch {
    /// Hears everybody but the socket with the address `port`.
    pub(super) fn open(table: Name, port: u32) -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter, NFTABLES_GROUP)?;
        socket.set_receive_buffer(NOTIFICATION_BUFFER)?;
        socket.ignore(port)?;
        Ok(Self { table, socket })
    }

    /// Takes what is there.
    pub(super) fn drain(&mut self) -> io::Result<Seen> {
        let mut seen = Seen::Others;
        let Self { table, socket } = self;
        let result = socket.pending(|header, payload| {
            if is_about(table, header, payload) {
                seen = Seen::Ours;
            }
        });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                // The rest is as uninformative as what was lost.
                socket.pending(|_, _| ())?;
                Ok(Seen::Ours)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(seen),
        }
    }
}

/// Whether a notification is about the `inet` table of this name.
fn is_about(table: &str, header: Header, payload: &[u8]) -> bool {
    let Some((family, body)) = payload.split_at_checked(4) else { return false };
    // Every object names its table in its first attribute.
    let names_us = || wire::find(body, NFTA_TABLE_NAME).and_then(wire::string) == Some(table);
    message_of(header) != NFT_MSG_NEWGEN && family[0] == NFPROTO_INET && names_us()
}
