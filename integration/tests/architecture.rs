//! The rules of ARCHITECTURE.md that a machine can check: who depends on whom, where `unsafe` may
//! stand, how long a file may be, and which words stay out.

#![expect(clippy::unwrap_used, reason = "what helps tests may panic as they do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Workspace crates that each crate may use.
const CRATES: [(&str, &[&str]); 5] = [
    ("ocicat-policy", &[]),
    ("ocicat-bgp", &[]),
    // The record and protocol types of the plugin are the daemon's door for it.
    ("ocicat-cni", &[]),
    ("ocicat-felix", &["ocicat-policy", "ocicat-bgp", "ocicat-cni"]),
    ("ocicat-integration", &["ocicat-policy", "ocicat-bgp", "ocicat-cni", "ocicat-felix"]),
];

/// Everything that the pure crates may use with no feature on.
const PURE: [(&str, &[&str]); 2] = [
    ("ocicat-policy", &["ipnet", "thiserror"]),
    ("ocicat-bgp", &["bytes", "foldhash", "ipnet", "nom", "thiserror"]),
];

/// Crates that the plugin must do without: it starts for every pod.
const TOO_HEAVY_FOR_THE_PLUGIN: [&str; 6] =
    ["kube", "k8s-openapi", "axum", "clap", "tracing", "prometheus"];

/// Files where `unsafe` may stand, and why.
const UNSAFE: [(&str, &str); 4] = [
    ("bgp/src/bfd/net/priority.rs", "scheduling calls that nix does not know"),
    ("bgp/src/net/discovery/link.rs", "a raw socket, which tokio has no type for"),
    ("bgp/src/net/socket.rs", "socket options that socket2 does not know"),
    ("felix/src/dataplane/kernel/socket.rs", "socket options that nix does not know"),
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["Manager", "Helper", "Util", "Utils", "Common", "Info"];

/// Files besides the program's own that may use the daemon: the doors through which it is asked.
const DOORS: [&str; 4] =
    ["felix/src/main.rs", "felix/src/lib.rs", "felix/src/http.rs", "felix/src/socket.rs"];

const LONGEST_FILE: usize = 600;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Normal dependencies of each workspace crate: name, and whether it is optional.
fn dependencies() -> BTreeMap<String, Vec<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let normal = package["dependencies"].as_array().unwrap().iter();
        let normal = normal.filter(|dependency| dependency["kind"].is_null()).map(|dependency| {
            let name = dependency["name"].as_str().unwrap().to_owned();
            (name, dependency["optional"].as_bool().unwrap())
        });
        all.insert(package["name"].as_str().unwrap().to_owned(), normal.collect());
    }
    all
}

/// Rust files of the workspace, by their path in it.
fn sources() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["bgp", "policy", "felix", "cni", "integration"].map(|name| workspace().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(workspace()).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 20, "found only {} source files", files.len());
    files
}

/// A line without its comment and the texts in it, roughly: enough to look for words of the language.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let dependencies = dependencies();
    assert_eq!(dependencies.len(), CRATES.len(), "a crate is missing in the table above");
    let mut wrong = Vec::new();
    for (name, allowed) in CRATES {
        let ours =
            dependencies[name].iter().filter(|(dependency, _)| dependency.starts_with("ocicat-"));
        let beyond = ours.filter(|(dependency, _)| !allowed.contains(&dependency.as_str()));
        wrong.extend(beyond.map(|(dependency, _)| format!("{name} -> {dependency}")));
    }
    assert_none("dependencies against the grain", &wrong);
}

#[test]
fn the_pure_crates_use_nothing_that_does_io() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (name, allowed) in PURE {
        let always = dependencies[name].iter().filter(|(_, optional)| !optional);
        let beyond = always.filter(|(dependency, _)| !allowed.contains(&dependency.as_str()));
        wrong.extend(beyond.map(|(dependency, _)| format!("{name} -> {dependency}")));
    }
    assert_none("a pure crate grew", &wrong);
}

