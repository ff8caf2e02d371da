//! A real Kubernetes API server with its etcd, on a machine of its own behind a lab's router.
//!
//! There is no scheduler, controller or kubelet: a test does their part, as far as the agents see it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::binaries::Binaries;
use crate::lab::Lab;
use crate::netns::{Netns, feed, output};
use crate::object::Object;
use crate::underlay::connect;
use crate::wait::until;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const NETWORK: &str = "198.51.100.0/24";
const PORT: u16 = 6443;

/// How long the API server may take to its readiness, also on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// Builds the API server into the user's cache, if it is not there yet. `Ok(None)`: this distribution has no source
/// package of it.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let done = script("build.sh").stderr(Stdio::piped()).output()?;
    match done.status.code() {
        Some(0) => Ok(Some(PathBuf::from(String::from_utf8(done.stdout)?.trim()))),
        Some(3) => Ok(None),
        _ => {
            let log = String::from_utf8_lossy(&done.stderr);
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(20)..].join("\n");
            bail!("kube-apiserver does not build: {}\n{tail}", done.status)
        }
    }
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s").join(name))
}

/// The API server of a lab.
#[derive(Debug)]
pub(crate) struct ApiServer {
    netns: Netns,
    programs: PathBuf,
    directory: PathBuf,
    server: Option<Child>,
}

