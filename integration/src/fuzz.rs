//! `cargo lab fuzz`: libFuzzer on the parsers and on whole sessions, guided by coverage.
//!
//! libFuzzer wants the compiler to count which branches are taken. That is a matter of code
//! generation, which a stable compiler can be asked for; the sanitizers, which it cannot be, are
//! left out: the crate has no `unsafe` in what is fuzzed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::binaries::Binaries;
use crate::progress::{Mark, Progress};
use crate::setup::{self, Package};

/// What `cargo fuzz` passes without a sanitizer.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

const COMPILER: Package = Package { program: "c++", package: "g++" };

/// The longest input. A message has at most 65,535 octets; what is found is found in short ones, or in what
/// the targets draw out of them (`wire::stretched`).
const LONGEST: u32 = 4096;

/// What can be fuzzed.
pub(crate) const TARGETS: [&str; 6] = ["message", "attributes", "nlri", "bfd", "rpki", "sessions"];

/// Built targets.
#[derive(Debug)]
pub(crate) struct Fuzzer {
    programs: PathBuf,
    /// Inputs that reached something new, kept from run to run.
    corpus: PathBuf,
}

/// Fuzzes for so long in all, the targets one after the other, or one alone.
pub(crate) fn run(target: Option<&str>, time: Duration) -> Result<ExitCode> {
    if let Some(target) = target.filter(|target| !TARGETS.contains(target)) {
        bail!("there is no target {target}; there are {}", TARGETS.join(", "));
    }
    let progress = Progress::new();
    let fuzzer = Fuzzer::build(&progress)?;
    let chosen: Vec<&str> =
        TARGETS.into_iter().filter(|t| target.is_none_or(|one| one == *t)).collect();
    let each = time / u32::try_from(chosen.len()).unwrap_or(1);
    let mut code = ExitCode::SUCCESS;
    for target in chosen {
        match fuzzer.run(target, each) {
            Ok(summary) => println!("{} {target}: {summary}", progress.mark(Mark::Good)),
            Err(finding) => {
                println!("{} {target}: {finding:#}", progress.mark(Mark::Bad));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

impl Fuzzer {
    /// Builds all targets.
    pub(crate) fn build(progress: &Progress) -> Result<Self> {
        setup::install_packages(progress, &[COMPILER])?;
        let cache = setup::cache_directory()?.join("fuzz");
        let target = cache.join("target");
        progress.step("build the fuzz targets into the cache", || {
            let mut cargo = Command::new("cargo");
            cargo.current_dir(Binaries::workspace().join("bgp/fuzz"));
            // With a target named, build scripts and macros are built without the counters.
            cargo.args(["build", "--quiet", "--release", "--locked", "--target", TRIPLE]);
            cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", COVERAGE);
            ensure!(
                cargo.stdin(Stdio::null()).status()?.success(),
                "the fuzz targets do not build"
            );
            Ok(())
        })?;
        Ok(Self { programs: target.join(TRIPLE).join("release"), corpus: cache.join("corpus") })
    }

    /// Runs one target for a while; gives what it did, or what it found.
    pub(crate) fn run(&self, target: &str, time: Duration) -> Result<String> {
        let corpus = self.corpus.join(target);
        let findings = self.corpus.with_file_name("findings").join(target);
        for folder in [&corpus, &findings] {
            std::fs::create_dir_all(folder)?;
        }
        let mut fuzz = Command::new(self.programs.join(target));
        fuzz.arg(&corpus).arg(format!("-max_total_time={}", time.as_secs().max(1)));
        fuzz.arg(format!("-max_len={LONGEST}")).arg("-timeout=10").arg("-print_final_stats=1");
        fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
        let output =
            fuzz.stdin(Stdio::null()).output().context("the fuzz target does not start")?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("an input that brings it down is in {}\n{}", findings.display(), tail.join("\n"));
        }
        summary(&text, &corpus)
    }
}

#[cfg(target_arch = "x86_64")]
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TRIPLE: &str = "aarch64-unknown-linux-gnu";

fn summary(text: &str, corpus: &Path) -> Result<String> {
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let runs: u64 = runs.context("no statistics")?.trim().parse()?;
    // A fuzzer that was not told of branches would find nothing, and look well.
    let covered = text.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    let covered: u64 = covered.context("no coverage")?.parse()?;
    ensure!(covered > 20, "only {covered} branches were reached: coverage is not counted");
    let kept = std::fs::read_dir(corpus)?.count();
    Ok(format!("{runs} inputs, {covered} branches reached, {kept} inputs kept"))
}
