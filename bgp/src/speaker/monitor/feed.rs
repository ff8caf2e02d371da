//! What one station has been told, and has yet to be told, since its connection came up.
//!
//! No message waits here: changes are remembered as places in the tables, each once, and written
//! down when the station can take them, as they are then. A station that falls behind is thus told
//! less, not later; and what the walk over the tables has yet to reach is not remembered at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::compose::Entries;
use super::config::StationConfig;
use super::source::{Session, Source};
use super::walk::{Progress, Walk};
use crate::bmp::{self, Connection, Down, PeerHeader, Statistic, Table};
use crate::rib::Rib;
use crate::rib::group::Groups;
use crate::rib::path::PeerIndex;
use crate::rib::prefix::PrefixId;
use crate::rib::watch::{Change, Side, Topic};
use crate::wire::iana::bmp::statistic;
use crate::wire::{self, AsnWidth, Family, FamilySet};

/// Places looked at for one piece of output.
const ENOUGH: usize = 512;
/// Steps taken in search of something to say before others get their turn.
const STEPS: usize = 8;
/// Changed places that are remembered beside all that are taken in the tables. More, and it is
/// cheaper to begin anew.
const SPARE_PLACES: usize = 65_536;

/// A peer that a station knows to be up.
#[derive(Debug)]
pub(super) struct Told {
    /// The number of the session.
    session: u64,
    header: PeerHeader,
    /// Families of which an End-of-RIB was told, by [`Table`].
    ends: [FamilySet; 4],
}

/// One connection's worth of news.
#[derive(Debug)]
pub(super) struct Feed {
    config: StationConfig,
    greeted: bool,
    told: BTreeMap<PeerIndex, Told>,
    /// Why sessions that the station knows of have ended.
    ended: BTreeMap<PeerIndex, Down>,
    /// Peers that came up with paths of before, which are to be told again.
    kept: BTreeSet<PeerIndex>,
    pending: BTreeMap<Topic, Change>,
    /// Where to go on in `pending`, so that those behind are not forgotten over those in front.
    resume: Option<Topic>,
    walks: Vec<Walk>,
    loc_rib_ends: FamilySet,
    /// Sessions, or what they have told to the end, may have changed.
    pub(super) stirred: bool,
    pub(super) report_due: bool,
    /// The edge knows that there is something to send.
    pub(super) announced: bool,
    pub(super) messages: u64,
}

impl Feed {
    pub(super) fn new(config: StationConfig) -> Self {
        Self {
            config,
            greeted: false,
            told: BTreeMap::new(),
            ended: BTreeMap::new(),
            kept: BTreeSet::new(),
            pending: BTreeMap::new(),
            resume: None,
            walks: vec![Walk::of_all()],
            loc_rib_ends: FamilySet::EMPTY,
            stirred: true,
            report_due: false,
            announced: false,
            messages: 0,
        }
    }

    /// Whether there is something to say.
    pub(super) fn has_news(&self) -> bool {
        self.stirred || self.report_due || !self.pending.is_empty() || !self.walks.is_empty()
    }

    /// Whether everything that stood in the tables at the beginning was told.
    pub(super) const fn is_complete(&self) -> bool {
        self.greeted && self.walks.is_empty()
    }

    /// How many changed places wait.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Whether more changes are remembered than it pays.
    pub(super) fn is_swamped(&self, rib: &Rib, groups: &Groups) -> bool {
        let spare = self.pending.len().saturating_sub(SPARE_PLACES);
        spare > 0 && spare > self.places(rib, groups)
    }

    /// How many places are taken in the tables that the station is told of.
    fn places(&self, rib: &Rib, groups: &Groups) -> usize {
        let tables = self.config.tables;
        let mut places = 0;
        if tables.contains(Table::PrePolicy) || tables.contains(Table::PostPolicy) {
            places += rib.paths.len();
        }
        if tables.contains(Table::LocRib) {
            places += rib.loc_rib.iter().map(|count| *count as usize).sum::<usize>();
        }
        if tables.contains(Table::AdjRibOut) {
            let told = self.told.keys().flat_map(|peer| Family::ALL.map(|family| (*peer, family)));
            let told = told.map(|(peer, family)| groups.advertised_count(peer, family));
            places += usize::try_from(told.sum::<u64>()).unwrap_or(usize::MAX);
        }
        places
    }

    pub(super) fn session_up(&mut self, peer: PeerIndex, has_paths: bool) {
        self.stirred = true;
        if has_paths {
            self.kept.insert(peer);
        }
    }

    pub(super) fn session_down(&mut self, peer: PeerIndex, why: &Down) {
        self.stirred = true;
        if self.told.contains_key(&peer) {
            self.ended.entry(peer).or_insert_with(|| why.clone());
        }
    }

