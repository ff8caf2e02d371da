//! Our routes in the kernel: those of our protocol in the main table, and no other.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;

use super::{
    super::{
        NextHop, Onlink, PROTOCOL, Resolved, Route, RouteChanges, RouteError, RouteFailure,
        RouteKey, RouteKind, Routes, WantedWays,
    },
    links::{dump_links, parse_ip, put_ip},
    rtnetlink::*,
    socket::{NLM_F_ACK, NLM_F_REQUEST, Socket},
};
use crate::nft::wire::{Writer, attributes, find, ne16, ne32};

/// Messages in one datagram: more gains nothing, and every failure costs room in the receive buffer.
const PACK: usize = 256;
const ANSWER_BUFFER: usize = 4 << 20;

/// The socket that changes routes.
pub struct KernelRoutes {
    socket: Socket,
}

#[derive(Clone, Copy)]
enum Verb {
    Add,
    Replace,
    Delete,
}

impl KernelRoutes {
    /// Opens the socket. Changing routes needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkRoute, 0)?;
        socket.set_receive_buffer(ANSWER_BUFFER)?;
        // Only then does the kernel filter dumps by protocol and table.
        socket.check_strictly()?;
        Ok(Self { socket })
    }

    /// The address of the socket; notifications of our own changes carry it.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Reads our routes.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn read(&mut self) -> io::Result<Routes> {
        let links = dump_links(&mut self.socket)?;
        let names: HashMap<_, _> = links.into_iter().map(|l| (l.index, l.name)).collect();
        let name = |index| names.get(&index).cloned();
        let mut routes = Routes::new();
        for family in [AF_INET, AF_INET6] {
            let (protocol, table) = (PROTOCOL, RT_TABLE_MAIN);
            let header = RouteHeader { family, protocol, table, ..RouteHeader::default() };
            let dumped = self.socket.dump(
                RTM_GETROUTE,
                |w| header.put(w),
                |_, payload| {
                    if let Some((PROTOCOL, route)) = parse_route(payload, &name) {
                        routes.insert(route.key(), route);
                    }
                },
            );
            match dumped {
                // A kernel without IPv6 has no IPv6 routes.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                other => _ = other?,
            }
        }
        Ok(routes)
    }

    /// Makes the changes; what is gone already counts as deleted. Gives back what could not be done.
    pub fn apply(&mut self, changes: &RouteChanges) -> Vec<RouteFailure> {
        let mut failures = Vec::new();
        let mut taken = Vec::new();
        let (first, last) = changes.deletions();
        self.run(Verb::Delete, first, &mut failures);
        self.run(Verb::Replace, &changes.replace, &mut failures);
        self.run(Verb::Add, &changes.add, &mut taken);
        if !last.is_empty() {
            self.run(Verb::Delete, last, &mut failures);
            // The old route may have stood in the way of the new one's gateway.
            let again: Vec<Route> = taken.drain(..).map(|failure| failure.route).collect();
            self.run(Verb::Add, &again, &mut taken);
        }
        let exists =
            |failure: &RouteFailure| matches!(failure.why, RouteError::Refused(libc::EEXIST));
        let (taken, others): (Vec<_>, Vec<_>) = taken.into_iter().partition(exists);
        failures.extend(others);
        if !taken.is_empty() {
            self.settle(taken, &mut failures);
        }
        failures
    }

    /// Something is in the place of these routes. Ours (the CNI plugin adds a pod's route too) may be
    /// replaced, a stranger's stays.
    fn settle(&mut self, taken: Vec<RouteFailure>, failures: &mut Vec<RouteFailure>) {
        let ours = match self.read() {
            Ok(ours) => ours,
            Err(_) => return failures.extend(taken),
        };
        let mut replace = Vec::new();
        for RouteFailure { route, .. } in taken {
            match ours.get(&route.key()) {
                Some(there) if there.same(&route) => {}
                Some(_) => replace.push(route),
                None => {
                    let why = RouteError::Foreign { protocol: self.protocol_of(&route) };
                    failures.push(RouteFailure { route, why });
                }
            }
        }
        self.run(Verb::Replace, &replace, failures);
    }

    fn protocol_of(&mut self, route: &Route) -> Option<u8> {
        let found = self.resolve(route.destination.network()).ok()??;
        (found.matched == route.destination).then_some(found.protocol)
    }

    fn run<'a>(
        &mut self,
        verb: Verb,
        routes: impl IntoIterator<Item = &'a Route>,
        failures: &mut Vec<RouteFailure>,
    ) {
        let mut indices = Indices::default();
        let mut ready = Vec::new();
        for route in routes {
            match indices.missing(verb, route) {
                None => ready.push(route),
                Some(name) => {
                    let why = RouteError::NoInterface(name.to_string());
                    failures.push(RouteFailure { route: route.clone(), why });
                }
            }
        }
        for pack in ready.chunks(PACK) {
            self.send(verb, pack, &indices, failures);
        }
    }

    fn send(
        &mut self,
        verb: Verb,
        pack: &[&Route],
        indices: &Indices,
        failures: &mut Vec<RouteFailure>,
    ) {
        let mut out = Writer::default();
        let first = self.socket.next_seq();
        let mut seq = first;
        for (index, route) in pack.iter().enumerate() {
            seq = first.wrapping_add(u32::try_from(index).expect("a pack is small"));
            let ack = if index + 1 == pack.len() { NLM_F_ACK } else { 0 };
            put_route(&mut out, verb, route, indices, ack, seq);
        }
        let answers = self.socket.send(&out.into_bytes(), seq).and_then(|()| self.socket.answers());
        let refused = |route: &Route, errno| RouteFailure {
            route: route.clone(),
            why: RouteError::Refused(errno),
        };
        match answers {
            // Which of them were done is unknown: the next reading tells.
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                failures.extend(pack.iter().map(|route| refused(route, errno)));
            }
            Ok(answers) => {
                let gone = |errno| matches!(verb, Verb::Delete) && errno == libc::ESRCH;
                for answer in answers.iter().filter(|a| a.errno != 0 && !gone(a.errno)) {
                    let index = usize::try_from(answer.seq.wrapping_sub(first)).unwrap_or(PACK);
                    failures.extend(pack.get(index).map(|route| refused(route, answer.errno)));
                }
            }
        }
    }

    /// Asks the kernel where it would send a packet to `address`. `None` when nowhere, or here.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn resolve(&mut self, address: IpAddr) -> io::Result<Option<Resolved>> {
        let header = RouteHeader {
            family: family_of(address),
            destination_len: host_len(address),
            table: 0,
            flags: RTM_F_FIB_MATCH,
            ..RouteHeader::default()
        };
        let mut found = None;
        let body = |w: &mut Writer| {
            header.put(w);
            put_ip(w, RTA_DST, address);
        };
        let asked = self.socket.request(RTM_GETROUTE, 0, body, |_, payload| {
            found = parse_route(payload, &name_of);
        });
        match asked {
            Err(error) if is_unreachable(&error) => return Ok(None),
            other => other?,
        }
        Ok(found.and_then(|(protocol, route)| resolved(address, protocol, route)))
    }

    /// Where it would send packets to these addresses if it had none of the routes of ours that each comes with, by its
    /// main table. The kernel answers for its table as it is, so all of that is read, once for each family.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn resolve_beneath(
        &mut self,
        wanted: &WantedWays,
    ) -> io::Result<BTreeMap<IpAddr, Resolved>> {
        let mut best: BTreeMap<IpAddr, (RouteKey, Option<Resolved>)> = BTreeMap::new();
        for family in [AF_INET, AF_INET6] {
            if !wanted.keys().any(|address| family_of(*address) == family) {
                continue;
            }
            let header = RouteHeader { family, table: RT_TABLE_MAIN, ..RouteHeader::default() };
            self.socket.dump(
                RTM_GETROUTE,
                |w| header.put(w),
                |_, payload| {
                    let Some((protocol, key)) = parse_key(payload) else { return };
                    if payload.get(8..).and_then(ne32).is_none_or(|flags| flags & RTNH_F_DEAD != 0)
                    {
                        return;
                    }
                    let (first, last) = (key.destination.network(), key.destination.broadcast());
                    for (&address, made_of_it) in wanted.range(first..=last) {
                        let is_circle =
                            protocol == PROTOCOL && made_of_it.contains(&key.destination);
                        if !is_circle && best.get(&address).is_none_or(|(now, _)| beats(key, *now))
                        {
                            let route = parse_route(payload, &name_of);
                            let way =
                                route.and_then(|(_, route)| resolved(address, protocol, route));
                            best.insert(address, (key, way));
                        }
                    }
                },
            )?;
        }
        Ok(best.into_iter().filter_map(|(address, (_, way))| Some((address, way?))).collect())
    }
}

