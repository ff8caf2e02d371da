//! The messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::peer::put_address;
use super::{PeerHeader, Table};
use crate::wire::iana::bmp::{self, information, message, peer_down as reason, termination as end};
use crate::wire::{AfiSafi, AsnWidth, Family};

/// Appends a message: version, length and type, then what `body` appends.
fn emit(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[bmp::VERSION, 0, 0, 0, 0, kind]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("a message holds one BGP message");
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

/// Type, length, value. A text too long for the length is cut.
fn put_information(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&value[..length.into()]);
}

/// Appends an Initiation (RFC 7854 §4.3): who speaks.
pub fn initiation(out: &mut Vec<u8>, name: &str, description: &str) {
    emit(out, message::INITIATION, |out| {
        put_information(out, information::SYS_DESCR, description.as_bytes());
        put_information(out, information::SYS_NAME, name.as_bytes());
    });
}

/// Appends a Termination (RFC 7854 §4.5): the operator has closed, and a text.
pub fn termination(out: &mut Vec<u8>, text: &str) {
    emit(out, message::TERMINATION, |out| {
        if !text.is_empty() {
            put_information(out, end::STRING, text.as_bytes());
        }
        put_information(out, end::REASON, &end::ADMINISTRATIVELY_CLOSED.to_be_bytes());
    });
}

/// The session that a Peer Up tells of.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Our end.
    pub local: Option<SocketAddr>,
    /// The peer's TCP port.
    pub remote_port: u16,
    /// The OPEN that we sent, a whole message.
    pub sent: &'a [u8],
    /// The OPEN that the peer sent.
    pub received: &'a [u8],
}

/// Appends a Peer Up (RFC 7854 §4.10). The Loc-RIB comes up as a peer, too (RFC 9069 §4.4).
pub fn peer_up(
    out: &mut Vec<u8>,
    peer: &PeerHeader,
    table: Table,
    time: Option<Duration>,
    connection: Connection<'_>,
) {
    emit(out, message::PEER_UP, |out| {
        peer.emit(out, table, AsnWidth::Four, time);
        put_address(out, connection.local.map(|local| canonical(local.ip())));
        let local_port = connection.local.map_or(0, |local| local.port());
        out.extend_from_slice(&local_port.to_be_bytes());
        out.extend_from_slice(&connection.remote_port.to_be_bytes());
        out.extend_from_slice(connection.sent);
        out.extend_from_slice(connection.received);
        if table == Table::LocRib {
            // RFC 9069 §4.4: the name of the default table.
            put_information(out, information::TABLE_NAME, b"global");
        }
    });
}

const fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why a session is over (RFC 7854 §4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// We sent this NOTIFICATION, a whole message.
    SentNotification(Vec<u8>),
    /// We closed without one, upon an event of RFC 4271 §8.1; 0: none fits.
    Closed(u16),
    /// The peer sent this NOTIFICATION, a whole message.
    ReceivedNotification(Vec<u8>),
    /// The connection ended.
    Lost,
    /// It may go on, but nothing more is told of it.
    NoLongerMonitored,
}

/// Appends a Peer Down. All that was told of the peer's tables is void with it.
pub fn peer_down(
    out: &mut Vec<u8>,
    peer: &PeerHeader,
    table: Table,
    time: Option<Duration>,
    why: &Down,
) {
    emit(out, message::PEER_DOWN, |out| {
        peer.emit(out, table, AsnWidth::Four, time);
        match why {
            Down::SentNotification(notification) => {
                out.push(reason::LOCAL_NOTIFICATION);
                out.extend_from_slice(notification);
            }
            Down::Closed(event) => {
                out.push(reason::LOCAL);
                out.extend_from_slice(&event.to_be_bytes());
            }
            Down::ReceivedNotification(notification) => {
                out.push(reason::REMOTE_NOTIFICATION);
                out.extend_from_slice(notification);
            }
            Down::Lost => out.push(reason::REMOTE),
            Down::NoLongerMonitored => out.push(reason::DE_CONFIGURED),
        }
    });
}

/// Appends a Route Monitoring (RFC 7854 §4.6) around the UPDATE that `update` appends. `width` is
/// that of the AS numbers in it.
pub fn route_monitoring(
    out: &mut Vec<u8>,
    peer: &PeerHeader,
    (table, width): (Table, AsnWidth),
    time: Option<Duration>,
    update: impl FnOnce(&mut Vec<u8>),
) {
    emit(out, message::ROUTE_MONITORING, |out| {
        peer.emit(out, table, width, time);
        update(out);
    });
}

/// A gauge of a Statistics Report (RFC 7854 §4.8): a number of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistic {
    /// Which, from the registry.
    pub kind: u16,
    /// For those that are counted by family.
    pub family: Option<Family>,
    /// The number.
    pub value: u64,
}

/// Appends a Statistics Report.
pub fn statistics(
    out: &mut Vec<u8>,
    peer: &PeerHeader,
    table: Table,
    time: Option<Duration>,
    gauges: &[Statistic],
) {
    emit(out, message::STATISTICS_REPORT, |out| {
        peer.emit(out, table, AsnWidth::Four, time);
        let count = u32::try_from(gauges.len()).expect("a handful");
        out.extend_from_slice(&count.to_be_bytes());
        for gauge in gauges {
            let mut value = Vec::with_capacity(11);
            if let Some(family) = gauge.family {
                let AfiSafi { afi, safi } = family.into();
                value.extend_from_slice(&afi.to_be_bytes());
                value.push(safi);
            }
            value.extend_from_slice(&gauge.value.to_be_bytes());
            put_information(out, gauge.kind, &value);
        }
    });
}
