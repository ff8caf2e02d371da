//! Which policies may select a pod, without asking each of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{NamespaceSelector, Policy, PolicyKey};

/// Policies by the namespace of their subjects.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    by_namespace: HashMap<Arc<str>, BTreeSet<PolicyKey>>,
    anywhere: BTreeSet<PolicyKey>,
}

impl Subjects {
    pub(super) fn add(&mut self, policy: &Policy) {
        let keys = match &policy.subject.namespaces {
            NamespaceSelector::Named(name) => self.by_namespace.entry(name.clone()).or_default(),
            NamespaceSelector::Any | NamespaceSelector::Labelled(_) => &mut self.anywhere,
        };
        keys.insert(policy.key.clone());
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        match &policy.subject.namespaces {
            NamespaceSelector::Named(name) => {
                if let Some(keys) = self.by_namespace.get_mut(name) {
                    keys.remove(&policy.key);
                    if keys.is_empty() {
                        self.by_namespace.remove(name);
                    }
                }
            }
            NamespaceSelector::Any | NamespaceSelector::Labelled(_) => {
                self.anywhere.remove(&policy.key);
            }
        }
    }

    /// The policies that may select pods of a namespace.
    pub(super) fn candidates(&self, namespace: &str) -> impl Iterator<Item = &PolicyKey> {
        self.by_namespace.get(namespace).into_iter().flatten().chain(&self.anywhere)
    }
}
