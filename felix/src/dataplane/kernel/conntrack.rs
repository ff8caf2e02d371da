//! Forgetting the connections of an address, before another pod gets it.

use std::{io, net::IpAddr};

use nix::sys::socket::SockProtocol;

use super::{
    links::{parse_ip, put_ip},
    socket::Socket,
};
use crate::nft::wire::{Writer, find};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const NLA_F_NESTED: u16 = 0x8000;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_FILTER_F_IP_SRC: u32 = 1;
const CTA_FILTER_F_IP_DST: u32 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

/// Where an address stands in a connection. Behind address translation the four ends are four addresses.
#[derive(Debug, Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Deletes every tracked connection that has `address` at one of its ends, in the direction of the first
/// packet or of the replies. Gives the number deleted.
///
/// # Errors
/// When connections cannot be listed or deleted; one that ended meanwhile is no error.
pub fn forget(address: IpAddr) -> io::Result<usize> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter, 0)?;
    let mut forgotten = 0;
    for tuple in [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY] {
        for end in [End::Source, End::Destination] {
            for connection in matching(&mut socket, address, tuple, end)? {
                forgotten += usize::from(delete(&mut socket, address, &connection)?);
            }
        }
    }
    Ok(forgotten)
}

/// What identifies a connection: attributes of the listing that the deletion repeats.
type Identity = Vec<(u16, Vec<u8>)>;

fn matching(
    socket: &mut Socket,
    address: IpAddr,
    tuple: u16,
    end: End,
) -> io::Result<Vec<Identity>> {
    let mut found = Vec::new();
    let body = |w: &mut Writer| {
        w.raw(&header(address));
        w.nest(tuple, |w| w.nest(CTA_TUPLE_IP, |w| put_ip(w, attribute_of(address, end), address)));
        // For IPv6 the kernel's filter is no help: 6.18 leaves out what matches (its comparison is inverted).
        if address.is_ipv4() {
            let (flag, other) = match tuple {
                CTA_TUPLE_ORIG => (CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS),
                _ => (CTA_FILTER_REPLY_FLAGS, CTA_FILTER_ORIG_FLAGS),
            };
            w.nest(CTA_FILTER, |w| {
                w.ne32(flag, flag_of(end));
                w.ne32(other, 0);
            });
        }
    };
    socket.dump(IPCTNL_MSG_CT_GET, body, |_, payload| {
        let Some(body) = payload.get(4..) else { return };
        // Kernels before 5.8 do not filter at all.
        let ip = find(body, tuple)
            .and_then(|tuple| find(tuple, CTA_TUPLE_IP))
            .and_then(|ip| find(ip, attribute_of(address, end)))
            .and_then(parse_ip);
        if ip == Some(address) {
            found.push(identity(body));
        }
    })?;
    Ok(found)
}

fn identity(body: &[u8]) -> Identity {
    let kept = [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE];
    kept.iter().filter_map(|kind| Some((*kind, find(body, *kind)?.to_vec()))).collect()
}

/// Whether the connection was still there.
fn delete(socket: &mut Socket, address: IpAddr, connection: &Identity) -> io::Result<bool> {
    let body = |w: &mut Writer| {
        w.raw(&header(address));
        for (kind, value) in connection {
            let nested = if *kind == CTA_TUPLE_ORIG { NLA_F_NESTED } else { 0 };
            w.attribute(*kind | nested, value);
        }
    };
    match socket.request(IPCTNL_MSG_CT_DELETE, super::socket::NLM_F_ACK, body, |_, _| ()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}

/// `struct nfgenmsg`.
fn header(address: IpAddr) -> [u8; 4] {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    [if address.is_ipv4() { AF_INET } else { AF_INET6 }, 0, 0, 0]
}

fn attribute_of(address: IpAddr, end: End) -> u16 {
    match (address, end) {
        (IpAddr::V4(_), End::Source) => CTA_IP_V4_SRC,
        (IpAddr::V4(_), End::Destination) => CTA_IP_V4_DST,
        (IpAddr::V6(_), End::Source) => CTA_IP_V6_SRC,
        (IpAddr::V6(_), End::Destination) => CTA_IP_V6_DST,
    }
}

fn flag_of(end: End) -> u32 {
    match end {
        End::Source => CTA_FILTER_F_IP_SRC,
        End::Destination => CTA_FILTER_F_IP_DST,
    }
}
