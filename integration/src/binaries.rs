//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Where the built programs are.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    pub(crate) ocicat: PathBuf,
    pub(crate) plugin: PathBuf,
    /// This very program: a benchmark's tester runs optimised.
    pub(crate) lab: PathBuf,
}

/// How to build them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: for tests.
    Dev,
    /// What users run: for the demo and for numbers.
    Release,
}

impl Binaries {
    /// The workspace of which this program is a part.
    pub(crate) fn workspace() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
    }

    /// Where a build of this profile puts the programs.
    pub(crate) fn of(profile: Profile) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Self::workspace().join("target"), PathBuf::from);
        let folder = target.join(match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        });
        Self {
            ocicat: folder.join("ocicat"),
            plugin: folder.join("ocicat-cni"),
            lab: folder.join("lab"),
        }
    }

    /// Builds the programs with cargo, which is quick when nothing changed.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(Self::workspace()).args(["build", "--quiet", "--locked", "--bins"]);
        cargo.args(["-p", "ocicat-felix", "-p", "ocicat-cni"]);
        if profile == Profile::Release {
            cargo.args(["--release", "-p", "ocicat-integration"]);
        }
        if !cargo.status()?.success() {
            bail!("the programs do not build");
        }
        Ok(Self::of(profile))
    }
}
