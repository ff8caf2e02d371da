//! `v1` Secret, of which nothing is ever printed: no value has a text form here, and what cannot be read is not quoted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as SecretObject;
use serde_json::Value;

/// A Secret: whose it is and its values. Its metadata are not kept, because the annotation that `kubectl apply` leaves
/// behind repeats the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its values by key.
    pub values: BTreeMap<String, SecretValue>,
}

/// One value of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// The value itself. Whoever takes it must not print it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

impl Secret {
    /// Reads the values of a Secret; `stringData` goes before `data`, as on an API server. `None` when it is not one:
    /// why is not said, for the reason would quote the value.
    pub fn read(document: Value, namespace: &str, name: &str) -> Option<Self> {
        let object: SecretObject = serde_json::from_value(document).ok()?;
        let encoded =
            object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let plain = object.string_data.unwrap_or_default().into_iter();
        let values = encoded.chain(plain.map(|(key, value)| (key, value.into_bytes())));
        Some(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            values: values.map(|(key, value)| (key, SecretValue(value.into()))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_from_both_fields_and_shown_by_none() {
        let secret = Secret::read(
            json!({"data": {"a": "aHVudGVyMg=="}, "stringData": {"b": "hunter3"},
                "metadata": {"annotations": {"last": "hunter2"}}}),
            "kube-system",
            "bgp",
        )
        .unwrap();
        assert_eq!(secret.values["a"].expose(), b"hunter2");
        assert_eq!(secret.values["b"].expose(), b"hunter3");
        assert!(!format!("{secret:?}").contains("hunter"), "{secret:?}");
        assert_eq!(Secret::read(json!({"data": {"a": "not base64"}}), "n", "s"), None);
    }
}
