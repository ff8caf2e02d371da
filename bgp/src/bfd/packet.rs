//! The BFD Control packet (RFC 5880 §4.1): 24 octets, parsed and emitted without allocation.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use crate::wire::iana::bfd::{VERSION, diagnostic};

/// The length of a packet without authentication.
pub const PACKET_LEN: usize = 24;

const FLAG_POLL: u8 = 0x20;
const FLAG_FINAL: u8 = 0x10;
const FLAG_INDEPENDENT: u8 = 0x08;
const FLAG_AUTHENTICATION: u8 = 0x04;
const FLAG_DEMAND: u8 = 0x02;
const FLAG_MULTIPOINT: u8 = 0x01;

/// RFC 5880 §4.1: state of a session, with the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The operator holds it down.
    AdminDown = 0,
    /// The peer is not heard, or has just been given up.
    Down = 1,
    /// The peer is heard, but does not hear us yet as far as we know.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a session last left Up (RFC 5880 §4.1): five bits, of which nine values have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No reason.
    pub const NONE: Self = Self(diagnostic::NONE);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Self = Self(diagnostic::TIME_EXPIRED);
    /// The neighbour said that it is down.
    pub const NEIGHBOR_DOWN: Self = Self(diagnostic::NEIGHBOR_DOWN);
    /// The operator ended it.
    pub const ADMIN_DOWN: Self = Self(diagnostic::ADMIN_DOWN);

    /// The number on the wire, at most 31.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            diagnostic::NONE => "no diagnostic",
            diagnostic::TIME_EXPIRED => "detection time expired",
            diagnostic::ECHO_FAILED => "echo function failed",
            diagnostic::NEIGHBOR_DOWN => "neighbour signalled down",
            diagnostic::FORWARDING_RESET => "forwarding plane reset",
            diagnostic::PATH_DOWN => "path down",
            diagnostic::CONCATENATED_PATH_DOWN => "concatenated path down",
            diagnostic::ADMIN_DOWN => "administratively down",
            diagnostic::REVERSE_CONCATENATED_PATH_DOWN => "reverse concatenated path down",
            code => return write!(f, "diagnostic {code}"),
        })
    }
}

/// The name that one end gives to a session; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(pub NonZeroU32);

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// The bits P and F, which exclude each other (RFC 5880 §6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Neither.
    None,
    /// P: the parameters have changed; answer at once.
    Poll,
    /// F: the answer to a Poll.
    Final,
}

/// The bit C (RFC 5880 §4.1): whether a speaker's BFD lives and dies with its control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// C is 0: silence may mean that only the routing daemon is gone.
    Shared,
    /// C is 1: silence means that nothing is forwarded.
    Independent,
}

/// A BFD Control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender last left Up.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P and F.
    pub handshake: Handshake,
    /// C.
    pub fate: Fate,
    /// D: the sender wishes to be sent nothing while both are Up.
    pub demand: bool,
    /// How many packets may be missed.
    pub multiplier: NonZeroU8,
    /// The sender's name of the session.
    pub my_discriminator: Discriminator,
    /// The receiver's name of the session, once the sender knows it.
    pub your_discriminator: Option<Discriminator>,
    /// The sender will not send faster than this, in microseconds.
    pub desired_min_tx: u32,
    /// The sender cannot receive faster than this, in microseconds; zero: it wants no packets.
    pub required_min_rx: u32,
    /// The same of echo packets; zero: it sends none back.
    pub required_min_echo_rx: u32,
}

/// Why a packet is discarded (RFC 5880 §6.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short for the header.
    #[error("{0} octets are no BFD Control packet")]
    Short(usize),
    /// Another protocol version.
    #[error("BFD version {0}, not 1")]
    Version(u8),
    /// The length field contradicts the datagram.
    #[error("length field {0} does not fit")]
    Length(u8),
    /// A multiplier of zero.
    #[error("detection multiplier 0")]
    Multiplier,
    /// The multipoint bit, reserved for another protocol.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// The sender does not name its session.
    #[error("my discriminator is 0")]
    MyDiscriminator,
    /// A session that is not down has to name ours.
    #[error("your discriminator is 0 in state {0}")]
    YourDiscriminator(State),
    /// The packet is authenticated, and this session is not.
    #[error("the packet is authenticated, which this session is not")]
    Authenticated,
    /// P and F at once.
    #[error("both Poll and Final are set")]
    PollAndFinal,
}

