use super::*;

const PEER: &str = "\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.1, asNumber: 64500}
";

struct Folder {
    root: tempfile::TempDir,
    tree: Tree,
}

impl Folder {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), tree: Tree::default() }
    }

    /// Writes a file and says what the daemon would hear, a line an event.
    fn write(&mut self, name: &str, text: &str) -> Vec<String> {
        // A new inode each time, so that the change shows even within one tick of the file system's clock.
        let temporary = self.root.path().join(format!(".{name}.tmp"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.root.path().join(name)).unwrap();
        self.rescan()
    }

    fn remove(&mut self, name: &str) -> Vec<String> {
        std::fs::remove_file(self.root.path().join(name)).unwrap();
        self.rescan()
    }

    fn rescan(&mut self) -> Vec<String> {
        let root = format!("{}/", self.root.path().display());
        let events = self.tree.rescan(self.root.path());
        events.iter().map(|event| describe(event).replace(&root, "")).collect()
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Put(object) => format!("put {}", object.key()),
        Event::Delete(key) => format!("delete {key}"),
        Event::Problems { origin, problems } => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            format!("{origin} has {problems:?}")
        }
        Event::Synced => "synced".to_owned(),
        Event::Listed(_) | Event::Unfollowed(_) => format!("{event:?}"),
    }
}

#[test]
fn objects_come_change_and_go_with_their_file() {
    let mut folder = Folder::new();
    assert_eq!(folder.write("peer.yaml", PEER), ["put BGPPeer tor"]);
    assert_eq!(folder.rescan(), [""; 0]);
    assert_eq!(folder.write("peer.yaml", &PEER.replace("64500", "64501")), ["put BGPPeer tor"]);
    assert_eq!(folder.write("peer.yaml", &PEER.replace("64500", "64501")), [""; 0]);
    assert_eq!(folder.remove("peer.yaml"), ["delete BGPPeer tor"]);
}

#[test]
fn a_file_that_breaks_keeps_what_it_had() {
    let mut folder = Folder::new();
    folder.write("peer.yaml", PEER);
    let heard = folder.write("peer.yaml", "kind: [BGPPeer\n");
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("peer.yaml has [\"peer.yaml line 1: not YAML"), "{heard:?}");
    assert_eq!(folder.write("peer.yaml", PEER), ["peer.yaml has []"]);
}

#[test]
fn the_first_file_by_name_owns_an_object() {
    let mut folder = Folder::new();
    folder.write("b.yaml", PEER);
    let heard = folder.write("a.yaml", &PEER.replace("64500", "64501"));
    assert_eq!(
        heard,
        [
            "put BGPPeer tor",
            "b.yaml has [\"b.yaml: BGPPeer tor: also in a.yaml, which is the one used\"]"
        ]
    );
    assert_eq!(folder.remove("a.yaml"), ["put BGPPeer tor", "b.yaml has []"]);
}

#[test]
fn an_unreadable_policy_closes_its_namespace_until_it_is_mended() {
    let policy = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: 7}
";
    let mut folder = Folder::new();
    let heard = folder.write("p.yaml", policy);
    assert_eq!(heard[0], "put NetworkPolicy shop/web");
    assert!(heard[1].contains("until it can be read it closes every pod"), "{heard:?}");
    let key = Key::namespaced(Kind::NetworkPolicy, "shop", "web");
    assert_eq!(*folder.tree.told[&key], Object::UnreadableNetworkPolicy(key.clone()));

    let good = policy.replace('7', "[Ingress]");
    assert_eq!(folder.write("p.yaml", &good), ["put NetworkPolicy shop/web", "p.yaml has []"]);
    let heard = folder.write("p.yaml", policy);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains("the last good version stays in force"), "{heard:?}");
}
