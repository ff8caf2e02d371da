//! One blocking rtnetlink socket: a request, its acknowledgement, nothing else.
//!
//! An attachment is about twenty requests one after the other, so an event loop would have nothing to do but wait.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`: the kernel's own words about an error.
const EXTENDED_ACK_MESSAGE: u16 = 1;

/// A socket that acts in the network namespace in which it was opened, wherever the thread goes later.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The kernel said no.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), parenthesised(reason))]
    Refused {
        /// `errno`, positive.
        errno: i32,
        /// The kernel's own words, often empty.
        reason: String,
    },
    /// The conversation failed, so whether the request was carried out is unknown.
    #[error("netlink: {0}")]
    Transport(#[from] io::Error),
    /// The kernel's message cannot be parsed.
    #[error("netlink: {0}")]
    Decode(#[from] netlink_packet_core::DecodeError),
}

fn parenthesised(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl NetlinkError {
    /// Whether the kernel refused with this `errno`.
    pub(crate) fn is(&self, expected: nix::errno::Errno) -> bool {
        matches!(self, Self::Refused { errno, .. } if *errno == expected as i32)
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries out a change. `flags` go with `NLM_F_REQUEST | NLM_F_ACK`.
    pub(super) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive().map(drop)
    }

    /// Asks for one object; the kernel answers with it and an acknowledgement.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        self.receive()
    }

    /// Asks for all objects that the message's header selects.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.receive()
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads until the acknowledgement or the end of the dump.
    fn receive(&mut self) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut objects = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)?;
                // Messages are padded to four bytes.
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(object) => objects.push(object),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(objects),
                            Some(code) => Err(NetlinkError::Refused {
                                errno: -code.get(),
                                reason: extended_ack(&error.header),
                            }),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(objects),
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
                }
            }
        }
    }
}

/// The message among the attributes that follow the header of the request in an error.
fn extended_ack(error_payload: &[u8]) -> String {
    const HEADER: usize = 16;
    let attributes = error_payload.get(HEADER..).unwrap_or_default();
    NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == EXTENDED_ACK_MESSAGE)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
        })
        .unwrap_or_default()
}
