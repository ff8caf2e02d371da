//! What a fresh machine lacks: distribution packages, and `cargo-deny` for the test command.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::binaries::Binaries;
use crate::progress::Progress;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

const PACKAGES: [Package; 10] = [
    Package { program: "ip", package: "iproute2" },
    Package { program: "nft", package: "nftables" },
    Package { program: "gobgpd", package: "gobgpd" },
    Package { program: "bird", package: "bird2" },
    // Not in the path: OpenBGPD's bgpd would be taken for FRR's.
    Package { program: "/usr/lib/frr/bgpd", package: "frr" },
    Package { program: "bgpctl", package: "openbgpd" },
    Package { program: "exabgp", package: "exabgp" },
    Package { program: "pmbmpd", package: "pmacct" },
    Package { program: "bgpdump", package: "bgpdump" },
    Package { program: "stayrtr", package: "stayrtr" },
];

/// Fails with advice unless we are root: namespaces, routes and nftables need it.
pub(crate) fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "labs are made of network namespaces, which takes root: sudo -E env \"PATH=$PATH\" cargo lab ..."
        );
    }
    Ok(())
}

/// Installs the distribution packages that are missing, saying which: those that every lab needs,
/// and `more`.
pub(crate) fn install_packages(progress: &Progress, more: &[Package]) -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .chain(more)
        .filter(|package| find(package.program).is_none())
        .map(|package| package.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress.step(&format!("install {} with apt-get", missing.join(", ")), || {
        if find("apt-get").is_none() {
            bail!("this machine has no apt-get: install {} by other means", missing.join(", "));
        }
        // The list of packages may be old or absent; an old one often still works.
        if apt(&["install", "--no-install-recommends"], &missing).is_err() {
            apt(&["update"], &[])?;
            apt(&["install", "--no-install-recommends"], &missing)?;
        }
        Ok(())
    })?;
    let still: Vec<&str> = PACKAGES
        .iter()
        .chain(more)
        .filter(|package| find(package.program).is_none())
        .map(|package| package.program)
        .collect();
    if !still.is_empty() {
        bail!("apt-get succeeded, yet there is no {} in PATH", still.join(", "));
    }
    Ok(())
}

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // Another apt-get may be at work on a machine that has just booted: wait for it.
    command.args(["--yes", "--quiet", "-o", "DPkg::Lock::Timeout=300"]).args(verb).args(packages);
    // An installed daemon must not start: labs run their own.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    crate::netns::output(&mut command).map(drop)
}

/// Where a program is, in PATH or the folders of system programs that some users' PATH lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// `cargo-deny`: the installed one, or one built once into the user's cache.
pub(crate) fn cargo_deny(progress: &Progress) -> Result<PathBuf> {
    if let Some(program) = find("cargo-deny") {
        return Ok(program);
    }
    let cache = cache_directory()?.join("cargo-deny");
    let program = cache.join("bin/cargo-deny");
    if !program.is_file() {
        progress.step("build cargo-deny into the cache (once; some minutes)", || {
            let mut cargo = Command::new("cargo");
            cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&cache).arg("cargo-deny");
            // Not for the workspace's own target folder, and small rather than fast.
            cargo.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_RELEASE_LTO", "off");
            cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").stdin(Stdio::null());
            if !cargo.status()?.success() {
                bail!("cargo-deny does not build");
            }
            Ok(())
        })?;
    }
    Ok(program)
}

pub(crate) fn cache_directory() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME says where the cache is"),
    };
    Ok(base.join("ocicat"))
}

/// Whether `cargo` has this component, such as `clippy`.
pub(crate) fn has_component(name: &str) -> Result<bool> {
    let mut cargo = Command::new("cargo");
    cargo.args([name, "--version"]).current_dir(Binaries::workspace());
    let status = cargo.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cargo")?;
    Ok(status.success())
}
