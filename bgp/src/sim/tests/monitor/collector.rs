//! A station that remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::bmp::Table;
use crate::wire::{self, Codec, Family, Message, MessageSize, PeerKind, Prefix};

/// Whose table: a peer's, or the Loc-RIB with the address 0.0.0.0.
pub(super) type Whose = (Table, String);

/// What a station knows: an AS path for each prefix and path identifier.
pub(super) type Tables = BTreeMap<Whose, BTreeMap<(Prefix, u32), String>>;

/// A station that remembers.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) up: BTreeSet<String>,
    pub(super) tables: Tables,
    pub(super) ends: BTreeSet<(Whose, Family)>,
    /// Peer, and reason code.
    pub(super) downs: Vec<(String, u8)>,
    pub(super) name: String,
    pub(super) reports: usize,
    pub(super) terminated: bool,
    pub(super) routes: usize,
}

impl Collector {
    pub(super) fn read(mut bytes: &[u8], several: bool) -> Self {
        let mut collector = Self::default();
        while let Some((head, _)) = bytes.split_first_chunk::<6>() {
            assert_eq!(head[0], 3);
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let (message, rest) = bytes.split_at(length);
            collector.message(head[5], &message[6..], several);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "half a message");
        collector
    }

    fn message(&mut self, kind: u8, body: &[u8], several: bool) {
        if kind >= 4 {
            self.terminated |= kind == 5;
            self.name += &String::from_utf8_lossy(body);
            return;
        }
        let (header, body) = body.split_at(42);
        let octets: [u8; 16] = header[10..26].try_into().unwrap();
        let address = if header[1] & 0x80 == 0 || header[0] == 3 {
            Ipv4Addr::from(<[u8; 4]>::try_from(&octets[12..]).unwrap()).to_string()
        } else {
            std::net::Ipv6Addr::from(octets).to_string()
        };
        let table = match (header[0], header[1] & 0x50) {
            (3, _) => Table::LocRib,
            (_, 0) => Table::PrePolicy,
            (_, 0x40) => Table::PostPolicy,
            (_, 0x50) => Table::AdjRibOut,
            other => panic!("{other:?}"),
        };
        match kind {
            0 => self.routes((table, address), body, several),
            1 => self.reports += 1,
            2 => {
                assert!(self.up.remove(&address), "{address} was not up");
                self.tables.retain(|(_, whose), _| *whose != address);
                self.ends.retain(|((_, whose), _)| *whose != address);
                self.downs.push((address, body[0]));
            }
            3 => assert!(self.up.insert(address), "up twice"),
            other => panic!("message of type {other}"),
        }
    }

    fn routes(&mut self, whose: Whose, update: &[u8], several: bool) {
        assert!(self.up.contains(&whose.1), "{whose:?} is not up");
        self.routes += 1;
        // Node 1 sends several paths, and node 2 is sent several, where the test says so.
        let ids = several
            && (matches!(whose.0, Table::PrePolicy | Table::PostPolicy) && whose.1 == "10.0.0.2"
                || whose.0 == Table::AdjRibOut && whose.1 == "10.0.0.3");
        let families = wire::FamilySet::ALL;
        let codec = Codec {
            families,
            asn_width: wire::AsnWidth::Four,
            message_size: MessageSize::Extended,
            add_path_receive: if ids { families } else { wire::FamilySet::EMPTY },
            ..Codec::baseline(PeerKind::Internal)
        };
        let frame = wire::frame(update, MessageSize::Extended).unwrap().unwrap();
        let Ok(Message::Update(update)) = Message::parse(frame, &codec) else {
            panic!("not an UPDATE")
        };
        let mut scratch = wire::Scratch::default();
        let checked = wire::check(&update, &codec, &mut scratch);
        if let Some(family) = checked.end_of_rib {
            assert!(self.ends.insert((whose, family)), "ended twice");
            return;
        }
        let path = wire::Attributes::new(scratch.block()).as_path().to_string();
        let table = self.tables.entry(whose).or_default();
        for (identifier, prefix) in update.withdrawn {
            table.remove(&(prefix, identifier));
        }
        for (identifier, prefix) in checked.unreach.into_iter().flatten() {
            table.remove(&(prefix, identifier));
        }
        for (identifier, prefix) in update.announced {
            table.insert((prefix, identifier), path.clone());
        }
        for (identifier, prefix) in checked.reach.into_iter().flat_map(|reach| reach.nlri) {
            table.insert((prefix, identifier), path.clone());
        }
    }
}
