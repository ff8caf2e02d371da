//! Pods that are attached to this node: what the plugin says, and what its records say.

use std::collections::BTreeSet;

use ocicat_cni::daemon::{Attached, Detached, Refusal, RefusalCode, Response, Status};
use ocicat_cni::endpoint::{Endpoint, EndpointId};
use ocicat_cni::store::Store;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::waiters::Waiter;
use super::{Daemon, Phase};

impl Daemon {
    /// Brings the world in line with the records: at the start, and now and then for what was missed.
    pub(super) fn load_endpoints(&mut self) {
        if self.writer.is_none() {
            return;
        }
        let records = match Store::open(self.state_dir()).and_then(|store| store.records()) {
            Ok(records) => records,
            Err(problem) => {
                warn!(%problem, "records of attached pods cannot be read");
                self.failures.insert("records", vec![problem.to_string()]);
                return;
            }
        };
        let mut lines = Vec::new();
        for (id, problem) in &records.unreadable {
            warn!(%id, %problem, "a record of an attached pod cannot be read; its interface is closed");
            lines.push(format!("record {id}: {problem}"));
        }
        if lines.is_empty() {
            self.failures.remove("records");
        } else {
            self.failures.insert("records", lines);
        }
        let there: BTreeSet<EndpointId> = records.endpoints.iter().map(Endpoint::id).collect();
        let gone: Vec<EndpointId> =
            self.world.endpoints().keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            self.forget_endpoint(&id);
        }
        for endpoint in records.endpoints {
            if self.world.endpoints().get(&endpoint.id()) != Some(&endpoint) {
                self.world.attach(endpoint);
            }
        }
    }

    pub(super) fn serve_plugin(
        &mut self,
        request: ocicat_cni::daemon::Request,
        reply: oneshot::Sender<serde_json::Value>,
    ) {
        match request {
            ocicat_cni::daemon::Request::Attach(endpoint) => self.attach(endpoint, reply),
            ocicat_cni::daemon::Request::Detach(endpoint) => {
                self.forget_endpoint(&endpoint.id());
                answer(reply, &Response::Result(Detached {}));
            }
            ocicat_cni::daemon::Request::Status => {
                let reason = self.why_not_ready();
                let status = Status { ready: reason.is_none(), reason };
                answer(reply, &Response::Result(status));
            }
        }
    }

    fn attach(&mut self, endpoint: Endpoint, reply: oneshot::Sender<serde_json::Value>) {
        if self.writer.is_none() {
            let message = "this agent runs with --dataplane none: it attaches no pods".to_owned();
            refuse(reply, RefusalCode::Invalid, message);
            return;
        }
        self.waiters.push(Waiter::new(endpoint.clone(), reply));
        self.world.attach(endpoint);
    }

    fn forget_endpoint(&mut self, id: &EndpointId) {
        let addresses = self.world.endpoints().get(id).map(|endpoint| endpoint.addresses.clone());
        if let Some(addresses) = addresses {
            self.world.detach(id);
            self.waiters.drop(id);
            self.pending.forget(addresses);
        }
    }

    /// Answers those whose interface has its policy in the kernel already.
    pub(super) fn answer_waiters(&mut self) {
        self.waiters.planned(&self.ruleset);
        self.answer_planned();
    }

    /// Answers those whose policy was in the change that the kernel has just taken.
    pub(super) fn answer_planned(&mut self) {
        for waiter in self.waiters.take_planned() {
            let took = waiter.since.elapsed();
            self.metrics.add_to_enforced_seconds.observe(took.as_secs_f64());
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            info!(
                pod = %format_args!("{}/{}", waiter.endpoint.namespace, waiter.endpoint.pod),
                interface = waiter.endpoint.host_interface,
                addresses = ?waiter.endpoint.addresses,
                micros,
                "policy enforced"
            );
            answer(waiter.reply, &Response::Result(Attached { enforced: true, micros }));
        }
    }

    /// Why a pod that waits has no policy yet.
    pub(super) fn why_not_enforced(&self) -> impl Fn(&Endpoint) -> Refusal + use<> {
        let phase = self.phase;
        let missing = self.missing().join("; ");
        let failure = self.failures.get("rules").and_then(|lines| lines.first()).cloned();
        let known: BTreeSet<EndpointId> = self
            .world
            .endpoints()
            .iter()
            .filter(|(_, endpoint)| self.world.knows_pod_of(endpoint))
            .map(|(id, _)| id.clone())
            .collect();
        move |endpoint| {
            let pod = format!("{}/{}", endpoint.namespace, endpoint.pod);
            let (code, message) = if phase == Phase::Starting {
                (RefusalCode::NotReady, format!("the daemon is starting: {missing}"))
            } else if !known.contains(&endpoint.id()) {
                let message =
                    format!("the datastore has no pod {pod} on this node with this UID yet");
                (RefusalCode::NotReady, message)
            } else if let Some(failure) = &failure {
                (RefusalCode::Failed, format!("the kernel refused the rules: {failure}"))
            } else {
                (RefusalCode::NotReady, format!("the policy of {pod} is not in the kernel yet"))
            };
            Refusal { code, message }
        }
    }

    fn why_not_ready(&self) -> Option<String> {
        if self.writer.is_none() {
            return Some("this agent runs with --dataplane none".to_owned());
        }
        let missing = self.missing();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

/// Sends an answer; a client that has gone does not want it any more.
pub(super) fn answer<T: Serialize>(
    reply: oneshot::Sender<serde_json::Value>,
    response: &Response<T>,
) {
    let value = serde_json::to_value(response).expect("answers are plain data");
    let _ = reply.send(value);
}

pub(super) fn refuse(
    reply: oneshot::Sender<serde_json::Value>,
    code: RefusalCode,
    message: String,
) {
    answer(reply, &Response::<()>::Error(Refusal { code, message }));
}
