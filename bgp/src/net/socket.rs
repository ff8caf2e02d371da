//! Sockets and their options: all that the kernel has to know of a BGP session.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::net::{TcpListener, TcpSocket};

use super::tcp_ao;
use crate::speaker::{Password, PeerConfig, Signing, SigningKey, Ttl};
use crate::wire::{PeerKind, Prefix};

/// IP precedence "internetwork control", as routing protocols mark their packets (CS6).
const TOS_INTERNETWORK_CONTROL: u32 = 0xC0;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Whether this machine has to have an address before a socket may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has.
    Needed,
    /// It may get the address later.
    Ahead,
}

/// A socket that will listen: both families listen apart, and packets leave with TTL 255, because
/// what the handshake sends must pass the check of peers with GTSM (RFC 5082 §3).
///
/// Not listening yet: the keys of the peers come first, so that no unsigned connection slips in.
pub(super) fn bound(address: SocketAddr, presence: Presence) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_ttl(&socket, address.ip(), u8::MAX)?;
    socket.set_nonblocking(true)?;
    match (presence, address) {
        (Presence::Needed, _) => {}
        (Presence::Ahead, SocketAddr::V4(_)) => socket.set_freebind_v4(true)?,
        (Presence::Ahead, SocketAddr::V6(_)) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Begins to listen.
pub(super) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket that is ready to connect to the peer.
pub(super) fn dialler(
    peer: &PeerConfig,
    remote: SocketAddr,
    kind: PeerKind,
) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = link(peer, remote) {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    set_session_options(&socket, peer, remote.ip(), kind)?;
    set_mss(&socket, peer.tcp_mss)?;
    if let Some(source) = peer.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// The interface that a link-local peer is tied to.
fn link(peer: &PeerConfig, remote: SocketAddr) -> Option<&str> {
    let IpAddr::V6(address) = remote.ip() else { return None };
    peer.interface.as_deref().filter(|_| address.is_unicast_link_local())
}

/// The options of a session, dialled or accepted. An accepted socket has its key from the
/// listening one already, unless the kernel refused it there; then it refuses again, and the
/// connection ends.
pub(super) fn set_session_options(
    socket: &Socket,
    peer: &PeerConfig,
    remote: IpAddr,
    kind: PeerKind,
) -> io::Result<()> {
    if let Password::Key(secret) = &peer.password {
        let key = SigningKey { secret: secret.clone(), signing: peer.signing };
        match set_key(socket, Prefix::host(remote), &key) {
            // TCP-AO, unlike MD5, does not take a key again that came from the listening socket.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => outcome?,
        }
    }
    socket.set_tcp_nodelay(true)?;
    match remote {
        IpAddr::V4(_) => socket.set_tos_v4(TOS_INTERNETWORK_CONTROL)?,
        IpAddr::V6(_) => socket.set_tclass_v6(TOS_INTERNETWORK_CONTROL)?,
    }
    match (peer.ttl, kind) {
        (Ttl::Direct, PeerKind::External | PeerKind::Confederation) => set_ttl(socket, remote, 1),
        (Ttl::Direct, PeerKind::Internal) => set_ttl(socket, remote, 64),
        (Ttl::Multihop(hops), _) => set_ttl(socket, remote, hops.get()),
        (Ttl::Security(hops), _) => {
            set_ttl(socket, remote, u8::MAX)?;
            // RFC 5082 §3: a packet from `hops` routers away arrives with 256 minus that many.
            set_least_ttl(socket, remote, u8::MAX - (hops.get() - 1))
        }
    }
}

fn set_ttl(socket: &Socket, family_of: IpAddr, ttl: u8) -> io::Result<()> {
    match family_of {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// Bounds the segments of connections to come, both ways (RFC 9293 §3.7.1); `None`: by nothing but the path.
pub(super) fn set_mss(socket: &impl AsRawFd, octets: Option<NonZeroU16>) -> io::Result<()> {
    let octets = octets.map_or(0, NonZeroU16::get);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, &libc::c_int::from(octets))
}

/// Makes the kernel drop packets that have come from further away.
fn set_least_ttl(socket: &Socket, family_of: IpAddr, ttl: u8) -> io::Result<()> {
    let (level, option) = match family_of {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set_option(socket, level, option, &libc::c_int::from(ttl))
}

/// Signs what goes to the addresses of a prefix and demands the same of what comes. On a listening
/// socket this holds for the connections from there.
pub(super) fn set_key(socket: &Socket, peers: Prefix, key: &SigningKey) -> io::Result<()> {
    let set = match key.signing {
        Signing::Md5 => set_md5_key(socket, peers, key.secret.as_bytes()),
        Signing::TcpAo(terms) => tcp_ao::set_key(socket, peers, terms, key.secret.as_bytes()),
        Signing::Unreadable => {
            let message = "how to sign the session is not known";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    };
    set.map_err(name_the_limit)
}

/// All keys of a socket share what the kernel keeps for its options: some 140 octets each of `net.core.optmem_max`.
fn name_the_limit(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        let text = format!("{error}: more keys than net.core.optmem_max has room for");
        return io::Error::new(io::ErrorKind::OutOfMemory, text);
    }
    error
}

/// The longest TCP MD5 key in octets.
const MD5_KEY_MAX: usize = libc::TCP_MD5SIG_MAXKEYLEN;

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct Md5Signature {
    address: SockAddrStorage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: libc::c_int,
    key: [u8; MD5_KEY_MAX],
}

/// `TCP_MD5SIG_FLAG_PREFIX` of `linux/tcp.h`: the key is for a whole prefix.
const MD5_FLAG_PREFIX: u8 = 1;
/// `TCP_MD5SIG_EXT` of `linux/tcp.h`: as `TCP_MD5SIG`, and the flags count.
const TCP_MD5SIG_EXT: libc::c_int = 32;

/// RFC 2385.
fn set_md5_key(socket: &Socket, peers: Prefix, key: &[u8]) -> io::Result<()> {
    let mut padded = [0; MD5_KEY_MAX];
    let Some(place) = padded.get_mut(..key.len()) else {
        let message = format!("TCP MD5 key is longer than {MD5_KEY_MAX} octets");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    place.copy_from_slice(key);
    let address = SockAddr::from(SocketAddr::new(peers.addr(), 0));
    let mut signature = Md5Signature {
        address: address.as_storage(),
        flags: 0,
        prefix_len: 0,
        key_len: u16::try_from(key.len()).expect("at most 80"),
        interface: 0,
        key: padded,
    };
    if peers.len() == peers.family().max_len() {
        return set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature);
    }
    (signature.flags, signature.prefix_len) = (MD5_FLAG_PREFIX, peers.len());
    set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &signature)
}

#[expect(
    unsafe_code,
    reason = "socket2 has none of TCP_MD5SIG, TCP_AO_ADD_KEY, IP_MINTTL, ICMP6_FILTER, TCP_MAXSEG"
)]
pub(super) fn set_option<T>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: `value` is alive for the call and `length` is its size; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU8, NonZeroU32};

    use nix::sys::socket::{getsockopt, sockopt};
    use tokio::net::TcpStream;

    use super::*;

    fn ttl_with(ttl: Ttl, kind: PeerKind) -> u32 {
        let remote: IpAddr = "127.0.0.2".parse().unwrap();
        let peer = PeerConfig { ttl, ..PeerConfig::new(remote, NonZeroU32::MIN) };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        set_session_options(&socket, &peer, remote, kind).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tos_v4().unwrap(), TOS_INTERNETWORK_CONTROL);
        socket.ttl_v4().unwrap()
    }

    #[test]
    fn packets_reach_as_far_as_the_peer_may_be() {
        let hops = NonZeroU8::new(3).unwrap();
        for (ttl, kind, expected) in [
            (Ttl::Direct, PeerKind::External, 1),
            (Ttl::Direct, PeerKind::Internal, 64),
            (Ttl::Direct, PeerKind::Confederation, 1),
            (Ttl::Multihop(hops), PeerKind::External, 3),
            (Ttl::Security(hops), PeerKind::External, 255),
        ] {
            assert_eq!(ttl_with(ttl, kind), expected);
        }
    }

    /// Whichever side asks for small segments: both send no larger ones.
    #[tokio::test]
    async fn segments_are_as_small_as_either_side_asks_for() {
        let agreed = |stream: &TcpStream| getsockopt(stream, sockopt::TcpMaxSeg).unwrap();
        for (of_listener, of_dialler, most) in
            [(None, None, u32::MAX), (Some(1000), None, 1000), (None, Some(900), 900)]
        {
            let mss = |octets: Option<u16>| octets.and_then(NonZeroU16::new);
            let listener = bound("127.0.0.1:0".parse().unwrap(), Presence::Needed).unwrap();
            set_mss(&listener, mss(of_listener)).unwrap();
            let listener = listen(listener).unwrap();
            let remote = listener.local_addr().unwrap();
            let mut peer = PeerConfig::new(remote.ip(), NonZeroU32::MIN);
            peer.tcp_mss = mss(of_dialler);
            let dialler = dialler(&peer, remote, PeerKind::External).unwrap();
            let (dialled, accepted) = tokio::join!(dialler.connect(remote), listener.accept());
            let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap().0);
            for agreed in [agreed(&dialled), agreed(&accepted)] {
                assert!(agreed <= most && (most < 2000 || agreed > 2000), "{agreed}");
            }
        }
    }

    /// Going on without the key would be a session that anybody can take over.
    #[test]
    fn a_key_that_cannot_be_set_ends_the_attempt() {
        let remote: SocketAddr = "127.0.0.2:179".parse().unwrap();
        let mut peer = PeerConfig::new(remote.ip(), NonZeroU32::MIN);
        peer.password = Password::Key("k".repeat(81).into());
        let error = dialler(&peer, remote, PeerKind::External).unwrap_err();
        assert_eq!(error.to_string(), "TCP MD5 key is longer than 80 octets");
    }
}