    /// Notes that something changed.
    pub(super) fn mark(&mut self, topic: Topic, change: Change) {
        let tables = self.config.tables;
        let wanted = match topic.side {
            Side::In(_) => {
                change.has(Change::PRE) && tables.contains(Table::PrePolicy)
                    || change.has(Change::POST) && tables.contains(Table::PostPolicy)
            }
            Side::Best => tables.contains(Table::LocRib),
            Side::Out(_) => tables.contains(Table::AdjRibOut),
        };
        if wanted && !self.walks.iter().any(|walk| walk.will_tell(topic.prefix)) {
            let known = self.pending.entry(topic).or_insert(change);
            *known = known.then(change);
        }
    }

    /// Whether a change of a prefix waits: its number must stay.
    pub(super) fn concerns(&self, prefix: PrefixId) -> bool {
        let first = Topic { prefix, side: Side::In(PeerIndex(0)), identifier: 0 };
        self.pending.range(first..).next().is_some_and(|(topic, _)| topic.prefix == prefix)
    }

    /// The next messages; nothing when all is said, or when the search for more took long enough:
    /// then there still is news.
    pub(super) fn next(&mut self, now: Instant, source: &Source<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if !self.greeted {
            self.greeted = true;
            self.greet(&mut out, source);
        }
        for _ in 0..STEPS {
            if !out.is_empty() || !self.has_news() {
                break;
            }
            if self.stirred {
                self.stirred = false;
                self.tell_sessions(now, source, &mut out);
            } else if !self.pending.is_empty() {
                self.tell_changes(source, &mut out);
            } else if !self.walks.is_empty() {
                self.walk(source, &mut out);
            } else {
                self.report_due = false;
                self.report(source, &mut out);
            }
            self.tell_ends(source, &mut out);
        }
        (!out.is_empty()).then_some(out)
    }

    fn greet(&mut self, out: &mut Vec<u8>, source: &Source<'_>) {
        let monitoring = &source.config.monitoring;
        bmp::initiation(out, &monitoring.name, &monitoring.description);
        self.messages += 1;
        if self.config.tables.contains(Table::LocRib) {
            let open = source.own_open();
            let connection =
                Connection { local: None, remote_port: 0, sent: &open, received: &open };
            bmp::peer_up(out, &source.own_header(), Table::LocRib, source.time, connection);
            self.messages += 1;
        }
    }