impl ApiServer {
    /// Connects a machine to the lab's router, which each node has a way to, and starts etcd and API server on it.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let programs = build()?.context("this distribution has no source package of Kubernetes")?;
        let directory = lab.directory().join("api");
        fs::create_dir_all(&directory)?;
        output(script("certificates.sh").arg(&directory).arg(ADDRESS.to_string()))?;
        let netns = Netns::create(&lab.run.netns("api"))?;
        connect(&lab.router, "api", &netns)?;
        lab.router.ip(&format!("addr add {GATEWAY}/24 dev api\n"))?;
        netns.ip(&format!("addr add {ADDRESS}/24 dev eth0\nroute add default via {GATEWAY}\n"))?;
        for (node, agent) in lab.spec.nodes.iter().zip(&lab.agents) {
            agent.netns().ip(&format!("route add {NETWORK} via {}\n", node.gateway_ipv4()))?;
        }
        let mut api = Self { netns, programs, directory, server: None };
        api.write_kubeconfig(
            "admin",
            &json!({ "client-certificate": "admin.crt", "client-key": "admin.key" }),
        )?;
        // The run's supervisor ends it with the namespace.
        drop(api.spawn(&mut etcd(&api.directory), "etcd")?);
        api.launch()?;
        Ok(api)
    }

    /// Starts the API server and waits until it is ready; gives the time that took.
    pub(crate) fn launch(&mut self) -> Result<Duration> {
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        for (flag, file) in [
            ("tls-cert-file", "server.crt"),
            ("tls-private-key-file", "server.key"),
            ("client-ca-file", "ca.crt"),
            ("service-account-key-file", "tokens.pub"),
            ("service-account-signing-key-file", "tokens.key"),
        ] {
            command.arg(format!("--{flag}={}", self.directory.join(file).display()));
        }
        command.args([
            "--etcd-servers=http://127.0.0.1:2379",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            // Its controller is not here, and no pod of a lab asks for a token.
            "--disable-admission-plugins=ServiceAccount",
            "--feature-gates=IPv6DualStack=true",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            // It would hide version v1, see `k8s/endpointslices.yaml`.
            "--runtime-config=discovery.k8s.io/v1beta1=false",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        ]);
        command.arg(format!("--advertise-address={ADDRESS}"));
        command.arg(format!("--secure-port={PORT}"));
        self.server = Some(self.spawn(&mut command, "kube-apiserver")?);
        until(READY, "the API server is ready", || {
            Ok(self.kubectl(&["get", "--raw", "/readyz"], "")? == "ok")
        })
        .with_context(|| self.directory.join("kube-apiserver.log").display().to_string())
    }

    /// Kills the API server where it stands. etcd keeps what it said.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Lets everything that the machine sends to a node vanish, as a broken switch would.
    pub(crate) fn partition(&self, node: Ipv4Addr) -> Result<()> {
        self.netns.ip(&format!("route add blackhole {node}/32\n"))
    }

    /// Ends [`Self::partition`]. The machine has forgotten its old connections, as one that was replaced.
    pub(crate) fn heal(&self, node: Ipv4Addr) -> Result<()> {
        let node_address = node.to_string();
        self.netns.run("ss", &["--kill", "--tcp", "dst", &node_address])?;
        let left = self.netns.run("ss", &["--no-header", "--tcp", "dst", &node_address])?;
        ensure!(left.is_empty(), "connections are left: {left}");
        self.netns.ip(&format!("route del blackhole {node}/32\n"))
    }

    fn spawn(&self, command: &mut Command, name: &str) -> Result<Child> {
        let log = self.directory.join(name).with_extension("log");
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        std::os::unix::process::CommandExt::process_group(command, 0);
        self.netns.spawn(command)
    }

    /// Runs `kubectl` as the administrator; gives what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig("admin"));
        command.arg("--cache-dir").arg(self.directory.join("kubectl")).args(arguments);
        self.netns.enter(|| feed(&mut command, input))?
    }

    /// Creates or changes an object; gives it as the server holds it.
    pub(crate) fn apply(&self, object: &Object) -> Result<Object> {
        let stored = self.kubectl(
            &["apply", "--validate=false", "-o", "json", "-f", "-"],
            &object.0.to_string(),
        )?;
        Ok(Object(serde_json::from_str(&stored)?))
    }

    /// Creates what a file of YAML holds.
    pub(crate) fn apply_file(&self, path: &Path) -> Result<()> {
        let path = path.display().to_string();
        self.kubectl(&["apply", "-f", &path], "").with_context(|| path.clone()).map(drop)
    }

    /// Deletes an object for good, waiting for no kubelet.
    pub(crate) fn delete(&self, object: &Object) -> Result<()> {
        let now = ["--wait=false", "--grace-period=0", "--force"];
        let arguments = [&["delete"], &now[..], &["-f", "-"]].concat();
        self.kubectl(&arguments, &object.0.to_string()).map(drop)
    }

    /// Writes a pod's status, as its kubelet does.
    pub(crate) fn put_pod_status(&self, pod: &Object) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/pods/{}/status", pod.namespace(), pod.name());
        self.kubectl(&["replace", "--raw", &path, "-f", "-"], &pod.0.to_string()).map(drop)
    }

    /// A kubeconfig with the token of a service account.
    pub(crate) fn service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let request =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.kubectl(&["create", "--raw", &path, "-f", "-"], &request.to_string())?;
        let answer = Object(serde_json::from_str(&answer)?);
        self.write_kubeconfig(name, &json!({ "token": answer.text("/status/token") }))
    }

    fn kubeconfig(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension("kubeconfig")
    }

    fn write_kubeconfig(&self, name: &str, user: &serde_json::Value) -> Result<PathBuf> {
        let cluster = json!({ "server": format!("https://{ADDRESS}:{PORT}"), "certificate-authority": "ca.crt" });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "lab", "cluster": cluster }],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": name } }],
            "current-context": "lab",
        });
        let path = self.kubeconfig(name);
        fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

fn etcd(directory: &Path) -> Command {
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(directory.join("etcd"));
    for kind in ["listen-client-urls", "advertise-client-urls"] {
        command.arg(format!("--{kind}=http://127.0.0.1:2379"));
    }
    command.arg("--listen-peer-urls=http://127.0.0.1:2380");
    // A lab's cluster need not survive the machine.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    command
}

/// Where the files of the project that a cluster is given lie.
pub(crate) fn manifest(path: &str) -> PathBuf {
    Binaries::workspace().join(path)
}
