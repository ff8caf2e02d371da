//! Router solicitations and advertisements (RFC 4861 §4.1, §4.2). The kernel does the checksums.

/// ICMPv6 types (RFC 4861 §4).
pub(super) const ROUTER_SOLICITATION: u8 = 133;
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
/// Source Link-Layer Address, an option (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// RFC 4861 §6.1: neighbour discovery travels no further than the link.
const HOP_LIMIT: u8 = 255;
/// Octets before the options.
const ADVERTISEMENT_HEADER: usize = 16;
const SOLICITATION_HEADER: usize = 8;

/// What a router on the link has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is there.
    Advertisement,
    /// It asks who is there.
    Solicitation,
}

/// An advertisement of a router that nobody shall take for a default one: its lifetime is zero, and
/// of hop limit and timers it says nothing.
pub(super) fn advertisement(link_layer: Option<[u8; 6]>) -> Vec<u8> {
    let mut packet = vec![0; ADVERTISEMENT_HEADER];
    packet[0] = ROUTER_ADVERTISEMENT;
    packet.extend(source_link_layer(link_layer));
    packet
}

/// A question that every router on the link answers.
pub(super) fn solicitation(link_layer: Option<[u8; 6]>) -> Vec<u8> {
    let mut packet = vec![0; SOLICITATION_HEADER];
    packet[0] = ROUTER_SOLICITATION;
    packet.extend(source_link_layer(link_layer));
    packet
}

/// Spares the other end a neighbour solicitation before it can dial.
fn source_link_layer(address: Option<[u8; 6]>) -> impl Iterator<Item = u8> {
    // The length counts eights of octets.
    address.into_iter().flat_map(|a| [[SOURCE_LINK_LAYER_ADDRESS, 1].as_slice(), &a].concat())
}

/// Reads what came with a hop limit; `None`: it is not valid (RFC 4861 §6.1.1, §6.1.2), or neither of
/// the two.
pub(super) fn read(packet: &[u8], hop_limit: u8) -> Option<Heard> {
    let [kind, code, ..] = *packet else { return None };
    let (heard, header) = match kind {
        ROUTER_ADVERTISEMENT => (Heard::Advertisement, ADVERTISEMENT_HEADER),
        ROUTER_SOLICITATION => (Heard::Solicitation, SOLICITATION_HEADER),
        _ => return None,
    };
    let mut options = packet.get(header..)?;
    while let [_, length, ..] = *options {
        // A length of zero would never end.
        options = options.get(usize::from(length) * 8..).filter(|_| length > 0)?;
    }
    (options.is_empty() && code == 0 && hop_limit == HOP_LIMIT).then_some(heard)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 7]);

    #[test]
    fn what_is_sent_can_be_read() {
        for (packet, heard, length) in [
            (advertisement(MAC), Heard::Advertisement, 24),
            (advertisement(None), Heard::Advertisement, 16),
            (solicitation(MAC), Heard::Solicitation, 16),
            (solicitation(None), Heard::Solicitation, 8),
        ] {
            assert_eq!((read(&packet, 255), packet.len()), (Some(heard), length));
            assert_eq!(read(&packet, 254), None, "it may have passed a router");
            assert_eq!(read(&packet[..packet.len() - 1], 255), None, "cut off");
        }
    }

    #[test]
    fn nobody_takes_us_for_a_default_router() {
        let packet = advertisement(MAC);
        assert_eq!(packet[6..8], [0, 0], "router lifetime");
        assert_eq!(packet[16..18], [1, 1], "an option of eight octets");
    }

    #[test]
    fn an_option_without_length_is_not_valid() {
        let mut packet = advertisement(MAC);
        packet[17] = 0;
        assert_eq!(read(&packet, 255), None);
        packet[17] = 2;
        assert_eq!(read(&packet, 255), None, "longer than the packet");
        packet[1] = 1;
        packet[17] = 1;
        assert_eq!(read(&packet, 255), None, "a code");
    }

    proptest! {
        #[test]
        fn reading_ends(packet in proptest::collection::vec(any::<u8>(), 0..64), kind in 132..136_u8) {
            let packet = [&[kind, 0], &packet[..]].concat();
            let heard = read(&packet, 255);
            prop_assert!(heard.is_none() || packet.len() % 8 == 0);
        }
    }
}