#[test]
fn the_plugin_stays_small() {
    let dependencies = &dependencies()["ocicat-cni"];
    let heavy =
        dependencies.iter().filter(|(name, _)| TOO_HEAVY_FOR_THE_PLUGIN.contains(&name.as_str()));
    assert_none(
        "too heavy for the plugin",
        &heavy.map(|(name, _)| name.clone()).collect::<Vec<_>>(),
    );
}

#[test]
fn unsafe_stands_only_in_the_files_named_here() {
    let allowed: BTreeSet<&str> = UNSAFE.iter().map(|(file, _)| *file).collect();
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| !allowed.contains(file.as_str())) {
        for (number, line) in text.lines().enumerate() {
            if words(&code(line)).any(|word| word == "unsafe") {
                wrong.push(format!("{file}:{}", number + 1));
            }
        }
    }
    assert_none("unsafe outside the named files", &wrong);
}

#[test]
fn the_files_named_for_unsafe_still_need_it() {
    let sources = sources();
    let idle = UNSAFE.iter().filter(|(file, _)| {
        !sources
            .get(*file)
            .is_some_and(|text| text.lines().any(|line| code(line).contains("unsafe ")))
    });
    assert_none("no longer unsafe", &idle.map(|(file, _)| (*file).to_owned()).collect::<Vec<_>>());
}

#[test]
fn no_type_or_module_has_a_name_that_says_nothing() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let stem = Path::new(&file).file_stem().unwrap().to_string_lossy().into_owned();
        if EMPTY_NAMES.iter().any(|name| name.eq_ignore_ascii_case(&stem)) {
            wrong.push(file.clone());
        }
        for (number, line) in text.lines().enumerate() {
            let line = code(line);
            let mut words = words(&line);
            let defines = words.any(|word| ["struct", "enum", "trait", "type"].contains(&word));
            let name = words.next().unwrap_or_default();
            if defines && EMPTY_NAMES.iter().any(|empty| name.ends_with(empty)) {
                wrong.push(format!("{file}:{}: {name}", number + 1));
            }
        }
    }
    assert_none("names that say nothing", &wrong);
}

#[test]
fn no_file_is_too_long() {
    let sources = sources();
    let long = sources.iter().filter(|(_, text)| text.lines().count() > LONGEST_FILE);
    let long: Vec<String> =
        long.map(|(file, text)| format!("{file}: {}", text.lines().count())).collect();
    assert_none("files that should be split", &long);
}

#[test]
fn inside_felix_only_doors_use_the_daemon_and_nft_uses_nothing_of_felix() {
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| file.starts_with("felix/src/")) {
        let top = DOORS.contains(&file.as_str()) || file.starts_with("felix/src/daemon");
        for line in text.lines().map(code).filter(|line| line.contains("crate::")) {
            let modules = line.split("crate::").skip(1).filter_map(|rest| words(rest).next());
            for module in modules {
                let to_daemon = module == "daemon" && !top;
                let from_nft =
                    file.starts_with("felix/src/nft") && module != "nft" && !module.is_empty();
                if to_daemon || from_nft {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
        }
    }
    assert_none("uses against the grain", &wrong);
}

#[test]
fn nothing_speaks_of_the_place_where_it_was_written() {
    // Put together here, so that this file does not contain them.
    let places = ["/work", "/shared"].concat();
    let places = [places, ["/work", "/scratch"].concat(), ["/work", "/wt"].concat()];
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace()).output();
    // A source archive has no git: the Rust files are what matters most.
    let tracked = listed.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let tracked = String::from_utf8(tracked.unwrap_or_default()).unwrap();
    let files = tracked.split('\0').map(str::to_owned).chain(sources().into_keys());
    let mut wrong: Vec<String> = Vec::new();
    for file in files.filter(|file| !file.is_empty()) {
        let Ok(text) = fs::read_to_string(workspace().join(&file)) else { continue };
        if places.iter().any(|place| text.contains(place)) {
            wrong.push(file);
        }
    }
    assert_none("paths of a workplace", &wrong);
}