/// Whether the kernel prefers a route to another that leads to the same address.
fn beats(one: RouteKey, other: RouteKey) -> bool {
    let rank = |key: RouteKey| (Reverse(key.destination.prefix_len()), key.metric);
    rank(one) < rank(other)
}

fn name_of(index: u32) -> Option<Arc<str>> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    name.to_str().ok().map(Arc::from)
}

fn is_unreachable(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES]
        .iter()
        .any(|unreachable| errno == Some(*unreachable))
}

fn resolved(address: IpAddr, protocol: u8, route: Route) -> Option<Resolved> {
    let matched = route.destination;
    match route.kind {
        RouteKind::Blackhole => None,
        RouteKind::Unicast(hops) => {
            let via = |hop: NextHop| NextHop { gateway: hop.gateway.or(Some(address)), ..hop };
            Some(Resolved { hops: hops.into_iter().map(via).collect(), matched, protocol })
        }
    }
}

/// Names of interfaces resolved to indices, once per run.
#[derive(Default)]
struct Indices(HashMap<Arc<str>, Option<u32>>);

impl Indices {
    /// The first interface of the route that does not exist; deleting needs none.
    fn missing<'a>(&mut self, verb: Verb, route: &'a Route) -> Option<&'a str> {
        let hops = match (&route.kind, verb) {
            (RouteKind::Blackhole, _) | (_, Verb::Delete) => return None,
            (RouteKind::Unicast(hops), Verb::Add | Verb::Replace) => hops,
        };
        hops.iter().map(|hop| &hop.interface).find_map(|name| {
            let index = self
                .0
                .entry(name.clone())
                .or_insert_with(|| nix::net::if_::if_nametoindex(&**name).ok());
            index.is_none().then_some(&**name)
        })
    }

    fn of(&self, name: &str) -> u32 {
        self.0.get(name).copied().flatten().unwrap_or(0)
    }
}

