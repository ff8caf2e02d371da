//! The annotations `rpki` and `origin-validation`: who says which AS may originate which prefix, and what
//! follows where one must not.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ocicat_bgp::speaker::OriginValidation;

/// The words for what becomes of invalid paths.
const POLICIES: [(&str, OriginValidation); 3] = [
    ("reject-invalid", OriginValidation::RejectInvalid),
    ("mark", OriginValidation::Mark),
    ("off", OriginValidation::Off),
];

/// `ADDRESS:PORT`, several separated by commas.
pub(super) fn caches(text: &str) -> Result<BTreeSet<SocketAddr>, String> {
    let mut caches = BTreeSet::new();
    for word in text.split(',') {
        let address = super::endpoint(word.trim(), text)?;
        if !caches.insert(address) {
            return Err(format!("{address} stands twice in {text:?}"));
        }
    }
    Ok(caches)
}

pub(super) fn policy(text: &str) -> Result<OriginValidation, String> {
    let found = POLICIES.iter().find(|(word, _)| *word == text);
    found.map(|(_, policy)| *policy).ok_or_else(|| {
        format!("{text:?} is not one of {}", POLICIES.map(|(word, _)| word).join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_addresses_with_ports() {
        let read: Vec<String> = caches("192.0.2.1:323, [2001:db8::1]:3323")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(read, ["192.0.2.1:323", "[2001:db8::1]:3323"]);
        for (text, word) in [
            ("", "\"\""),
            ("192.0.2.1", "\"192.0.2.1\""),
            ("rpki:323", "\"rpki:323\""),
            ("192.0.2.1:0", "\"192.0.2.1:0\""),
            ("0.0.0.0:323", "\"0.0.0.0:323\""),
            ("192.0.2.1:323,", "\"\""),
            ("192.0.2.1:323, 192.0.2.1:323", "192.0.2.1:323 stands twice"),
        ] {
            let error = caches(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_policy_is_one_of_three_words() {
        for (word, wanted) in POLICIES {
            assert_eq!(policy(word), Ok(wanted));
        }
        let error = policy("on").unwrap_err();
        assert_eq!(error, "\"on\" is not one of reject-invalid, mark, off");
    }
}
