//! What the elements of sets are keyed by: a few typed fields, kept as the bytes the kernel compares.
//!
//! A key of up to 22 bytes is one small value without an allocation of its own, so that two copies of a
//! table with 100,000 elements (desired and mirror) stay in the tens of megabytes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The most fields that a key may be made of.
pub const MAX_FIELDS: usize = 4;

/// One field of a set's key, by nft's own name for the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldType {
    /// `ipv4_addr`, 4 bytes.
    Ipv4Addr,
    /// `ipv6_addr`, 16 bytes.
    Ipv6Addr,
    /// `inet_proto`: an IP protocol number, 1 byte.
    InetProto,
    /// `inet_service`: a port, 2 bytes.
    InetService,
    /// `ifname`: an interface name, 16 bytes padded with zeros.
    Ifname,
}

impl FieldType {
    /// The number of significant bytes.
    pub fn width(self) -> usize {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr => 4,
            Self::Ipv6Addr | Self::Ifname => 16,
        }
    }

    /// The number of bytes inside a concatenation, where each field fills whole 32-bit registers.
    pub fn padded(self) -> usize {
        self.width().next_multiple_of(4)
    }

    /// nft's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Ifname => "ifname",
        }
    }
}

/// The type of a set's key: one field, or up to [`MAX_FIELDS`] concatenated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyType([Option<FieldType>; MAX_FIELDS]);

impl KeyType {
    /// The key made of `fields`.
    ///
    /// # Panics
    /// When there is no field, or more than [`MAX_FIELDS`]: key types are literals of the program.
    pub const fn new(fields: &[FieldType]) -> Self {
        assert!(!fields.is_empty() && fields.len() <= MAX_FIELDS, "a key has one to four fields");
        let mut key = [None; MAX_FIELDS];
        let mut at = 0;
        while at < fields.len() {
            key[at] = Some(fields[at]);
            at += 1;
        }
        Self(key)
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = FieldType> + '_ {
        self.0.iter().map_while(|field| *field)
    }

    /// Whether more than one field is concatenated.
    pub fn is_concatenation(&self) -> bool {
        self.0[1].is_some()
    }

    /// The bytes of each field in a key, padding included.
    pub fn widths(&self) -> impl Iterator<Item = (FieldType, usize)> + '_ {
        let concatenated = self.is_concatenation();
        self.fields().map(move |f| (f, if concatenated { f.padded() } else { f.width() }))
    }

    /// The length of one key in bytes.
    pub fn width(&self) -> usize {
        self.widths().map(|(_, width)| width).sum()
    }
}

impl fmt::Debug for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One field of a key, or a range of values of that field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// One address.
    Ip(IpAddr),
    /// All addresses of a block (host bits are ignored).
    Net(IpNet),
    /// All addresses from the first to the last, both included, of one family.
    IpRange(IpAddr, IpAddr),
    /// An IP protocol number.
    Proto(u8),
    /// One port.
    Port(u16),
    /// All ports from the first to the last, both included.
    Ports(u16, u16),
    /// An interface name; what exceeds 15 bytes is cut.
    Ifname(&'a str),
}

impl Part<'_> {
    /// The type of field that this is a value of.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Ip(ip) | Self::IpRange(ip, _) => of_family(ip.is_ipv4()),
            Self::Net(net) => of_family(matches!(net, IpNet::V4(_))),
            Self::Proto(_) => FieldType::InetProto,
            Self::Port(_) | Self::Ports(..) => FieldType::InetService,
            Self::Ifname(_) => FieldType::Ifname,
        }
    }

    fn put(&self, out: &mut Bytes, end: End) {
        match *self {
            Self::Ip(ip) => out.put_ip(ip),
            Self::Net(net) => out.put_ip(end.of(net.network(), net.broadcast())),
            Self::IpRange(first, last) => out.put_ip(end.of(first, last)),
            Self::Proto(number) => out.put(&[number]),
            Self::Port(port) => out.put(&port.to_be_bytes()),
            Self::Ports(first, last) => out.put(&end.of(first, last).to_be_bytes()),
            Self::Ifname(name) => {
                let cut = name.len().min(15);
                let mut padded = [0; 16];
                padded[..cut].copy_from_slice(&name.as_bytes()[..cut]);
                out.put(&padded);
            }
        }
    }
}

