//! What the server said of one kind, as events for the daemon. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{DynamicObject, TypeMeta};

use crate::datastore::{Event, Key, Kind, Object, Parsed, Unusable};
use crate::problem::Problem;

/// The objects of one kind that the server has.
pub(super) struct Told {
    kind: Kind,
    objects: BTreeMap<Key, InForce>,
}

/// Which version of an object the daemon has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InForce {
    /// The newest that could be read.
    Good,
    /// None could be read so far.
    Nothing,
}

impl Told {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, objects: BTreeMap::new() }
    }

    pub(super) fn key(&self, object: &DynamicObject) -> Key {
        let name = object.metadata.name.clone().unwrap_or_default();
        if self.kind.is_namespaced() {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            Key::namespaced(self.kind, namespace, name)
        } else {
            Key::cluster(self.kind, name)
        }
    }

    /// An object is there, or has changed. As in a directory, one that cannot be read keeps its last good version in
    /// force; a policy that has none closes what it may have selected.
    pub(super) fn put(&mut self, object: DynamicObject) -> Vec<Event> {
        let key = self.key(&object);
        let before = self.objects.get(&key).copied().unwrap_or(InForce::Nothing);
        let (after, problems, object) = match (read(self.kind, object, &key), before) {
            (Ok(Parsed { object, problems }), _) => {
                (InForce::Good, self.relevant(problems), Some(object))
            }
            (Err(mut problem), InForce::Good) => {
                problem.message.push_str("; the last good version stays in force");
                (before, vec![problem], None)
            }
            (Err(mut problem), InForce::Nothing) if self.kind == Kind::NetworkPolicy => {
                let closed = "; until it can be read it closes every pod of its namespace";
                problem.message.push_str(closed);
                (before, vec![problem], Some(Object::UnreadableNetworkPolicy(key.clone())))
            }
            (Err(problem), InForce::Nothing) => (before, vec![problem], None),
        };
        // Empty problems take back earlier ones.
        let mut events = vec![Event::Problems { origin: key.to_string(), problems }];
        events.extend(object.map(|object| Event::Put(Box::new(object))));
        self.objects.insert(key, after);
        events
    }

    /// A field of a policy or a peer that we do not know may restrict something. Of other kinds we read little, and a
    /// newer server has more.
    fn relevant(&self, problems: Vec<Problem>) -> Vec<Problem> {
        match self.kind {
            Kind::Node
            | Kind::Namespace
            | Kind::Pod
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret => Vec::new(),
            Kind::NetworkPolicy
            | Kind::BgpConfiguration
            | Kind::BgpPeer
            | Kind::BgpFilter
            | Kind::IpPool
            | Kind::CalicoNodeStatus => problems,
        }
    }

    pub(super) fn delete(&mut self, key: Key) -> Vec<Event> {
        self.objects.remove(&key);
        vec![Event::Problems { origin: key.to_string(), problems: Vec::new() }, Event::Delete(key)]
    }

    /// A list of all objects is complete: what was known and is not in it was deleted unseen.
    pub(super) fn keep_only(&mut self, listed: &BTreeSet<Key>) -> Vec<Event> {
        let known = self.objects.keys();
        let gone: Vec<Key> = known.filter(|key| !listed.contains(key)).cloned().collect();
        gone.into_iter().flat_map(|key| self.delete(key)).collect()
    }
}

fn read(kind: Kind, mut object: DynamicObject, key: &Key) -> Result<Parsed, Problem> {
    // The items of a list do not repeat what they are.
    let (api_version, kind) = (kind.api_version().to_owned(), kind.name().to_owned());
    object.types = Some(TypeMeta { api_version, kind });
    let value = serde_json::to_value(object).map_err(|error| Problem::new(key, "", error))?;
    Object::parse(value).map_err(|unusable| match unusable {
        Unusable::Invalid(invalid) => invalid.problem,
        Unusable::NotAnObject(why) | Unusable::OtherKind(why) => Problem::new(key, "", why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(name: &str, spec: &Value) -> DynamicObject {
        let metadata = json!({ "namespace": "shop", "name": name, "resourceVersion": "1" });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn lines(events: &[Event]) -> Vec<String> {
        let line = |event: &Event| match event {
            Event::Put(object) if matches!(**object, Object::UnreadableNetworkPolicy(_)) => {
                format!("close {}", object.key())
            }
            Event::Put(object) => format!("put {}", object.key()),
            Event::Delete(key) => format!("delete {key}"),
            Event::Problems { origin, problems } => match &problems[..] {
                [] => format!("{origin} is well"),
                problems => problems.iter().map(ToString::to_string).collect(),
            },
            Event::Synced | Event::Listed(_) | Event::Unfollowed(_) => format!("{event:?}"),
        };
        events.iter().map(line).collect()
    }

    #[test]
    fn an_item_of_a_list_needs_no_kind_of_its_own() {
        let events = Told::new(Kind::NetworkPolicy).put(object("web", &json!({})));
        assert_eq!(
            lines(&events),
            ["NetworkPolicy shop/web is well", "put NetworkPolicy shop/web"]
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_closes_unless_an_older_version_is_known() {
        let mut told = Told::new(Kind::NetworkPolicy);
        let bad = json!({ "podSelector": 7 });
        let first = lines(&told.put(object("web", &bad)));
        assert!(first[0].ends_with("closes every pod of its namespace"), "{first:?}");
        assert_eq!(first[1], "close NetworkPolicy shop/web");
        told.put(object("web", &json!({})));
        let then = lines(&told.put(object("web", &bad)));
        assert!(then[0].ends_with("the last good version stays in force"), "{then:?}");
        assert_eq!(then.len(), 1, "{then:?}");
    }

    #[test]
    fn an_unknown_field_of_a_policy_is_told_and_one_of_a_pod_is_not() {
        let spec = json!({ "containers": [], "fromTheFuture": true });
        let policy = lines(&Told::new(Kind::NetworkPolicy).put(object("web", &spec)));
        assert!(policy[0].contains("fromTheFuture"), "{policy:?}");
        let pod = lines(&Told::new(Kind::Pod).put(object("web", &spec)));
        assert_eq!(pod, ["Pod shop/web is well", "put Pod shop/web"]);
    }

    #[test]
    fn what_a_new_list_lacks_was_deleted() {
        let mut told = Told::new(Kind::Pod);
        for name in ["a", "b"] {
            told.put(object(name, &json!({ "containers": [] })));
        }
        let listed = BTreeSet::from([Key::namespaced(Kind::Pod, "shop", "a")]);
        assert_eq!(lines(&told.keep_only(&listed)), ["Pod shop/b is well", "delete Pod shop/b"]);
        assert!(told.keep_only(&listed).is_empty());
    }
}
