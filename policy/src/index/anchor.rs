//! Which selectors a pod may match, without asking each of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::selectors::SelectorId;
use crate::model::{Namespace, NamespaceSelector, Pod, PodSelector};
use crate::selector::{Labels, Requirement, Selector};

/// Something that a pod must have for a selector to match it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Anchor {
    /// Nothing in particular.
    Anything,
    /// To be in this namespace.
    In(Arc<str>),
    /// A label, perhaps in this namespace.
    Pod(Option<Arc<str>>, Term),
    /// A label of its namespace.
    Namespace(Term),
}

/// Something about one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Term {
    Key(Arc<str>),
    Value(Arc<str>, Arc<str>),
}

/// Selectors under their anchors. Each selector hangs on one requirement, so that a pod finds it at
/// most once.
#[derive(Debug, Default)]
pub(super) struct Anchors(HashMap<Anchor, Vec<SelectorId>>);

impl Anchors {
    pub(super) fn add(&mut self, id: SelectorId, selector: &PodSelector) {
        for anchor in anchors_of(selector) {
            self.0.entry(anchor).or_default().push(id);
        }
    }

    pub(super) fn remove(&mut self, id: SelectorId, selector: &PodSelector) {
        for anchor in anchors_of(selector) {
            if let Some(ids) = self.0.get_mut(&anchor) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.0.remove(&anchor);
                }
            }
        }
    }

    /// The selectors that may match a pod.
    pub(super) fn candidates(&self, pod: &Pod, namespace: Option<&Namespace>) -> Vec<SelectorId> {
        let own = &pod.key.namespace;
        let mut found = Vec::new();
        let mut look = |anchor: &Anchor| found.extend(self.0.get(anchor).into_iter().flatten());
        look(&Anchor::Anything);
        look(&Anchor::In(own.clone()));
        for term in terms(&pod.labels) {
            look(&Anchor::Pod(None, term.clone()));
            look(&Anchor::Pod(Some(own.clone()), term));
        }
        for term in namespace.into_iter().flat_map(|namespace| terms(&namespace.labels)) {
            look(&Anchor::Namespace(term));
        }
        found
    }
}

fn terms(labels: &Labels) -> impl Iterator<Item = Term> {
    labels
        .shared()
        .flat_map(|(key, value)| [Term::Key(key.clone()), Term::Value(key.clone(), value.clone())])
}

fn anchors_of(selector: &PodSelector) -> Vec<Anchor> {
    let (own, namespaces) = match &selector.namespaces {
        NamespaceSelector::Any => (None, None),
        NamespaceSelector::Named(name) => (Some(name.clone()), None),
        NamespaceSelector::Labelled(labels) => (None, required(labels)),
    };
    match (required(&selector.pods), own, namespaces) {
        (Some(terms), own, _) => {
            terms.into_iter().map(|term| Anchor::Pod(own.clone(), term)).collect()
        }
        (None, Some(own), _) => vec![Anchor::In(own)],
        (None, None, Some(terms)) => terms.into_iter().map(Anchor::Namespace).collect(),
        (None, None, None) => vec![Anchor::Anything],
    }
}

/// Terms of which labels must have one: those of the requirement that says most.
fn required(selector: &Selector) -> Option<Vec<Term>> {
    let values = selector.requirements().find_map(|requirement| match requirement {
        Requirement::In(key, values) => {
            Some(values.iter().map(|value| Term::Value(key.clone(), value.clone())).collect())
        }
        Requirement::NotIn(..) | Requirement::Exists(_) | Requirement::DoesNotExist(_) => None,
    });
    let key = || {
        selector.requirements().find_map(|requirement| match requirement {
            Requirement::Exists(key) => Some(vec![Term::Key(key.clone())]),
            Requirement::In(..) | Requirement::NotIn(..) | Requirement::DoesNotExist(_) => None,
        })
    };
    values.or_else(key)
}
