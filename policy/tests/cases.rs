//! The cases under `tests/cases`, as `tests/cases/README.md` describes them.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ocicat_policy::case::{Case, Expected, Family, Probe, Station};
use ocicat_policy::{Flow, Party, Verdict};
use serde_json::Value;

use crate::cluster::{Cluster, flow};

/// One step, and the objects that follow it in the file.
struct Step {
    case: Case,
    objects: Vec<Value>,
}

fn read(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for document in documents {
        if document["kind"] == "Case" {
            let case = serde_json::from_value(document).unwrap();
            steps.push(Step { case, objects: Vec::new() });
        } else {
            steps.last_mut().expect("a file begins with a Case").objects.push(document);
        }
    }
    steps
}

fn put(cluster: &mut Cluster, object: Value) {
    match object["kind"].as_str() {
        Some("Namespace") => cluster.put_namespace(serde_json::from_value(object).unwrap()),
        Some("Pod") => cluster.put_pod(serde_json::from_value(object).unwrap()),
        Some("NetworkPolicy") => cluster.put_policy(serde_json::from_value(object).unwrap()),
        kind => panic!("a case has no objects of kind {kind:?}"),
    }
}

/// What the probe sends, if both sides have an address of its family.
fn flow_of(cluster: &Cluster, probe: &Probe) -> Option<Flow> {
    let client = *Station::CLIENT.iter().find(|one| Family::of(**one) == probe.family)?;
    let party = |station: &Station, like: IpAddr| match station {
        Station::Client => Some(Party { address: like, pod: None }),
        Station::Pod(pod) => cluster.party(pod, like),
    };
    let source = party(&probe.source, client)?;
    let destination = party(&probe.destination, client)?;
    Some(flow(source, destination, probe.traffic))
}

fn run(path: &Path) -> Vec<String> {
    let mut cluster = Cluster::default();
    let mut wrong = Vec::new();
    for Step { case, objects } in read(path) {
        case.remove.iter().for_each(|object| cluster.remove(object));
        objects.into_iter().for_each(|object| put(&mut cluster, object));
        cluster.flush();
        for probe in case.probes().unwrap() {
            let Some(flow) = flow_of(&cluster, &probe) else { continue };
            let expected = match probe.expected {
                Expected::Arrives => Verdict::Accept,
                Expected::Dropped => Verdict::Drop,
            };
            for (who, verdict) in cluster.verdicts(&flow) {
                if verdict != expected {
                    wrong.push(format!("{probe}: {who} says {verdict:?}"));
                }
            }
        }
        let problems: Vec<String> =
            cluster.index.problems().iter().map(ToString::to_string).collect();
        if problems != case.problems {
            wrong.push(format!("problems: {problems:#?}"));
        }
        let description = &case.description;
        wrong.iter_mut().for_each(|line| *line = format!("{description} {line}"));
    }
    wrong
}

#[test]
fn every_case_has_its_expected_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            count += 1;
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            wrong.extend(run(&path).into_iter().map(|line| format!("{name}: {line}")));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 80, "only {count} cases were found");
}
