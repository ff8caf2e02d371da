//! The container runtime of a node: makes a pod's namespace and calls the plugin as the CNI
//! specification 1.1 says (§ "Execution of Network Configurations").

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::netns::Netns;

/// A pod's sandbox: what the plugin is told about it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    /// The pod's UID, if the runtime passes it.
    pub(crate) uid: Option<String>,
    pub(crate) netns: Netns,
}

/// What the plugin answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    /// The result or the error object; null if it printed nothing.
    pub(crate) json: Value,
    pub(crate) complaint: String,
}

/// A call of the plugin. Fields are public for tests that send something unusual.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) verb: &'a str,
    pub(crate) version: &'a str,
    /// Keys that are added to the network configuration, or replace some in it.
    pub(crate) extra: Value,
}

impl<'a> Call<'a> {
    pub(crate) fn new(verb: &'a str) -> Self {
        Self { verb, version: "1.1.0", extra: json!({}) }
    }
}

impl Sandbox {
    /// Makes a namespace for a pod. Nothing is in it but loopback.
    pub(crate) fn create(netns: &str, namespace: &str, pod: &str) -> Result<Self> {
        Ok(Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            // Unique, as the plugin knows attachments by it.
            container: netns.to_owned(),
            uid: None,
            netns: Netns::create(netns)?,
        })
    }

    /// Runs the plugin on the node of `agent`.
    pub(crate) fn call(&self, agent: &Agent, call: &Call<'_>) -> Result<Answer> {
        let mut arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            self.namespace, self.pod, self.container
        );
        if let Some(uid) = &self.uid {
            arguments.push_str(&format!(";K8S_POD_UID={uid}"));
        }
        let mut command = Command::new(&agent.binaries().plugin);
        command
            .env_clear()
            .env("CNI_COMMAND", call.verb)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", self.netns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", agent.binaries().plugin.parent().unwrap_or(".".as_ref()))
            .env("CNI_ARGS", arguments);
        execute(agent, &mut command, &network_configuration(agent, call).to_string())
    }

    /// ADD; gives the pod's addresses.
    pub(crate) fn add(&self, agent: &Agent) -> Result<Vec<IpAddr>> {
        let answer = self.call(agent, &Call::new("ADD"))?.expect_success()?;
        addresses(&answer.json)
    }

    /// DEL.
    pub(crate) fn del(&self, agent: &Agent) -> Result<()> {
        self.call(agent, &Call::new("DEL"))?.expect_success().map(drop)
    }
}

impl Answer {
    pub(crate) fn expect_success(self) -> Result<Self> {
        if !self.success {
            bail!("the plugin failed: {} {}", self.json, self.complaint.trim());
        }
        Ok(self)
    }

    /// The error code, where the plugin failed with one.
    pub(crate) fn code(&self) -> Option<u64> {
        self.json["code"].as_u64()
    }
}

/// The network configuration that a runtime hands to the plugin.
fn network_configuration(agent: &Agent, call: &Call<'_>) -> Value {
    let mut configuration = json!({
        "cniVersion": call.version,
        "name": "ocicat",
        "type": "ocicat-cni",
        "stateDir": agent.state(),
        "socket": agent.socket(),
    });
    if let (Some(all), Some(extra)) = (configuration.as_object_mut(), call.extra.as_object()) {
        all.extend(extra.clone());
    }
    configuration
}

/// Runs the plugin with any environment and input.
pub(crate) fn execute(agent: &Agent, command: &mut Command, input: &str) -> Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = agent.netns().spawn(command)?;
    // A plugin that fails early does not read all: its exit code tells.
    let _ = child.stdin.take().expect("standard input was piped").write_all(input.as_bytes());
    let done = child.wait_with_output()?;
    let json = if done.stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&done.stdout)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&done.stdout)))?
    };
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    Ok(Answer { success: done.status.success(), json, complaint })
}

/// The pod's addresses in an ADD result.
pub(crate) fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().with_context(|| format!("no ips in {result}"))?;
    ips.iter()
        .map(|ip| {
            let text = ip["address"].as_str().unwrap_or_default();
            let address = text.split('/').next().unwrap_or_default();
            address.parse().with_context(|| format!("address {text:?} in {result}"))
        })
        .collect()
}
