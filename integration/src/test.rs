//! `cargo lab test`: every test of the workspace behind one command, counted in its last line.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::binaries::{Binaries, Profile};
use crate::fuzz::{self, Fuzzer};
use crate::progress::{Mark, Progress, format_duration};
use crate::run::{Kept, sweep};
use crate::supervise::{End, supervise};
use crate::{kubernetes, setup, suite};

/// Prints the names of the lab tests.
pub(crate) fn list() -> Result<ExitCode> {
    for test in suite::all() {
        println!("{}", test.name);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Default)]
struct Tally {
    passed: u32,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// What a program under test has no way to do: not ours to miss.
    not_applicable: Vec<String>,
}

/// Runs all, or only the lab tests whose names contain `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode> {
    setup::require_root()?;
    let progress = Progress::new();
    let mut tally = Tally::default();
    for name in sweep(Kept::Spare)? {
        println!("removed lab {name}, which a killed run had left");
    }
    setup::install_packages(&progress, &[])?;
    if filter.is_none() {
        workspace_checks(&progress, &mut tally)?;
    }
    progress.heading("Labs");
    progress.step("build ocicat and ocicat-cni", || Binaries::build(Profile::Dev))?;
    lab_tests(&progress, &mut tally, filter.unwrap_or_default())?;
    report(&progress, &tally)
}

fn workspace_checks(progress: &Progress, tally: &mut Tally) -> Result<()> {
    progress.heading("Workspace");
    if setup::has_component("fmt")? {
        check(progress, tally, "cargo fmt --check")?;
    } else {
        tally.skipped.push("cargo fmt --check: this toolchain has no rustfmt".to_owned());
    }
    if setup::has_component("clippy")? {
        check(
            progress,
            tally,
            "cargo clippy --quiet --workspace --all-targets --locked -- -D warnings",
        )?;
    } else {
        tally.skipped.push("cargo clippy: this toolchain has no clippy".to_owned());
    }
    check(progress, tally, "cargo doc --quiet --workspace --no-deps --lib --locked")?;
    let deny = setup::cargo_deny(progress)?;
    check(
        progress,
        tally,
        &format!("{} --config .deny.toml check bans licenses sources", deny.display()),
    )?;
    fuzz_briefly(progress, tally)?;
    unit_tests(progress, tally)
}

/// A few seconds of each fuzz target; `cargo lab fuzz` takes its time.
fn fuzz_briefly(progress: &Progress, tally: &mut Tally) -> Result<()> {
    let fuzzer = Fuzzer::build(progress)?;
    for target in fuzz::TARGETS {
        let outcome = fuzzer.run(target, Duration::from_secs(8));
        let passed = outcome.is_ok();
        let text = outcome.unwrap_or_else(|finding| format!("{finding:#}"));
        println!(
            "{} fuzz {target}: {text}",
            progress.mark(if passed { Mark::Good } else { Mark::Bad })
        );
        if passed {
            tally.passed += 1;
        } else {
            tally.failed.push(format!("fuzz {target}"));
        }
    }
    Ok(())
}

/// A check of the whole workspace counts as one test.
fn check(progress: &Progress, tally: &mut Tally, line: &str) -> Result<()> {
    let (code, output) = execute(line)?;
    let passed = code == Some(0);
    println!("{} {line}", progress.mark(if passed { Mark::Good } else { Mark::Bad }));
    if passed {
        tally.passed += 1;
    } else {
        println!("{output}");
        tally.failed.push(line.to_owned());
    }
    Ok(())
}

/// Runs a line of words in the workspace; gives its exit code and all that it printed.
fn execute(line: &str) -> Result<(Option<i32>, String)> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let output = command.args(words).current_dir(Binaries::workspace()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// `cargo test` of everything; its own result lines are counted.
fn unit_tests(progress: &Progress, tally: &mut Tally) -> Result<()> {
    let line = "cargo test --workspace --locked --no-fail-fast";
    let (code, output) = progress.step(line, || execute(line))?;
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let mut failed = 0;
    for result in results {
        tally.passed += number_before(result, " passed");
        failed += number_before(result, " failed");
        for _ in 0..number_before(result, " ignored") {
            tally.skipped.push("an ignored unit test".to_owned());
        }
    }
    if code != Some(0) {
        println!("{output}");
        let names =
            output.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
        tally.failed.extend(names.map(str::to_owned));
        if failed == 0 {
            tally.failed.push(format!("{line}: {code:?}"));
        }
    }
    Ok(())
}

/// The number that stands right before `word`.
fn number_before(line: &str, word: &str) -> u32 {
    let before = line.find(word).map_or("", |at| &line[..at]);
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn lab_tests(progress: &Progress, tally: &mut Tally, filter: &str) -> Result<()> {
    let mut chosen: Vec<&suite::Test> =
        suite::all().filter(|test| test.name.contains(filter)).collect();
    if chosen.is_empty() {
        bail!("no lab test has {filter:?} in its name; `cargo lab test --list` shows them");
    }
    if chosen.iter().any(is_of_kubernetes) {
        let what = "build kube-apiserver into the cache (once; some minutes)";
        if progress.step(what, kubernetes::build)?.is_none() {
            let skipped = chosen.extract_if(.., |test| is_of_kubernetes(test));
            let why = "this distribution has no source package of Kubernetes";
            tally.skipped.extend(skipped.map(|test| format!("{}: {why}", test.name)));
        }
    }
    tally.not_applicable = suite::not_applicable(&chosen);
    for test in chosen {
        let start = std::time::Instant::now();
        let end = supervise(&["test-worker", test.name], test.limit)?;
        let took = format_duration(start.elapsed());
        let (mark, remark) = match end {
            End::Passed => (Mark::Good, ""),
            End::Failed => (Mark::Bad, ""),
            End::TimedOut => (Mark::Bad, ": took too long"),
            End::Interrupted => bail!("interrupted"),
        };
        println!("{} {took:>8}  {}{remark}", progress.mark(mark), test.name);
        match mark {
            Mark::Good => tally.passed += 1,
            Mark::Bad | Mark::Skipped => tally.failed.push(test.name.to_owned()),
        }
    }
    Ok(())
}

fn is_of_kubernetes(test: &&suite::Test) -> bool {
    test.name.starts_with("kubernetes:")
}

fn report(progress: &Progress, tally: &Tally) -> Result<ExitCode> {
    println!("\n{} in all", format_duration(progress.elapsed()));
    for name in &tally.skipped {
        println!("{} {name}", progress.mark(Mark::Skipped));
    }
    for line in &tally.not_applicable {
        println!("n/a  {line}");
    }
    for name in &tally.failed {
        println!("{} {name}", progress.mark(Mark::Bad));
    }
    let Tally { passed, failed, skipped, not_applicable } = tally;
    println!("{} not applicable", not_applicable.len());
    println!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_result_line_are_read() {
        let line = "ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out";
        assert_eq!((number_before(line, " passed"), number_before(line, " failed")), (12, 0));
        assert_eq!(number_before(line, " ignored"), 3);
        assert_eq!(number_before("", " passed"), 0);
    }
}
