//! The codec against written-out bytes and against random ones.

mod confederation;
mod messages;
pub(crate) mod random;
mod revised_errors;
mod updates;

use super::*;

/// Reads a hex dump: two digits an octet, anything after `;` is meaning.
fn hex(dump: &str) -> Vec<u8> {
    let digits: String = dump
        .lines()
        .map(|line| line.split(';').next().unwrap_or_default())
        .flat_map(|line| line.split_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

const MARKER: &str = "ffffffff ffffffff ffffffff ffffffff\n";

fn message(dump: &str) -> Vec<u8> {
    hex(&format!("{MARKER}{dump}"))
}

/// An UPDATE of three parts; the lengths around them are put in.
fn update(withdrawn: &str, attributes: &str, announced: &str) -> Vec<u8> {
    let sized = |dump: &str| {
        let octets = hex(dump);
        [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], &octets].concat()
    };
    let body = [sized(withdrawn), sized(attributes), hex(announced)].concat();
    let length = u16::try_from(HEADER_LEN + body.len()).unwrap();
    [&hex(MARKER)[..], &length.to_be_bytes(), &[2], &body].concat()
}

/// Four-octet AS numbers, both families.
fn modern(peer: PeerKind) -> Codec {
    Codec { asn_width: AsnWidth::Four, families: FamilySet::ALL, ..Codec::baseline(peer) }
}

fn parse<'a>(bytes: &'a [u8], codec: &Codec) -> Result<Message<'a>, MessageError> {
    let framed = frame(bytes, codec.message_size)?.expect("a whole message");
    assert_eq!(framed.len(), bytes.len());
    Message::parse(framed, codec)
}

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}