/// `struct rtmsg`.
#[derive(Default)]
struct RouteHeader {
    family: u8,
    destination_len: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

impl RouteHeader {
    fn put(&self, w: &mut Writer) {
        let Self { family, destination_len, table, protocol, scope, kind, flags } = *self;
        w.raw(&[family, destination_len, 0, 0, table, protocol, scope, kind]);
        w.raw(&flags.to_ne_bytes());
    }
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn host_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn put_route(w: &mut Writer, verb: Verb, route: &Route, indices: &Indices, ack: u16, seq: u32) {
    let (message, flags) = match verb {
        Verb::Add => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL),
        Verb::Replace => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
        Verb::Delete => (RTM_DELROUTE, 0),
    };
    let hops: &[NextHop] = match (&route.kind, verb) {
        (RouteKind::Unicast(hops), Verb::Add | Verb::Replace) => hops,
        // To delete, destination, metric and protocol say enough.
        (RouteKind::Unicast(_), Verb::Delete) | (RouteKind::Blackhole, _) => &[],
    };
    let header = RouteHeader {
        family: family_of(route.destination.addr()),
        destination_len: route.destination.prefix_len(),
        table: RT_TABLE_MAIN,
        protocol: PROTOCOL,
        scope: match verb {
            Verb::Delete => RT_SCOPE_NOWHERE,
            Verb::Add | Verb::Replace => scope(route),
        },
        kind: match (&route.kind, verb) {
            (_, Verb::Delete) => 0,
            (RouteKind::Unicast(_), Verb::Add | Verb::Replace) => RTN_UNICAST,
            (RouteKind::Blackhole, Verb::Add | Verb::Replace) => RTN_BLACKHOLE,
        },
        flags: match hops {
            [hop] => u32::from(hop_flags(hop)),
            _ => 0,
        },
    };
    w.message(message, flags | ack | NLM_F_REQUEST, seq, |w| {
        header.put(w);
        put_ip(w, RTA_DST, route.destination.network());
        w.ne32(RTA_PRIORITY, route.metric);
        if let Some(source) = route.source {
            put_ip(w, RTA_PREFSRC, source);
        }
        match hops {
            [] => {}
            [hop] => {
                w.ne32(RTA_OIF, indices.of(&hop.interface));
                put_gateway(w, route.destination, hop);
            }
            hops => w.plain_nest(RTA_MULTIPATH, |w| {
                for hop in hops {
                    put_hop(w, route.destination, hop, indices);
                }
            }),
        }
    });
}

/// IPv4 calls a route without a router one of link scope.
fn scope(route: &Route) -> u8 {
    let on_link = match &route.kind {
        RouteKind::Unicast(hops) => hops.iter().all(|hop| hop.gateway.is_none()),
        RouteKind::Blackhole => false,
    };
    if on_link && route.destination.addr().is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE }
}

