//! Capabilities: what a speaker says in its OPEN that it can do (RFC 5492).

use nom::bytes::complete::take;
use nom::combinator::{all_consuming, map, map_res, verify};
use nom::multi::{length_data, many0};
use nom::number::complete::{be_u8, be_u16, be_u24, be_u32};
use nom::{IResult, Parser};

use super::iana::capability as code;
use super::{AfiSafi, Family};

/// One capability. Families are kept as numbers, so that what we do not route survives a round
/// trip and shows in listings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Capability {
    /// RFC 4760 §8.
    MultiProtocol(AfiSafi),
    /// RFC 2918 §2.
    RouteRefresh,
    /// RFC 8950 §4: routes of this family, and the AFI that their next hop may have.
    ExtendedNextHop(Vec<(AfiSafi, u16)>),
    /// RFC 8654 §3.
    ExtendedMessage,
    /// RFC 9234 §4.1: the role octet.
    Role(u8),
    /// RFC 4724 §3.
    GracefulRestart(GracefulRestart),
    /// RFC 6793 §3: the real AS number.
    FourOctetAs(u32),
    /// RFC 7911 §4.
    AddPath(Vec<(AfiSafi, AddPathMode)>),
    /// RFC 7313 §3.1.
    EnhancedRouteRefresh,
    /// RFC 9494 §3.1.
    LongLivedGracefulRestart(Vec<LongLivedFamily>),
    /// draft-walton-bgp-hostname-capability: what the speaker is called. Each at most 126 octets.
    Fqdn {
        /// The host's name.
        host: String,
        /// The domain that it is in; may be empty.
        domain: String,
    },
    /// draft-abraitis-bgp-version-capability: which software the speaker is. At most 254 octets.
    SoftwareVersion(String),
    /// Not known here, or only of use to people and not readable; kept as received.
    Unknown {
        /// Capability code.
        code: u8,
        /// Capability value.
        value: Vec<u8>,
    },
}

/// Whether forwarding state of a family was kept over the restart (the F bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Kept.
    Preserved,
    /// Lost, or never there.
    Lost,
}

/// Whether the speaker has just restarted (the R bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartState {
    /// It has, and does not wait for our End-of-RIB.
    Restarted,
    /// It has not.
    Running,
}

/// Whether NOTIFICATION and hold timer expiry also start a graceful restart (the N bit, RFC 8538).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationSupport {
    /// They do, except for a hard reset.
    Graceful,
    /// They end the session for good.
    Hard,
}

/// The graceful restart capability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// R bit.
    pub state: RestartState,
    /// N bit.
    pub notification: NotificationSupport,
    /// How long the restart may take until the session is up again, in seconds; 12 bits.
    pub restart_secs: u16,
    /// Families for which stale routes are to be kept, each with its F bit.
    pub families: Vec<(AfiSafi, Forwarding)>,
}

/// The largest restart time that fits its 12 bits, in seconds.
pub const RESTART_SECS_MAX: u16 = 0x0FFF;
/// The largest long-lived stale time that fits its 24 bits, in seconds.
pub const STALE_SECS_MAX: u32 = 0x00FF_FFFF;
const RESTART_BIT: u8 = 0x80;
const NOTIFICATION_BIT: u8 = 0x40;
const FORWARDING_BIT: u8 = 0x80;

/// One family of the long-lived graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LongLivedFamily {
    /// Family.
    pub family: AfiSafi,
    /// F bit.
    pub forwarding: Forwarding,
    /// How long stale routes may be kept after the restart time, in seconds; 24 bits.
    pub stale_secs: u32,
}

/// Direction of ADD-PATH for a family (RFC 7911 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddPathMode {
    /// Can receive several paths.
    Receive,
    /// Can send several paths.
    Send,
    /// Both.
    Both,
}

impl AddPathMode {
    const fn octet(self) -> u8 {
        match self {
            Self::Receive => 1,
            Self::Send => 2,
            Self::Both => 3,
        }
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Receive),
            2 => Some(Self::Send),
            3 => Some(Self::Both),
            _ => None,
        }
    }

    /// Whether the speaker can receive several paths.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    /// Whether the speaker can send several paths.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

impl Capability {
    /// Multiprotocol for a family that we route.
    #[must_use]
    pub fn family(family: Family) -> Self {
        Self::MultiProtocol(family.into())
    }