fn of_family(v4: bool) -> FieldType {
    if v4 { FieldType::Ipv4Addr } else { FieldType::Ipv6Addr }
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

impl End {
    fn of<T>(self, first: T, last: T) -> T {
        match self {
            Self::First => first,
            Self::Last => last,
        }
    }
}

/// The longest key of a set that we make: a range of `inet_proto . inet_service . ipv6_addr`.
const LONGEST: usize = 2 * 16 * MAX_FIELDS;

struct Bytes {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
    }
}

const INLINE: usize = 22;

/// The key of one element: the bytes that the kernel compares; in a set of ranges the first key of the
/// range followed by the last.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl Key {
    /// The key of an element of a set that compares exactly.
    pub fn exact(parts: &[Part<'_>]) -> Self {
        let mut out = Bytes { bytes: [0; LONGEST], len: 0 };
        put_parts(parts, &mut out, End::First);
        Self::from_bytes(&out.bytes[..out.len])
    }

    /// The key of an element of a set of ranges. A single value is a range of one.
    pub fn range(parts: &[Part<'_>]) -> Self {
        let mut out = Bytes { bytes: [0; LONGEST], len: 0 };
        put_parts(parts, &mut out, End::First);
        put_parts(parts, &mut out, End::Last);
        Self::from_bytes(&out.bytes[..out.len])
    }

    /// The key made of these bytes, as the kernel lays them out.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= INLINE => {
                let mut inline = [0; INLINE];
                inline[..bytes.len()].copy_from_slice(bytes);
                Self(Repr::Inline { len, bytes: inline })
            }
            _ => Self(Repr::Boxed(bytes.into())),
        }
    }

    /// The bytes, as the kernel lays them out.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Boxed(bytes) => bytes,
        }
    }
}

fn put_parts(parts: &[Part<'_>], out: &mut Bytes, end: End) {
    for part in parts {
        part.put(out, end);
        if parts.len() > 1 {
            out.len = out.len.next_multiple_of(4);
        }
    }
}

impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        Self::exact(&[Part::Ip(ip)])
    }
}

impl From<Ipv4Addr> for Key {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_bytes(&ip.octets())
    }
}

impl From<Ipv6Addr> for Key {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from_bytes(&ip.octets())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(")?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_one_ipv4_address_needs_no_allocation_and_is_24_bytes() {
        assert_eq!(size_of::<Key>(), 24);
        assert_eq!(Key::from(Ipv4Addr::new(10, 0, 0, 7)).as_bytes(), [10, 0, 0, 7]);
    }

    #[test]
    fn fields_of_a_concatenation_fill_whole_registers() {
        let key = Key::exact(&[Part::Proto(6), Part::Port(80)]);
        assert_eq!(key.as_bytes(), [6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(
            KeyType::new(&[FieldType::InetProto, FieldType::InetService]).width(),
            key.as_bytes().len()
        );
        assert_eq!(Key::exact(&[Part::Port(80)]).as_bytes(), [0, 80]);
    }

    #[test]
    fn a_range_is_its_first_and_last_key() {
        let net: IpNet = "10.1.2.3/16".parse().unwrap();
        assert_eq!(Key::range(&[Part::Net(net)]).as_bytes(), [10, 1, 0, 0, 10, 1, 255, 255]);
        let ports = Key::range(&[Part::Proto(17), Part::Ports(1, 513)]);
        assert_eq!(ports.as_bytes(), [17, 0, 0, 0, 0, 1, 0, 0, 17, 0, 0, 0, 2, 1, 0, 0]);
    }
}
