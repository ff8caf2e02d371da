//! From places in the tables to Route Monitoring messages, each packed with as many prefixes as fit.

use std::time::Duration;

use super::config::TableSet;
use super::source::{Source, own_next_hop, plain};
use crate::bmp::{PeerHeader, Table, route_monitoring};
use crate::rib::attribute::AttrId;
use crate::rib::path::{LOCAL, PathId, PeerIndex};
use crate::rib::prefix::PrefixId;
use crate::rib::watch::{Change, Side, Topic};
use crate::wire::{self, Codec, Family, MessageSize, PeerKind};

/// What is said of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Say {
    Withdraw,
    Announce(AttrId),
}

/// One thing to say. In order, what fits one message stands together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    peer: PeerIndex,
    table: Table,
    family: Family,
    say: Say,
    prefix: PrefixId,
    identifier: u32,
}

impl Entry {
    fn fits(&self, other: &Self) -> bool {
        (self.peer, self.table, self.family, self.say)
            == (other.peer, other.table, other.family, other.say)
    }
}

/// Things to say, of the tables that a station wants.
#[derive(Debug)]
pub(super) struct Entries {
    tables: TableSet,
    list: Vec<Entry>,
}

impl Entries {
    pub(super) const fn new(tables: TableSet) -> Self {
        Self { tables, list: Vec::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    fn add(&mut self, (table, peer): (Table, PeerIndex), topic: Topic, say: Say) {
        if self.tables.contains(table) {
            let Topic { prefix, identifier, .. } = topic;
            let family = prefix.family();
            self.list.push(Entry { peer, table, family, say, prefix, identifier });
        }
    }

    /// What has become of a place that changed.
    pub(super) fn add_change(&mut self, source: &Source<'_>, topic: Topic, change: Change) {
        let Source { rib, groups, .. } = source;
        let mut say = |place, changed, had, now: Option<AttrId>| match now {
            _ if !change.has(changed) => {}
            Some(attr) => self.add(place, topic, Say::Announce(attr)),
            None if change.has(had) => self.add(place, topic, Say::Withdraw),
            None => {}
        };
        match topic.side {
            Side::In(peer) => {
                let path = rib.paths.find(&rib.prefixes, topic.prefix, peer, topic.identifier);
                let received = path.map(|id| rib.paths.received(id));
                let imported = path.and_then(|id| eligible(source, id));
                say((Table::PrePolicy, peer), Change::PRE, Change::HAD_PRE, received);
                say((Table::PostPolicy, peer), Change::POST, Change::HAD_POST, imported);
            }
            Side::Best => {
                let best = rib.best(topic.prefix).map(|path| path.attr);
                say((Table::LocRib, LOCAL), Change::POST, Change::HAD_POST, best);
            }
            Side::Out(peer) => {
                let mut told = groups.told(peer, topic.prefix);
                let told = told.find(|(identifier, _)| *identifier == topic.identifier);
                let told = told.map(|(_, attr)| attr);
                say((Table::AdjRibOut, peer), Change::POST, Change::HAD_POST, told);
            }
        }
    }

    /// What a peer has told of a prefix.
    pub(super) fn add_heard(&mut self, source: &Source<'_>, prefix: PrefixId, id: PathId) {
        let Source { rib, .. } = source;
        let peer = rib.paths.get(id).peer;
        let topic = Topic { prefix, side: Side::In(peer), identifier: rib.paths.identifier(id) };
        self.add((Table::PrePolicy, peer), topic, Say::Announce(rib.paths.received(id)));
        if let Some(attr) = eligible(source, id) {
            self.add((Table::PostPolicy, peer), topic, Say::Announce(attr));
        }
    }

    /// What is chosen for a prefix.
    pub(super) fn add_best(&mut self, source: &Source<'_>, prefix: PrefixId) {
        if let Some(path) = source.rib.best(prefix) {
            let topic = Topic { prefix, side: Side::Best, identifier: 0 };
            self.add((Table::LocRib, LOCAL), topic, Say::Announce(path.attr));
        }
    }

    /// What a peer is told of a prefix.
    pub(super) fn add_told(&mut self, source: &Source<'_>, prefix: PrefixId, peer: PeerIndex) {
        for (identifier, attr) in source.groups.told(peer, prefix) {
            let topic = Topic { prefix, side: Side::Out(peer), identifier };
            self.add((Table::AdjRibOut, peer), topic, Say::Announce(attr));
        }
    }

    /// Appends the messages; says how many. `headers` knows the peers.
    pub(super) fn emit(
        mut self,
        out: &mut Vec<u8>,
        source: &Source<'_>,
        time: Option<Duration>,
        headers: impl Fn(PeerIndex) -> Option<PeerHeader>,
    ) -> u64 {
        self.list.sort_unstable();
        let mut messages = 0;
        for run in self.list.chunk_by(Entry::fits) {
            let first = run[0];
            // A peer that has gone down meanwhile: the station knows, or will be told first.
            let Some((header, codec)) = voice(source, first, &headers) else { continue };
            let mut rest = run;
            while !rest.is_empty() {
                let mut written = 0;
                let table = (first.table, codec.asn_width);
                route_monitoring(out, &header, table, time, |out| {
                    written = update(out, source, &codec, rest);
                });
                rest = &rest[written..];
                messages += 1;
            }
        }
        messages
    }
}

/// The attributes of a path, if it may be chosen.
fn eligible(source: &Source<'_>, id: PathId) -> Option<AttrId> {
    let path = source.rib.paths.get(id);
    path.is_eligible().then_some(path.attr)
}

/// In whose name an entry is said, and how it is written.
fn voice(
    source: &Source<'_>,
    entry: Entry,
    headers: impl Fn(PeerIndex) -> Option<PeerHeader>,
) -> Option<(PeerHeader, Codec)> {
    if entry.table == Table::LocRib {
        return Some((source.own_header(), plain(PeerKind::Internal)));
    }
    let session = source.session(entry.peer)?;
    let codec = match entry.table {
        Table::AdjRibOut => session.codec_out(),
        Table::PrePolicy | Table::PostPolicy | Table::LocRib => session.codec_in(),
    };
    Some((headers(entry.peer)?, codec))
}

/// Appends one UPDATE for the first of the entries, which say the same; says how many went in.
fn update(out: &mut Vec<u8>, source: &Source<'_>, codec: &Codec, run: &[Entry]) -> usize {
    let Entry { family, say, .. } = run[0];
    let rib = source.rib;
    let prefixes = || run.iter().map(|entry| (entry.identifier, rib.prefixes.prefix(entry.prefix)));
    match say {
        Say::Withdraw => wire::withdraw(out, codec, family, prefixes()),
        Say::Announce(attr) => {
            let block = rib.attributes.get(attr);
            let next_hop = block.next_hop.unwrap_or_else(|| own_next_hop(source.config, family));
            // Long messages only where there is no other way: not every station has room for them.
            let long = Codec { message_size: MessageSize::Extended, ..*codec };
            wire::announce(out, codec, block.raw, next_hop, family, prefixes())
                .or_else(|_| wire::announce(out, &long, block.raw, next_hop, family, prefixes()))
                // Attributes beyond the size of any message cannot be told.
                .unwrap_or_else(|error| {
                    wire::withdraw(out, codec, family, prefixes().take(error.prefixes))
                })
        }
    }
}