impl Packet {
    /// Reads a datagram. What follows the length that the packet itself gives is ignored.
    ///
    /// # Errors
    /// As RFC 5880 §6.8.6 says, in its order; whoever gets an error discards the datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; PACKET_LEN] = bytes.first_chunk().ok_or(Malformed::Short(bytes.len()))?;
        let [first, flags, multiplier, length, ..] = *header;
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if first >> 5 != VERSION {
            return Err(Malformed::Version(first >> 5));
        }
        // 26: with the shortest authentication section.
        let least = if flags & FLAG_AUTHENTICATION == 0 { PACKET_LEN } else { PACKET_LEN + 2 };
        if usize::from(length) < least || usize::from(length) > bytes.len() {
            return Err(Malformed::Length(length));
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Malformed::Multiplier)?;
        if flags & FLAG_MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        let discriminator = |at| NonZeroU32::new(word(at)).map(Discriminator);
        let my_discriminator = discriminator(4).ok_or(Malformed::MyDiscriminator)?;
        let your_discriminator = discriminator(8);
        let state = State::from_bits(flags >> 6);
        if your_discriminator.is_none() && state > State::Down {
            return Err(Malformed::YourDiscriminator(state));
        }
        if flags & FLAG_AUTHENTICATION != 0 {
            return Err(Malformed::Authenticated);
        }
        Ok(Self {
            diagnostic: Diagnostic(first & 0x1F),
            state,
            handshake: handshake(flags)?,
            fate: if flags & FLAG_INDEPENDENT == 0 { Fate::Shared } else { Fate::Independent },
            demand: flags & FLAG_DEMAND != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: word(12),
            required_min_rx: word(16),
            required_min_echo_rx: word(20),
        })
    }

    /// The octets of the packet.
    pub fn emit(&self) -> [u8; PACKET_LEN] {
        let mut flags = (self.state as u8) << 6;
        flags |= match self.handshake {
            Handshake::None => 0,
            Handshake::Poll => FLAG_POLL,
            Handshake::Final => FLAG_FINAL,
        };
        flags |= match self.fate {
            Fate::Shared => 0,
            Fate::Independent => FLAG_INDEPENDENT,
        };
        flags |= if self.demand { FLAG_DEMAND } else { 0 };
        let mut bytes = [0; PACKET_LEN];
        let length = u8::try_from(PACKET_LEN).expect("24 fits");
        let head = [VERSION << 5 | self.diagnostic.0, flags, self.multiplier.get(), length];
        bytes[..4].copy_from_slice(&head);
        let words = [
            self.my_discriminator.0.get(),
            self.your_discriminator.map_or(0, |your| your.0.get()),
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

const fn handshake(flags: u8) -> Result<Handshake, Malformed> {
    match (flags & FLAG_POLL != 0, flags & FLAG_FINAL != 0) {
        (false, false) => Ok(Handshake::None),
        (true, false) => Ok(Handshake::Poll),
        (false, true) => Ok(Handshake::Final),
        // RFC 5880 §6.5: no packet has both.
        (true, true) => Err(Malformed::PollAndFinal),
    }
}

/// What parses must come out of [`Packet::emit`] as it went in. For property tests and fuzzing.
///
/// # Panics
/// When it does not.
pub fn reencode_is_stable(bytes: &[u8]) {
    let Ok(first) = Packet::parse(bytes) else { return };
    let again = first.emit();
    assert_eq!(again[..3], bytes[..3], "version, flags and multiplier");
    assert_eq!(again[4..], bytes[4..PACKET_LEN], "everything behind the length");
    assert_eq!(Packet::parse(&again), Ok(first));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Down, Poll, C, D; multiplier 3; discriminators 1 and 2; 50 ms, 60 ms, no echo.
    const EXAMPLE: [u8; PACKET_LEN] =
        [0x21, 0x6A, 3, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xC3, 0x50, 0, 0, 0xEA, 0x60, 0, 0, 0, 0];

    #[test]
    fn the_fields_stand_where_the_rfc_puts_them() {
        let packet = Packet::parse(&EXAMPLE).unwrap();
        let discriminator = |number| Discriminator(NonZeroU32::new(number).unwrap());
        assert_eq!(
            packet,
            Packet {
                diagnostic: Diagnostic::TIME_EXPIRED,
                state: State::Down,
                handshake: Handshake::Poll,
                fate: Fate::Independent,
                demand: true,
                multiplier: NonZeroU8::new(3).unwrap(),
                my_discriminator: discriminator(1),
                your_discriminator: Some(discriminator(2)),
                desired_min_tx: 50_000,
                required_min_rx: 60_000,
                required_min_echo_rx: 0,
            }
        );
        assert_eq!(packet.emit(), EXAMPLE);
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let with = |at: usize, octet: u8| {
            let mut bytes = EXAMPLE;
            bytes[at] = octet;
            Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(Packet::parse(&EXAMPLE[..23]).unwrap_err(), Malformed::Short(23));
        assert_eq!(with(0, 0x40), Malformed::Version(2));
        assert_eq!(with(3, 23), Malformed::Length(23));
        assert_eq!(with(3, 25), Malformed::Length(25));
        assert_eq!(with(1, 0x44), Malformed::Length(24), "authentication needs two octets more");
        assert_eq!(with(2, 0), Malformed::Multiplier);
        assert_eq!(with(1, 0x41), Malformed::Multipoint);
        assert_eq!(with(7, 0), Malformed::MyDiscriminator);
        assert_eq!(with(1, 0x70), Malformed::PollAndFinal);
        let mut nameless = EXAMPLE;
        nameless[11] = 0;
        assert!(Packet::parse(&nameless).is_ok(), "in state Down");
        nameless[1] = 0xC0;
        assert_eq!(Packet::parse(&nameless), Err(Malformed::YourDiscriminator(State::Up)));
        let mut authenticated = [0; 26];
        authenticated[..24].copy_from_slice(&EXAMPLE);
        (authenticated[1], authenticated[3]) = (0x44, 26);
        assert_eq!(Packet::parse(&authenticated), Err(Malformed::Authenticated));
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_as_it_was(mut bytes in prop::collection::vec(any::<u8>(), 0..40), sane: bool) {
            if sane && bytes.len() >= PACKET_LEN {
                bytes[0] = 0x20 | bytes[0] & 0x1F;
                bytes[1] &= !(FLAG_AUTHENTICATION | FLAG_MULTIPOINT);
                bytes[3] = 24;
            }
            reencode_is_stable(&bytes);
        }
    }
}
