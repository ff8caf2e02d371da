//! Kernel settings under `/proc/sys` that pod networking needs.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    path::PathBuf,
};

/// One setting; prints as `sysctl -w …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Path below `/proc/sys`.
    pub path: String,
    /// What it should be.
    pub value: String,
    /// What it means when there is no such setting.
    pub absence: Absence,
}

/// What it means when a setting is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The interface has gone, or the node has no IPv6: nothing to set.
    Fine,
    /// The kernel lacks what we need.
    Failure,
}

/// Whether the kernel checks that replies to a source would leave where its packets came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversePath {
    /// As the node does elsewhere (`conf/default/rp_filter`).
    NodeDefault,
    /// Not for this interface: the pod may send from addresses that are not its own.
    Off,
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl -w {}={}", self.path, self.value)
    }
}

impl Setting {
    fn new(path: impl Into<String>, value: impl Into<String>, absence: Absence) -> Self {
        Self { path: path.into(), value: value.into(), absence }
    }

    /// Writes the setting, unless it already is so: writing some settings has effects of its own
    /// (`ip_forward` resets those of every interface).
    ///
    /// # Errors
    /// When it cannot be written, or is not there and should be.
    pub fn apply(&self) -> io::Result<()> {
        let path = PathBuf::from("/proc/sys").join(&self.path);
        let write = || match fs::read_to_string(&path)? {
            now if now.trim() == self.value => Ok(()),
            _ => fs::write(&path, &self.value),
        };
        match write() {
            // An interface that goes while we write gives "no such device" or "invalid argument".
            Err(_) if self.absence == Absence::Fine && !path.exists() => Ok(()),
            other => other,
        }
    }
}

/// What the node needs as a router.
///
/// A kernel that forwards IPv6 stops listening to router advertisements where `accept_ra` is 1: a node that
/// has its default route from one would lose it. 2 means "even when forwarding".
pub fn for_node() -> Vec<Setting> {
    let mut settings = vec![Setting::new("net/ipv4/ip_forward", "1", Absence::Failure)];
    let listening = interfaces_with_ipv6().into_iter().filter(|name| accepts_advertisements(name));
    settings.extend(
        listening.map(|name| {
            Setting::new(format!("net/ipv6/conf/{name}/accept_ra"), "2", Absence::Fine)
        }),
    );
    settings.push(Setting::new("net/ipv6/conf/all/forwarding", "1", Absence::Fine));
    settings
}

/// Octets that the keys of a listening socket may take, some 140 each: enough for a password of each of 7,000 peers.
const ROOM_FOR_KEYS: u64 = 1 << 20;

/// What the speaker needs before it listens. A limit that is higher already stays. Before Linux 6.8 there is one for the
/// whole machine, which is not seen from within a network namespace of one's own.
pub fn for_speaker() -> Vec<Setting> {
    let path = "net/core/optmem_max";
    let now = fs::read_to_string(format!("/proc/sys/{path}"));
    let now: Option<u64> = now.ok().and_then(|text| text.trim().parse().ok());
    let low = now.filter(|now| *now < ROOM_FOR_KEYS);
    let raise = |_| Setting::new(path, ROOM_FOR_KEYS.to_string(), Absence::Fine);
    low.map(raise).into_iter().collect()
}

fn interfaces_with_ipv6() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/sys/net/ipv6/conf") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // New interfaces start from "default": pods' are new, and must not listen.
    let mut names: Vec<_> = names.filter(|name| name != "all" && name != "default").collect();
    names.sort();
    names
}

/// Whether the interface listens now and would not when the node forwards.
fn accepts_advertisements(interface: &str) -> bool {
    let value = |key| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/{key}"));
    let is = |key, wanted: &str| value(key).is_ok_and(|text| text.trim() == wanted);
    is("accept_ra", "1") && is("forwarding", "0")
}

/// What the node's end of a pod's interface needs. To be written each time the interface comes up: the
/// CNI plugin may be of another version.
///
/// `route_localnet` is left alone: with it, pods could send to the node's loopback addresses.
pub fn for_pod_interface(name: &str, reverse_path: ReversePath) -> Vec<Setting> {
    let rp_filter = match reverse_path {
        ReversePath::NodeDefault => fs::read_to_string("/proc/sys/net/ipv4/conf/default/rp_filter")
            .map_or_else(|_| "0".into(), |text| text.trim().to_owned()),
        ReversePath::Off => "0".into(),
    };
    let v4 = |key: &str, value: &str| {
        Setting::new(format!("net/ipv4/conf/{name}/{key}"), value, Absence::Fine)
    };
    let v6 = |key: &str, value: &str| {
        Setting::new(format!("net/ipv6/conf/{name}/{key}"), value, Absence::Fine)
    };
    vec![
        v4("forwarding", "1"),
        v4("proxy_arp", "1"),
        v4("rp_filter", &rp_filter),
        // Without it the kernel waits up to 0.8 s before it answers for somebody else.
        Setting::new(format!("net/ipv4/neigh/{name}/proxy_delay"), "0", Absence::Fine),
        // Whatever else is said of IPv6: a pod must not configure the node by router advertisements.
        v6("accept_ra", "0"),
        v6("accept_dad", "0"),
        v6("disable_ipv6", "0"),
        v6("forwarding", "1"),
        v6("proxy_ndp", "1"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_print_as_an_operator_would_type_them() {
        let first = for_pod_interface("oci01", ReversePath::Off).remove(0);
        assert_eq!(first.to_string(), "sysctl -w net/ipv4/conf/oci01/forwarding=1");
    }

    #[test]
    fn an_interface_that_has_gone_is_no_failure() {
        for setting in for_pod_interface("oci-is-not-there", ReversePath::NodeDefault) {
            assert!(setting.apply().is_ok(), "{setting}");
        }
        let missing = Setting::new("net/ipv4/no_such_setting", "1", Absence::Failure);
        assert!(missing.apply().is_err());
    }
}
