//! The annotation `bgp.ocicat.io/tcp-ao`: a peer's password as a key of TCP-AO (RFC 5925) instead of TCP MD5.

use ocicat_bgp::speaker::{AoAlgorithm, Password, PeerConfig, Signing, TcpAo};

/// Reads `send-id=1 receive-id=1`, with `algorithm=hmac-sha1-96` or another one behind it.
///
/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn parse(text: &str) -> Result<Signing, String> {
    let (mut send_id, mut receive_id, mut algorithm) = (None, None, AoAlgorithm::default());
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("send-id", number)) => send_id = Some(id(text, number)?),
            Some(("receive-id", number)) => receive_id = Some(id(text, number)?),
            Some(("algorithm", name)) => algorithm = named(text, name)?,
            _ => return Err(wrong(text)),
        }
    }
    let (Some(send_id), Some(receive_id)) = (send_id, receive_id) else { return Err(wrong(text)) };
    Ok(Signing::TcpAo(TcpAo { send_id, receive_id, algorithm }))
}

fn wrong(text: &str) -> String {
    format!("{text:?} is not like \"send-id=1 receive-id=1 algorithm=hmac-sha1-96\"")
}

fn id(text: &str, number: &str) -> Result<u8, String> {
    number.parse().map_err(|_| format!("{text:?} has {number:?}, which is no number up to 255"))
}

fn named(text: &str, name: &str) -> Result<AoAlgorithm, String> {
    let mut all = AoAlgorithm::ALL.into_iter();
    all.find(|algorithm| algorithm.to_string() == name).ok_or_else(|| {
        let all = AoAlgorithm::ALL.map(|algorithm| algorithm.to_string()).join(", ");
        format!("{text:?} has the algorithm {name:?}, not one of {all}")
    })
}

/// Why a session has to wait that must not run unsigned, or signed otherwise.
pub(super) fn held(peer: &PeerConfig) -> Option<String> {
    match (peer.signing, &peer.password) {
        (Signing::Unreadable, _) => Some("its annotation tcp-ao cannot be read".to_owned()),
        (Signing::TcpAo(_), Password::None) => {
            Some("TCP-AO is asked for, and there is no password".to_owned())
        }
        (Signing::TcpAo(_), Password::Key(_) | Password::Missing) | (Signing::Md5, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_key_has_a_number_in_each_direction_and_an_algorithm() {
        let read = |text| match parse(text) {
            Ok(Signing::TcpAo(TcpAo { send_id, receive_id, algorithm })) => {
                format!("{send_id} {receive_id} {algorithm}")
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error,
        };
        assert_eq!(read("send-id=1 receive-id=2"), "1 2 hmac-sha1-96");
        assert_eq!(
            read("receive-id=0 algorithm=aes-128-cmac-96 send-id=255"),
            "255 0 aes-128-cmac-96"
        );
        assert_eq!(read("send-id=1 receive-id=1 algorithm=hmac-sha256-128"), "1 1 hmac-sha256-128");
        assert_eq!(
            read("send-id=1 receive-id=256"),
            "\"send-id=1 receive-id=256\" has \"256\", which is no number up to 255"
        );
        assert!(read("send-id=1 receive-id=1 algorithm=md5").contains("the algorithm \"md5\""));
        for text in ["", "on", "send-id=1", "send-id=1 receive-id=1 key=secret"] {
            assert!(read(text).contains("is not like"), "{text:?}");
        }
    }

    #[test]
    fn without_a_key_there_is_no_session() {
        let mut peer = PeerConfig::new(Ipv4Addr::LOCALHOST.into(), NonZeroU32::MIN);
        assert_eq!(held(&peer), None);
        peer.signing = parse("send-id=1 receive-id=1").unwrap();
        assert_eq!(held(&peer).unwrap(), "TCP-AO is asked for, and there is no password");
        peer.password = Password::Key("secret".into());
        assert_eq!(held(&peer), None);
        peer.signing = Signing::Unreadable;
        assert_eq!(held(&peer).unwrap(), "its annotation tcp-ao cannot be read");
    }
}
