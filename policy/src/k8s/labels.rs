//! Label selectors.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::problem::BadTerm;
use crate::selector::{Requirement, Selector};

/// What can be read of a label selector, and what cannot, with the path of each term.
pub(super) struct Terms {
    pub(super) selector: Selector,
    pub(super) bad: Vec<(String, BadTerm)>,
}

/// An absent selector reads as an empty one; where that matters, the caller looks first.
pub(super) fn terms(selector: Option<&LabelSelector>, field: &str) -> Terms {
    let mut requirements = Vec::new();
    let mut bad = Vec::new();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    for (key, value) in labels.into_iter().flatten() {
        match checked(key, std::slice::from_ref(value)) {
            Ok((key, values)) => requirements.push(Requirement::In(key, values)),
            Err(term) => bad.push((format!("{field}.matchLabels[{key}]"), term)),
        }
    }
    let expressions = selector.and_then(|selector| selector.match_expressions.as_ref());
    for (at, expression) in expressions.into_iter().flatten().enumerate() {
        match requirement(expression) {
            Ok(requirement) => requirements.push(requirement),
            Err(term) => bad.push((format!("{field}.matchExpressions[{at}]"), term)),
        }
    }
    Terms { selector: requirements.into_iter().collect(), bad }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, BadTerm> {
    let given = expression.values.as_deref().unwrap_or_default();
    let (key, values) = checked(&expression.key, given)?;
    let operator = expression.operator.as_str();
    match (operator, given) {
        ("In" | "NotIn", []) => Err(BadTerm::NoValues(operator.to_owned())),
        ("In", _) => Ok(Requirement::In(key, values)),
        ("NotIn", _) => Ok(Requirement::NotIn(key, values)),
        ("Exists", []) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", []) => Ok(Requirement::DoesNotExist(key)),
        ("Exists" | "DoesNotExist", _) => Err(BadTerm::Values(operator.to_owned())),
        _ => Err(BadTerm::Operator(operator.to_owned())),
    }
}

fn checked(key: &str, values: &[String]) -> Result<(Arc<str>, BTreeSet<Arc<str>>), BadTerm> {
    if !is_label_key(key) {
        return Err(BadTerm::Key(key.to_owned()));
    }
    match values.iter().find(|value| !value.is_empty() && !is_label_name(value)) {
        Some(value) => Err(BadTerm::Value(value.clone())),
        None => Ok((key.into(), values.iter().map(|value| value.as_str().into()).collect())),
    }
}

/// A name, after a DNS subdomain and a slash if there is one.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_name(key),
        Some((domain, name)) => is_subdomain(domain) && is_label_name(name),
    }
}

/// At most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_label_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// At most 253 characters: labels of small letters, digits and `-` between dots.
fn is_subdomain(domain: &str) -> bool {
    domain.len() <= 253
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
