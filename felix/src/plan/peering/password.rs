//! Passwords from Secrets. A session that should have one never runs without: it stays down and says why.

use std::collections::BTreeSet;

use ocicat_bgp::speaker::Password;

use crate::datastore::calico::{self, SecretKeyRef};
use crate::datastore::{Key, Kind};
use crate::problem::Problem;
use crate::world::{Known, World};

/// The longest TCP MD5 key that Linux takes, in octets (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_KEY: usize = 80;

/// A password, and why the session has to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) password: Password,
    pub(super) held: Option<String>,
}

impl Found {
    /// No password is wanted.
    pub(super) const NONE: Self = Self { password: Password::None, held: None };
}

/// Where a password is looked for.
pub(super) struct Search<'a> {
    pub(super) world: &'a World,
    /// The object that wants it, and its field.
    pub(super) key: &'a Key,
    pub(super) field: &'a str,
    pub(super) secrets: &'a mut BTreeSet<String>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Search<'_> {
    /// The password that a field asks for.
    pub(super) fn find(self, wanted: Option<&calico::Password>) -> Found {
        let Some(reference) = wanted.and_then(|password| password.secret_key_ref.as_ref()) else {
            return Found::NONE;
        };
        if reference.name.is_empty() {
            return self.missing("the name of the Secret is missing".to_owned());
        }
        self.secrets.insert(reference.name.clone());
        let namespace = self.world.secret_namespace();
        let secret = Key::namespaced(Kind::Secret, namespace, reference.name.as_str());
        match self.world.secret(&reference.name) {
            // No problem yet: the API server is being asked.
            Known::Unheard => Found {
                password: Password::Missing,
                held: Some(format!("{secret} was not heard of yet")),
            },
            Known::Absent => self.absent(reference, format!("there is no {secret}")),
            Known::There(found) => match found.values.get(&reference.key) {
                None => self.absent(reference, format!("{secret} has no key {:?}", reference.key)),
                Some(value) => match usable(value.expose()) {
                    Ok(text) => Found { password: Password::Key(text.into()), held: None },
                    Err(why) => self.missing(format!("key {:?} of {secret} {why}", reference.key)),
                },
            },
        }
    }

    /// What `optional` is for: where there is no password, none is used.
    fn absent(self, reference: &SecretKeyRef, why: String) -> Found {
        match reference.optional {
            Some(true) => Found::NONE,
            Some(false) | None => self.missing(why),
        }
    }

    fn missing(self, why: String) -> Found {
        let message = format!("{why}; the session stays down");
        self.problems.push(Problem::new(self.key, self.field, message));
        Found { password: Password::Missing, held: Some(why) }
    }
}

/// The password as text, or what keeps the kernel from taking it. It is never quoted.
fn usable(value: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "is not text")?;
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > LONGEST_KEY {
        Err("is longer than 80 octets, the most that the kernel takes as a TCP MD5 key")
    } else if text.ends_with('\n') {
        Err("ends in a line break; make it with `printf %s`, or `echo -n`")
    } else {
        Ok(text)
    }
}
