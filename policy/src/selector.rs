//! Labels, and the selectors that match them.
//!
//! The meaning is that of `LabelSelector` in Kubernetes' `meta/v1`: every requirement must hold, and
//! a selector without requirements selects everything. What cannot be read is not represented here:
//! the conversion reports it.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The labels of one object, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(have, _)| have.as_ref().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// The same for two handles of one set of labels, and for no other set while a handle lives.
    pub(crate) fn place(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// How many copies of the handle there are.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Every label as it is shared.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &(Arc<str>, Arc<str>)> {
        self.0.iter()
    }

    /// Every label, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

/// The last of two labels with the same key stays.
impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let sorted: std::collections::BTreeMap<Arc<str>, Arc<str>> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }
}

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement {
    /// The key is there with one of these values. `matchLabels` is this with one value.
    In(Arc<str>, BTreeSet<Arc<str>>),
    /// The key is absent, or there with none of these values.
    NotIn(Arc<str>, BTreeSet<Arc<str>>),
    /// The key is there.
    Exists(Arc<str>),
    /// The key is absent.
    DoesNotExist(Arc<str>),
}

impl Requirement {
    /// Whether `labels` meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
        }
    }
}

/// Requirements that must all hold. Two selectors that were written differently but require the same
/// are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(BTreeSet<Requirement>);

impl Selector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// The requirements, in a fixed order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        [("app", "web"), ("tier", "front")].into_iter().collect()
    }

    fn check(requirement: &Requirement, expected: bool) {
        assert_eq!(requirement.matches(&labels()), expected, "{requirement:?}");
    }

    #[test]
    fn each_operator_has_the_meaning_of_kubernetes() {
        let values = |all: &[&str]| all.iter().map(|value| Arc::from(*value)).collect();
        check(&Requirement::In("app".into(), values(&["db", "web"])), true);
        check(&Requirement::In("app".into(), values(&["db"])), false);
        check(&Requirement::In("zone".into(), values(&["db"])), false);
        check(&Requirement::NotIn("app".into(), values(&["db"])), true);
        check(&Requirement::NotIn("app".into(), values(&["web"])), false);
        check(&Requirement::NotIn("zone".into(), values(&["web"])), true);
        check(&Requirement::Exists("app".into()), true);
        check(&Requirement::Exists("zone".into()), false);
        check(&Requirement::DoesNotExist("app".into()), false);
        check(&Requirement::DoesNotExist("zone".into()), true);
    }

    #[test]
    fn an_empty_selector_selects_everything_and_all_requirements_must_hold() {
        assert!(Selector::everything().matches(&Labels::default()));
        let both: Selector =
            [Requirement::Exists("app".into()), Requirement::Exists("zone".into())]
                .into_iter()
                .collect();
        assert!(!both.matches(&labels()));
    }

    #[test]
    fn labels_are_found_whatever_their_order() {
        let labels: Labels = [("z", "1"), ("a", "2"), ("m", "3")].into_iter().collect();
        assert_eq!(labels.get("a"), Some("2"));
        assert_eq!(labels.get("z"), Some("1"));
        assert_eq!(labels.get("b"), None);
        assert_eq!(labels.iter().count(), 3);
    }
}
