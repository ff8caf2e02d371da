//! Names that follow from the content.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// FNV-1a with 64 bits. The same program gives the same content the same name after a restart, which
/// `std`'s default hasher does not promise. It need not resist attack: whoever uses a name compares
/// the content behind it.
struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(content: &impl Hash) -> u64 {
    let mut hasher = Fnv1a(0xcbf2_9ce4_8422_2325);
    content.hash(&mut hasher);
    hasher.finish()
}

/// Who is called what. Two contents never share a name: the later of two with the same hash gets the
/// next free number.
#[derive(Debug)]
pub(crate) struct Names<T>(BTreeMap<u64, Arc<T>>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Eq + Hash> Names<T> {
    /// The name of `content`, which it keeps until it is [forgotten](Self::forget).
    pub(crate) fn name(&mut self, content: T) -> u64 {
        let mut name = hash(&content);
        while let Some(taken) = self.0.get(&name) {
            if **taken == content {
                return name;
            }
            name = name.wrapping_add(1);
        }
        self.0.insert(name, Arc::new(content));
        name
    }

    /// What is called `name`, which must have been given and not forgotten.
    pub(crate) fn get(&self, name: u64) -> &Arc<T> {
        &self.0[&name]
    }

    /// Forget what was called `name`.
    pub(crate) fn forget(&mut self, name: u64) {
        self.0.remove(&name);
    }

    /// Everything that has a name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<T>)> {
        self.0.iter().map(|(name, content)| (*name, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value has the same hash.
    #[derive(Debug, PartialEq, Eq)]
    struct Colliding(u8);

    impl Hash for Colliding {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    #[test]
    fn two_contents_with_one_hash_get_two_names() {
        let mut names = Names::default();
        let one = names.name(Colliding(1));
        let two = names.name(Colliding(2));
        assert_ne!(one, two);
        assert_eq!(names.name(Colliding(1)), one);
        assert_eq!(names.name(Colliding(2)), two);
    }

    #[test]
    fn the_name_of_a_content_is_the_same_in_every_process() {
        assert_eq!(hash(&[1u8, 2, 3]), hash(&[1u8, 2, 3]));
        let mut one = Names::default();
        let mut other = Names::default();
        other.name("before".to_owned());
        assert_eq!(one.name("content".to_owned()), other.name("content".to_owned()));
    }
}
