//! A blocking netlink socket: requests, dumps, batches, notifications. Knows no family.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind,
    getsockname, setsockopt, sockopt,
};

use crate::nft::wire::{self, Header, Writer};

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The kernel fills at most 32 KiB of a dump into one datagram.
const RECEIVE: usize = 64 << 10;

/// A netlink socket of one family.
pub(super) struct Socket {
    fd: OwnedFd,
    port: u32,
    seq: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
}

/// Whether the table that was dumped changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dumped {
    Whole,
    Interrupted,
}

/// What the kernel said to one message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) seq: u32,
    /// Zero for an acknowledgement.
    pub(super) errno: i32,
}

impl Socket {
    /// Opens a socket that hears `groups` (a bit mask of multicast groups).
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        let send_buffer = socket::getsockopt(&fd, sockopt::SndBuf)?;
        Ok(Self { fd, port, seq: 0, send_buffer, buffer: vec![0; RECEIVE] })
    }

    /// The address of this socket, which the kernel puts into notifications of what it did for us.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Room for notifications and answers that we are too slow to take.
    pub(super) fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(setsockopt(&self.fd, sockopt::RcvBufForce, &bytes)?)
    }

    /// The sequence number of the next request.
    pub(super) fn next_seq(&self) -> u32 {
        self.seq.wrapping_add(1)
    }

    /// Sends messages whose sequence numbers end at `last_seq`, in one datagram of any size.
    pub(super) fn send(&mut self, bytes: &[u8], last_seq: u32) -> io::Result<()> {
        self.seq = last_seq;
        if bytes.len() + (64 << 10) > self.send_buffer {
            let room = 2 * bytes.len() + (64 << 10);
            setsockopt(&self.fd, sockopt::SndBufForce, &room)?;
            self.send_buffer = room;
        }
        socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Takes one datagram from the kernel and calls `each` for its messages. `false` when there is none
    /// and `flags` say not to wait.
    fn receive(
        &mut self,
        flags: MsgFlags,
        mut each: impl FnMut(Header, &[u8]),
    ) -> io::Result<bool> {
        let fd = self.fd.as_raw_fd();
        let mut space = [IoSliceMut::new(&mut self.buffer)];
        let (len, sender) = match socket::recvmsg::<NetlinkAddr>(fd, &mut space, None, flags) {
            Err(nix::errno::Errno::EAGAIN) => return Ok(false),
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            Err(error) => return Err(error.into()),
            Ok(received) => (received.bytes, received.address),
        };
        // Only the kernel has address zero; what other processes send is not for us.
        if sender.is_some_and(|sender| sender.pid() == 0) {
            let messages = wire::messages(&self.buffer[..len]);
            messages.for_each(|(header, payload)| each(header, payload));
        }
        Ok(true)
    }

    /// Takes every answer that is there. The kernel works on a batch before `send` returns, so nothing
    /// comes later.
    pub(super) fn answers(&mut self) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        while self.receive(MsgFlags::MSG_DONTWAIT, |header, payload| {
            if let Some(errno) = errno(header, payload) {
                answers.push(Answer { seq: header.seq, errno });
            }
        })? {}
        Ok(answers)
    }

    /// Takes every notification that is there.
    pub(super) fn pending(&mut self, mut each: impl FnMut(Header, &[u8])) -> io::Result<()> {
        while self.receive(MsgFlags::MSG_DONTWAIT, &mut each)? {}
        Ok(())
    }

    /// Asks for one thing; calls `each` for the answer.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Header, &[u8]),
    ) -> io::Result<()> {
        let seq = self.next_seq();
        let mut out = Writer::default();
        out.message(kind, flags | NLM_F_REQUEST, seq, body);
        self.send(&out.into_bytes(), seq)?;
        let mut result = None;
        while result.is_none() {
            self.receive(MsgFlags::empty(), |header, payload| {
                if header.seq != seq {
                    return;
                }
                result = Some(match errno(header, payload) {
                    None => {
                        each(header, payload);
                        Ok(())
                    }
                    Some(0) => Ok(()),
                    Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                });
            })?;
        }
        result.unwrap_or(Ok(()))
    }

    /// Asks for a list; calls `each` for every message of it.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Header, &[u8]),
    ) -> io::Result<Dumped> {
        let seq = self.next_seq();
        let mut out = Writer::default();
        out.message(kind, NLM_F_REQUEST | NLM_F_DUMP, seq, body);
        self.send(&out.into_bytes(), seq)?;
        let mut dumped = Dumped::Whole;
        let mut end = None;
        while end.is_none() {
            self.receive(MsgFlags::empty(), |header, payload| {
                if header.seq != seq {
                    return;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    dumped = Dumped::Interrupted;
                }
                match errno(header, payload) {
                    None if header.kind == NLMSG_DONE => end = Some(0),
                    None => each(header, payload),
                    Some(errno) => end = Some(errno),
                }
            })?;
        }
        match end {
            None | Some(0) => Ok(dumped),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Lets the kernel judge request headers strictly, which also makes it filter dumps.
    pub(super) fn check_strictly(&self) -> io::Result<()> {
        const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
        set_option(self.fd.as_fd(), libc::SOL_NETLINK, NETLINK_GET_STRICT_CHK, &1)
    }

    /// Hides notifications of what the socket with address `port` did, before they cost room in the
    /// receive buffer: one commit of ours can be 100,000 notifications.
    pub(super) fn ignore(&self, port: u32) -> io::Result<()> {
        const PORT_OFFSET: u32 = 12;
        let filter = [
            bpf(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, PORT_OFFSET),
            // Loads are in network byte order, the address in the host's.
            bpf(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port.to_be()),
            bpf(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            bpf(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
        set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The number in an answer: zero for an acknowledgement; `None` when the message is no answer.
fn errno(header: Header, payload: &[u8]) -> Option<i32> {
    if header.kind != NLMSG_ERROR {
        return None;
    }
    Some(wire::ne32(payload).map_or(libc::EBADMSG, |code| code.cast_signed().wrapping_neg()))
}

fn bpf(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("operations have 16 bits"), jt, jf, k }
}

#[expect(unsafe_code, reason = "socket options that nix does not know")]
fn set_option<T>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the pointer and length are those of `value`, which outlives the call; what a
    // `sock_fprog` points to outlives it too, in its only user above.
    let code = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