    /// Reads the capabilities of one optional parameter.
    ///
    /// # Errors
    /// Says what is malformed: a capability that overruns the parameter, or a known one of a
    /// length that it cannot have.
    pub(super) fn parse_all(parameter: &[u8]) -> Result<Vec<Self>, &'static str> {
        let (_, raw) = all_consuming(many0(triplet))
            .parse(parameter)
            .map_err(|_| "a capability overruns its parameter")?;
        raw.into_iter().map(|(code, value)| Self::parse(code, value)).collect()
    }

    fn parse(code: u8, value: &[u8]) -> Result<Self, &'static str> {
        match code {
            code::MULTIPROTOCOL => whole(value, map(family_reserved, Self::MultiProtocol)),
            code::ROUTE_REFRESH => whole(value, map(take(0usize), |_| Self::RouteRefresh)),
            code::EXTENDED_NEXT_HOP => {
                whole(value, map(many0(next_hop_family), Self::ExtendedNextHop))
            }
            code::EXTENDED_MESSAGE => whole(value, map(take(0usize), |_| Self::ExtendedMessage)),
            code::ROLE => whole(value, map(be_u8, Self::Role)),
            code::GRACEFUL_RESTART => whole(value, map(graceful_restart, Self::GracefulRestart)),
            code::FOUR_OCTET_AS => whole(value, map(be_u32, Self::FourOctetAs)),
            code::ADD_PATH => whole(
                value,
                map(many0(add_path), |families| {
                    Self::AddPath(families.into_iter().flatten().collect())
                }),
            ),
            code::ENHANCED_ROUTE_REFRESH => {
                whole(value, map(take(0usize), |_| Self::EnhancedRouteRefresh))
            }
            code::LONG_LIVED_GRACEFUL_RESTART => {
                whole(value, map(many0(long_lived), Self::LongLivedGracefulRestart))
            }
            // Nothing hangs on these: a session is not lost for a name.
            code::FQDN => {
                let names = map((text, text), |(host, domain)| Self::Fqdn { host, domain });
                whole(value, names).or_else(|| Some(Self::Unknown { code, value: value.to_vec() }))
            }
            code::SOFTWARE_VERSION => whole(value, map(text, Self::SoftwareVersion))
                .or_else(|| Some(Self::Unknown { code, value: value.to_vec() })),
            _ => return Ok(Self::Unknown { code, value: value.to_vec() }),
        }
        .ok_or("a capability has a length that it cannot have")
    }

    /// The capability code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::MultiProtocol(_) => code::MULTIPROTOCOL,
            Self::RouteRefresh => code::ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => code::EXTENDED_MESSAGE,
            Self::Role(_) => code::ROLE,
            Self::GracefulRestart(_) => code::GRACEFUL_RESTART,
            Self::FourOctetAs(_) => code::FOUR_OCTET_AS,
            Self::AddPath(_) => code::ADD_PATH,
            Self::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Self::LongLivedGracefulRestart(_) => code::LONG_LIVED_GRACEFUL_RESTART,
            Self::Fqdn { .. } => code::FQDN,
            Self::SoftwareVersion(_) => code::SOFTWARE_VERSION,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value. A value beyond 255 octets is cut by whoever built it: our
    /// own never come near.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.code(), 0]);
        let start = out.len();
        self.emit_value(out);
        out[start - 1] =
            u8::try_from(out.len() - start).expect("a capability has at most 255 octets");
    }

    fn emit_value(&self, out: &mut Vec<u8>) {
        match self {
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::MultiProtocol(family) => {
                out.extend_from_slice(&family.afi.to_be_bytes());
                out.extend_from_slice(&[0, family.safi]);
            }
            Self::ExtendedNextHop(families) => {
                for (family, next_hop) in families {
                    out.extend_from_slice(&family.afi.to_be_bytes());
                    // RFC 8950 §4: the SAFI takes two octets here.
                    out.extend_from_slice(&u16::from(family.safi).to_be_bytes());
                    out.extend_from_slice(&next_hop.to_be_bytes());
                }
            }
            Self::Role(role) => out.push(*role),
            Self::GracefulRestart(restart) => restart.emit(out),
            Self::FourOctetAs(asn) => out.extend_from_slice(&asn.to_be_bytes()),
            Self::AddPath(families) => {
                for (family, mode) in families {
                    put_family(out, *family);
                    out.push(mode.octet());
                }
            }
            Self::LongLivedGracefulRestart(families) => {
                for entry in families {
                    put_family(out, entry.family);
                    let stale = entry.stale_secs.min(STALE_SECS_MAX).to_be_bytes();
                    out.push(forwarding_octet(entry.forwarding));
                    out.extend_from_slice(&stale[1..]);
                }
            }
            Self::Fqdn { host, domain } => {
                put_text(out, host);
                put_text(out, domain);
            }
            Self::SoftwareVersion(version) => put_text(out, version),
            Self::Unknown { value, .. } => out.extend_from_slice(value),
        }
    }
}

