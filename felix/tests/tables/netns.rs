//! A network namespace of its own for a test that needs the kernel.

use std::{process::Command, thread};

/// Runs `test`, which needs these programs, on a thread in a fresh network namespace, which goes with the
/// thread. Skips it, and says so, where that is impossible.
pub(crate) fn in_fresh_namespace(programs: &[&str], test: impl FnOnce() + Send) {
    if std::env::var_os("OCICAT_NO_KERNEL_TESTS").is_some() {
        eprintln!("skipped: OCICAT_NO_KERNEL_TESTS is set");
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    let missing = |program: &&&str| Command::new(program).arg("-V").output().is_err();
    if let Some(program) = programs.iter().find(missing) {
        eprintln!("skipped: {program} is not installed");
        return;
    }
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        test();
    };
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs a program in the namespace of this thread and gives its output.
pub(crate) fn output(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    use std::{io::Write, process::Stdio};
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