    /// Tells which sessions have ended and begun.
    pub(super) fn tell_sessions(&mut self, now: Instant, source: &Source<'_>, out: &mut Vec<u8>) {
        let stands = |index: &PeerIndex, told: &Told| {
            let session = source.session(*index);
            session.is_some_and(|session| session.peer.flaps == told.session)
        };
        let gone: Vec<PeerIndex> = self
            .told
            .iter()
            .filter(|(index, told)| !stands(index, told))
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            let Some(told) = self.told.remove(&index) else { continue };
            self.walks.retain(|walk| !walk.is_only_of(index));
            let why = self.ended.remove(&index).unwrap_or(Down::Lost);
            bmp::peer_down(out, &told.header, Table::PrePolicy, source.time, &why);
            self.messages += 1;
        }
        if !self.config.tables.of_peers() {
            return;
        }
        for index in source.peers.keys().copied() {
            if !self.told.contains_key(&index)
                && let Some(session) = source.session(index)
            {
                self.tell_session(now, source, out, session);
            }
        }
    }

    fn tell_session(
        &mut self,
        now: Instant,
        source: &Source<'_>,
        out: &mut Vec<u8>,
        session: Session<'_>,
    ) {
        let Session { peer, link, .. } = session;
        let header = session.header();
        let mut sent = Vec::new();
        if let Some(open) = &link.open {
            open.emit(&mut sent);
        }
        let connection = Connection {
            local: link.local,
            remote_port: link.remote_port,
            sent: &sent,
            received: &link.open_heard,
        };
        let time = source.time_of(now, peer.since);
        bmp::peer_up(out, &header, Table::PrePolicy, time, connection);
        self.messages += 1;
        let told = Told { session: peer.flaps, header, ends: [FamilySet::EMPTY; 4] };
        self.told.insert(peer.index, told);
        if self.kept.remove(&peer.index) {
            self.walks.push(Walk::of_peer(peer.index));
        }
    }

    fn tell_changes(&mut self, source: &Source<'_>, out: &mut Vec<u8>) {
        let mut entries = Entries::new(self.config.tables);
        while entries.len() < ENOUGH {
            let next = self.resume.and_then(|from| self.pending.range(from..).next());
            let Some((topic, change)) = next.or_else(|| self.pending.first_key_value()) else {
                break;
            };
            let (topic, change) = (*topic, *change);
            self.pending.remove(&topic);
            self.resume = Some(topic);
            entries.add_change(source, topic, change);
        }
        self.emit(entries, source, out, Age::New);
    }

    fn walk(&mut self, source: &Source<'_>, out: &mut Vec<u8>) {
        let mut entries = Entries::new(self.config.tables);
        let Some(walk) = self.walks.last_mut() else { return };
        let progress = walk.advance(source, &self.told, &mut entries, ENOUGH);
        if progress == Progress::Done {
            self.walks.pop();
        }
        self.emit(entries, source, out, Age::Unknown);
    }

    fn emit(&mut self, entries: Entries, source: &Source<'_>, out: &mut Vec<u8>, age: Age) {
        let time = match age {
            Age::New => source.time,
            // RFC 7854 §4.2: zero stands for a time that is not known.
            Age::Unknown => None,
        };
        let told = &self.told;
        let headers = |peer| told.get(&peer).map(|told| told.header);
        self.messages += entries.emit(out, source, time, headers);
    }

    /// An End-of-RIB for each table that is told to the end (RFC 7854 §5).
    fn tell_ends(&mut self, source: &Source<'_>, out: &mut Vec<u8>) {
        if !self.pending.is_empty() || !self.walks.is_empty() {
            return;
        }
        let tables = self.config.tables;
        for (index, told) in &mut self.told {
            let Some(session) = source.session(*index) else { continue };
            for table in tables.iter().filter(|table| *table != Table::LocRib) {
                for family in session.terms.codec.families.iter() {
                    let ends = &mut told.ends[table as usize];
                    if !ends.contains(family) && is_told(&session, table, family) {
                        ends.insert(family);
                        end_of_rib(out, source, (told.header, table), family);
                        self.messages += 1;
                    }
                }
            }
        }
        if tables.contains(Table::LocRib) {
            for family in Family::ALL {
                if !source.rib.deferred.contains(family) && !self.loc_rib_ends.contains(family) {
                    self.loc_rib_ends.insert(family);
                    end_of_rib(out, source, (source.own_header(), Table::LocRib), family);
                    self.messages += 1;
                }
            }
        }
    }

    /// How many routes there are.
    fn report(&mut self, source: &Source<'_>, out: &mut Vec<u8>) {
        for (index, told) in &self.told {
            let Some(session) = source.session(*index) else { continue };
            let heard = source.rib.neighbor(*index).paths;
            let said = |family| source.groups.advertised_count(*index, family);
            let families = session.terms.codec.families;
            let total_said = families.iter().map(said).sum();
            let total_heard = families.iter().map(|family| u64::from(heard[family.index()])).sum();
            let mut gauges = vec![
                Statistic { kind: statistic::ADJ_RIB_IN, family: None, value: total_heard },
                Statistic { kind: statistic::ADJ_RIB_OUT, family: None, value: total_said },
            ];
            for family in families.iter() {
                let (kind, value) = (statistic::FAMILY_ADJ_RIB_IN, heard[family.index()].into());
                gauges.push(Statistic { kind, family: Some(family), value });
                let (kind, value) = (statistic::FAMILY_ADJ_RIB_OUT, said(family));
                gauges.push(Statistic { kind, family: Some(family), value });
            }
            bmp::statistics(out, &told.header, Table::PrePolicy, source.time, &gauges);
            self.messages += 1;
        }
        if self.config.tables.contains(Table::LocRib) {
            let count = |family: Family| u64::from(source.rib.loc_rib[family.index()]);
            let total = Family::ALL.into_iter().map(count).sum();
            let mut gauges =
                vec![Statistic { kind: statistic::LOC_RIB, family: None, value: total }];
            gauges.extend(Family::ALL.map(|family| Statistic {
                kind: statistic::FAMILY_LOC_RIB,
                family: Some(family),
                value: count(family),
            }));
            bmp::statistics(out, &source.own_header(), Table::LocRib, source.time, &gauges);
            self.messages += 1;
        }
    }
}

/// Whether it is known when something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    Unknown,
}

/// Whether a peer has told us, or was told, all of a family.
fn is_told(session: &Session<'_>, table: Table, family: Family) -> bool {
    let peer = session.peer;
    match table {
        Table::AdjRibOut => !peer.end_of_rib_due.contains(family),
        Table::PrePolicy | Table::PostPolicy | Table::LocRib => {
            peer.end_of_rib.contains(family) || peer.presumed_complete
        }
    }
}

fn end_of_rib(
    out: &mut Vec<u8>,
    source: &Source<'_>,
    (header, table): (PeerHeader, Table),
    family: Family,
) {
    bmp::route_monitoring(out, &header, (table, AsnWidth::Four), source.time, |out| {
        wire::end_of_rib(out, family);
    });
}
