//! The binary as a runtime sees it: environment and standard input in, JSON and exit code out.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn execute(environment: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ocicat-cni"))
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not read all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn check(environment: &[(&str, &str)], stdin: &str, code: i32, stdout: &str) {
    let output = execute(environment, &[], stdin);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), stdout);
    assert_eq!(output.status.code(), Some(code));
}

#[test]
fn version_needs_no_configuration() {
    check(
        &[("CNI_COMMAND", "VERSION")],
        "",
        0,
        r#"{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"#,
    );
}

#[test]
fn an_error_is_json_on_standard_output_and_a_code() {
    check(
        &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "../etc"), ("CNI_IFNAME", "eth0")],
        r#"{"cniVersion":"0.4.0"}"#,
        1,
        r#"{"cniVersion":"0.4.0","code":4,"msg":"CNI_CONTAINERID \"../etc\" is not a letter or digit followed by letters, digits, '_', '.' or '-'"}"#,
    );
    check(
        &[("CNI_COMMAND", "JUMP")],
        "{}",
        1,
        r#"{"cniVersion":"1.1.0","code":4,"msg":"CNI_COMMAND \"JUMP\" is not a command of the CNI specification"}"#,
    );
    check(
        &[("CNI_COMMAND", "GC")],
        r#"{"cniVersion":"1.1.0"}"#,
        1,
        r#"{"cniVersion":"1.1.0","code":7,"msg":"GC without cni.dev/valid-attachments would remove every attachment"}"#,
    );
}

#[test]
fn a_credential_in_the_configuration_is_not_repeated_in_an_error() {
    for damage in ["", "}"] {
        let stdin = format!(r#"{{"cniVersion":"1.0.0","token":"secret","mtu":"large"}}{damage}"#);
        let output = execute(&[("CNI_COMMAND", "ADD")], &[], &stdin);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(r#""code":6"#), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn a_person_gets_an_explanation() {
    let output = execute(&[], &["--help"], "");
    assert!(String::from_utf8(output.stdout).unwrap().contains("/etc/cni/net.d"));
    let output = execute(&[], &["--version"], "");
    let version = concat!("ocicat-cni ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
