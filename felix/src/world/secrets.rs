//! The Secrets of one namespace: that of the agent. Those of others are nobody's business here, and not kept.

use std::collections::BTreeMap;

use super::World;
use crate::datastore::{Key, Secret};

/// Where the agent's Secrets are unless told otherwise: where its service account is.
pub const DEFAULT_NAMESPACE: &str = "kube-system";

/// How Secrets come to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// With everything else: one that was not told is not there.
    #[default]
    WithTheRest,
    /// Each when its name is asked for; until then nothing is known of it.
    OnDemand,
}

/// What is known of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    /// It is there.
    There(&'a Secret),
    /// It is not.
    Absent,
    /// Not heard of yet.
    Unheard,
}

#[derive(Debug)]
pub(super) struct Secrets {
    namespace: String,
    arrival: Arrival,
    /// By name; `None`: told to be absent. What is not asked for any more stays as it was: whether it was asked for again
    /// in between is for the datastore to know, and it tells all news.
    told: BTreeMap<String, Option<Secret>>,
}

impl Default for Secrets {
    fn default() -> Self {
        let namespace = DEFAULT_NAMESPACE.to_owned();
        Self { namespace, arrival: Arrival::default(), told: BTreeMap::new() }
    }
}

impl Secrets {
    /// Takes one in; says whether that is news.
    pub(super) fn put(&mut self, secret: Secret) -> bool {
        if secret.namespace != self.namespace
            || self.told.get(&secret.name).is_some_and(|told| told.as_ref() == Some(&secret))
        {
            return false;
        }
        self.told.insert(secret.name.clone(), Some(secret));
        true
    }

    /// Notes that one is not there; says whether that is news.
    pub(super) fn delete(&mut self, key: &Key) -> bool {
        if key.namespace != self.namespace {
            return false;
        }
        self.told.insert(key.name.clone(), None) != Some(None)
    }
}

impl World {
    /// Takes Secrets from `namespace`, which become known by `arrival`.
    #[must_use]
    pub fn with_secrets(mut self, namespace: String, arrival: Arrival) -> Self {
        self.secrets = Secrets { namespace, arrival, told: BTreeMap::new() };
        self
    }

    /// Where Secrets are taken from.
    pub fn secret_namespace(&self) -> &str {
        &self.secrets.namespace
    }

    /// What is known of a Secret.
    pub fn secret(&self, name: &str) -> Known<'_> {
        match (self.secrets.told.get(name), self.secrets.arrival) {
            (Some(Some(secret)), _) => Known::There(secret),
            (Some(None), _) | (None, Arrival::WithTheRest) => Known::Absent,
            (None, Arrival::OnDemand) => Known::Unheard,
        }
    }
}