impl GracefulRestart {
    fn emit(&self, out: &mut Vec<u8>) {
        let state = match self.state {
            RestartState::Restarted => RESTART_BIT,
            RestartState::Running => 0,
        };
        let notification = match self.notification {
            NotificationSupport::Graceful => NOTIFICATION_BIT,
            NotificationSupport::Hard => 0,
        };
        let [high, low] = self.restart_secs.min(RESTART_SECS_MAX).to_be_bytes();
        out.extend_from_slice(&[state | notification | high, low]);
        for (family, forwarding) in &self.families {
            put_family(out, *family);
            out.push(forwarding_octet(*forwarding));
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("a name has at most 254 octets"));
    out.extend_from_slice(text.as_bytes());
}

fn put_family(out: &mut Vec<u8>, family: AfiSafi) {
    out.extend_from_slice(&family.afi.to_be_bytes());
    out.push(family.safi);
}

const fn forwarding_octet(forwarding: Forwarding) -> u8 {
    match forwarding {
        Forwarding::Preserved => FORWARDING_BIT,
        Forwarding::Lost => 0,
    }
}

type Parsed<'a, T> = IResult<&'a [u8], T, ()>;

/// Runs `parser` on a value that it must use up.
fn whole<'a, T>(
    value: &'a [u8],
    parser: impl Parser<&'a [u8], Output = T, Error = ()>,
) -> Option<T> {
    all_consuming(parser).parse(value).ok().map(|(_, parsed)| parsed)
}

fn text(input: &[u8]) -> Parsed<'_, String> {
    map_res(length_data(be_u8), |octets: &[u8]| str::from_utf8(octets).map(str::to_owned))
        .parse(input)
}

fn triplet(input: &[u8]) -> Parsed<'_, (u8, &[u8])> {
    let (input, (code, length)) = (be_u8, be_u8).parse(input)?;
    let (input, value) = take(length).parse(input)?;
    Ok((input, (code, value)))
}

fn family(input: &[u8]) -> Parsed<'_, AfiSafi> {
    map((be_u16, be_u8), |(afi, safi)| AfiSafi { afi, safi }).parse(input)
}

fn family_reserved(input: &[u8]) -> Parsed<'_, AfiSafi> {
    map((be_u16, be_u8, be_u8), |(afi, _, safi)| AfiSafi { afi, safi }).parse(input)
}

fn next_hop_family(input: &[u8]) -> Parsed<'_, (AfiSafi, u16)> {
    let safi = map(verify(be_u16, |safi| *safi <= 255), |safi| safi.to_be_bytes()[1]);
    map((be_u16, safi, be_u16), |(afi, safi, next_hop)| (AfiSafi { afi, safi }, next_hop))
        .parse(input)
}

fn forwarding(input: &[u8]) -> Parsed<'_, Forwarding> {
    map(be_u8, |octet| match octet & FORWARDING_BIT {
        0 => Forwarding::Lost,
        _ => Forwarding::Preserved,
    })
    .parse(input)
}

fn graceful_restart(input: &[u8]) -> Parsed<'_, GracefulRestart> {
    let (input, head) = be_u16.parse(input)?;
    let (input, families) = many0((family, forwarding)).parse(input)?;
    let bits = head.to_be_bytes()[0];
    let state = match bits & RESTART_BIT {
        0 => RestartState::Running,
        _ => RestartState::Restarted,
    };
    let notification = match bits & NOTIFICATION_BIT {
        0 => NotificationSupport::Hard,
        _ => NotificationSupport::Graceful,
    };
    let restart_secs = head & RESTART_SECS_MAX;
    Ok((input, GracefulRestart { state, notification, restart_secs, families }))
}

/// RFC 7911 §4: an entry of another mode is to be ignored, hence the option.
fn add_path(input: &[u8]) -> Parsed<'_, Option<(AfiSafi, AddPathMode)>> {
    map((family, be_u8), |(family, mode)| Some((family, AddPathMode::from_octet(mode)?)))
        .parse(input)
}

fn long_lived(input: &[u8]) -> Parsed<'_, LongLivedFamily> {
    map((family, forwarding, be_u24), |(family, forwarding, stale_secs)| LongLivedFamily {
        family,
        forwarding,
        stale_secs,
    })
    .parse(input)
}