fn hop_flags(hop: &NextHop) -> u8 {
    match hop.onlink {
        Onlink::Yes => RTNH_F_ONLINK,
        Onlink::No => 0,
    }
}

fn put_gateway(w: &mut Writer, destination: IpNet, hop: &NextHop) {
    match (hop.gateway, destination) {
        (None, _) => {}
        // A router of the other family carries its family along.
        (Some(IpAddr::V6(router)), IpNet::V4(_)) => {
            let family = u16::from(AF_INET6).to_ne_bytes();
            w.attribute(RTA_VIA, &[&family[..], &router.octets()].concat());
        }
        (Some(router), _) => put_ip(w, RTA_GATEWAY, router),
    }
}

/// `struct rtnexthop` and its attributes.
fn put_hop(w: &mut Writer, destination: IpNet, hop: &NextHop, indices: &Indices) {
    let mut inner = Writer::default();
    put_gateway(&mut inner, destination, hop);
    let inner = inner.into_bytes();
    let len = u16::try_from(8 + inner.len()).expect("one gateway");
    w.raw(&len.to_ne_bytes());
    w.raw(&[hop_flags(hop), 0]);
    w.raw(&indices.of(&hop.interface).to_ne_bytes());
    w.raw(&inner);
}

/// The place of a route in the main table, with its protocol. `None` when it is not one that we could
/// have made.
pub(super) fn parse_key(payload: &[u8]) -> Option<(u8, RouteKey)> {
    let (header, body) = payload.split_at_checked(12)?;
    let [family, len, source_len, tos, table, protocol, ..] = *header else { return None };
    let flags = ne32(&header[8..])?;
    if source_len != 0 || tos != 0 || table != RT_TABLE_MAIN || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let address = match (find(body, RTA_DST), family) {
        (Some(bytes), _) => parse_ip(bytes)?,
        (None, AF_INET) => Ipv4Addr::UNSPECIFIED.into(),
        (None, AF_INET6) => Ipv6Addr::UNSPECIFIED.into(),
        (None, _) => return None,
    };
    let metric = find(body, RTA_PRIORITY).and_then(ne32).unwrap_or(0);
    Some((protocol, RouteKey { destination: IpNet::new(address, len).ok()?, metric }))
}

/// The name of the interface with this index.
type NameOf<'a> = dyn Fn(u32) -> Option<Arc<str>> + 'a;

/// The route of a message, with its protocol. `None` when it is not one that we could have made.
fn parse_route(payload: &[u8], name: &NameOf<'_>) -> Option<(u8, Route)> {
    let (protocol, RouteKey { destination, metric }) = parse_key(payload)?;
    let (header, body) = payload.split_at_checked(12)?;
    let kind = match header[7] {
        RTN_UNICAST => RouteKind::Unicast(parse_hops(body, ne32(&header[8..])?, name)?),
        RTN_BLACKHOLE => RouteKind::Blackhole,
        _ => return None,
    };
    let source = find(body, RTA_PREFSRC).and_then(parse_ip);
    Some((protocol, Route { destination, metric, kind, source }))
}

fn parse_hops(body: &[u8], flags: u32, name: &NameOf<'_>) -> Option<Vec<NextHop>> {
    let onlink = |flags: u32| {
        if flags & u32::from(RTNH_F_ONLINK) == 0 { Onlink::No } else { Onlink::Yes }
    };
    let Some(mut list) = find(body, RTA_MULTIPATH) else {
        let interface = name(find(body, RTA_OIF).and_then(ne32)?)?;
        return Some(vec![NextHop { gateway: gateway(body), interface, onlink: onlink(flags) }]);
    };
    let mut hops = Vec::new();
    while let Some(len) = ne16(list).map(usize::from) {
        let hop = list.get(..len).filter(|_| len >= 8)?;
        let interface = name(ne32(&hop[4..])?)?;
        hops.push(NextHop {
            gateway: gateway(&hop[8..]),
            interface,
            onlink: onlink(u32::from(hop[2])),
        });
        list = list.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(hops)
}

fn gateway(body: &[u8]) -> Option<IpAddr> {
    attributes(body).find_map(|(kind, value)| match kind {
        RTA_GATEWAY => parse_ip(value),
        RTA_VIA => parse_ip(value.get(2..)?),
        _ => None,
    })
}
