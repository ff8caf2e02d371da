//! The example manifests are read without a complaint.

use std::path::Path;

use ocicat_felix::datastore::{Event, directory};

#[test]
fn every_example_is_understood() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    for folder in ["examples", "bgp"] {
        let events = directory::read_once(&manifests.join(folder)).expect("the folder is there");
        let objects = events.iter().filter(|event| matches!(event, Event::Put(_))).count();
        let problems: Vec<_> =
            events.iter().filter(|event| matches!(event, Event::Problems { .. })).collect();
        assert!(objects > 0, "{folder} is empty");
        assert!(problems.is_empty(), "{folder}: {problems:?}");
    }
}
