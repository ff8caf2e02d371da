//! Keys of TCP-AO (RFC 5925), which Linux has from 6.7 on where it was built with `CONFIG_TCP_AO`.
//!
//! The kernel does all of it but the choice of keys: a socket that has one for an address signs what
//! goes there and drops what comes from there unsigned. Where it has no TCP-AO, setting a key fails,
//! and so does the connection.

use std::io;
use std::net::SocketAddr;

use socket2::{SockAddr, SockAddrStorage, Socket};

use super::socket::set_option;
use crate::speaker::{AoAlgorithm, TcpAo};
use crate::wire::Prefix;

/// `TCP_AO_ADD_KEY` of `linux/tcp.h`.
const TCP_AO_ADD_KEY: libc::c_int = 38;
/// The longest key in octets (`TCP_AO_MAXKEYLEN`).
const KEY_MAX: usize = 80;
/// Room for the name of an algorithm.
const NAME_MAX: usize = 64;

/// `struct tcp_ao_add` of `linux/tcp.h`.
#[repr(C, align(8))]
struct AddKey {
    address: SockAddrStorage,
    algorithm: [u8; NAME_MAX],
    interface: i32,
    /// `set_current`, `set_rnext`: which of several keys to use. With one there is no choice.
    choice: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    code_len: u8,
    flags: u8,
    key_len: u8,
    key: [u8; KEY_MAX],
}

/// Signs what goes to the addresses of a prefix, and demands the same of what comes.
pub(super) fn set_key(socket: &Socket, peers: Prefix, terms: TcpAo, key: &[u8]) -> io::Result<()> {
    let added = set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &encode(peers, terms, key)?);
    added.map_err(|error| explain(error, terms.algorithm))
}

/// What the kernel means by its error.
fn explain(error: io::Error, algorithm: AoAlgorithm) -> io::Error {
    let message = match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => {
            "this kernel has no TCP-AO (Linux 6.7 or later with CONFIG_TCP_AO)".to_owned()
        }
        Some(libc::ENOENT) => format!("this kernel has no {} for TCP-AO", kernel_name(algorithm).0),
        _ => return error,
    };
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// The name of the algorithm in the kernel, and the length of its code in octets.
const fn kernel_name(algorithm: AoAlgorithm) -> (&'static str, u8) {
    match algorithm {
        AoAlgorithm::HmacSha1 => ("hmac(sha1)", 12),
        AoAlgorithm::AesCmac => ("cmac(aes128)", 12),
        AoAlgorithm::HmacSha256 => ("hmac(sha256)", 16),
    }
}

fn encode(peers: Prefix, terms: TcpAo, key: &[u8]) -> io::Result<AddKey> {
    let mut padded = [0; KEY_MAX];
    let Some(place) = padded.get_mut(..key.len()) else {
        let message = format!("TCP-AO key is longer than {KEY_MAX} octets");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    place.copy_from_slice(key);
    let (name, code_len) = kernel_name(terms.algorithm);
    let mut algorithm = [0; NAME_MAX];
    algorithm[..name.len()].copy_from_slice(name.as_bytes());
    Ok(AddKey {
        address: SockAddr::from(SocketAddr::new(peers.addr(), 0)).as_storage(),
        algorithm,
        interface: 0,
        choice: 0,
        reserved: 0,
        prefix_len: peers.len(),
        send_id: terms.send_id,
        receive_id: terms.receive_id,
        code_len,
        flags: 0,
        key_len: u8::try_from(key.len()).expect("at most 80"),
        key: padded,
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    const TERMS: TcpAo = TcpAo { send_id: 7, receive_id: 9, algorithm: AoAlgorithm::HmacSha256 };

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    /// Linux 6.7, `include/uapi/linux/tcp.h`.
    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<AddKey>(), 288);
        assert_eq!(align_of::<AddKey>(), 8);
        assert_eq!(offset_of!(AddKey, algorithm), 128);
        assert_eq!(offset_of!(AddKey, interface), 192);
        assert_eq!(offset_of!(AddKey, choice), 196);
        assert_eq!(offset_of!(AddKey, reserved), 200);
        assert_eq!(offset_of!(AddKey, prefix_len), 202);
        assert_eq!(offset_of!(AddKey, send_id), 203);
        assert_eq!(offset_of!(AddKey, receive_id), 204);
        assert_eq!(offset_of!(AddKey, code_len), 205);
        assert_eq!(offset_of!(AddKey, flags), 206);
        assert_eq!(offset_of!(AddKey, key_len), 207);
        assert_eq!(offset_of!(AddKey, key), 208);
    }

    #[test]
    fn a_key_stands_where_the_kernel_looks_for_it() {
        let added = encode(p("10.1.0.0/16"), TERMS, b"secret").unwrap();
        assert_eq!(&added.algorithm[..13], b"hmac(sha256)\0");
        assert_eq!((added.prefix_len, added.send_id, added.receive_id), (16, 7, 9));
        assert_eq!((added.code_len, added.key_len), (16, 6));
        assert_eq!(&added.key[..7], b"secret\0");
        assert_eq!((added.interface, added.choice, added.reserved, added.flags), (0, 0, 0, 0));
        let host = encode(p("2001:db8::1/128"), TERMS, &[1; KEY_MAX]).unwrap();
        assert_eq!((host.prefix_len, host.key_len), (128, 80));
    }

    #[test]
    fn a_key_that_has_no_room_is_refused() {
        let error = encode(p("10.1.0.1/32"), TERMS, &[1; KEY_MAX + 1]).err().unwrap();
        assert_eq!(error.to_string(), "TCP-AO key is longer than 80 octets");
    }

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let said =
            |code| explain(io::Error::from_raw_os_error(code), AoAlgorithm::AesCmac).to_string();
        let no_option = "this kernel has no TCP-AO (Linux 6.7 or later with CONFIG_TCP_AO)";
        assert_eq!(said(libc::ENOPROTOOPT), no_option);
        assert_eq!(said(libc::ENOENT), "this kernel has no cmac(aes128) for TCP-AO");
        assert_eq!(said(libc::EKEYREJECTED), io::Error::from_raw_os_error(129).to_string());
    }
}
