//! A daemon with a kernel of memory and a datastore that says what the test wants.

use ocicat_felix::config::AgentOptions;
use ocicat_felix::daemon::{Daemon, Doors, Parts, Request, Wanted};
use ocicat_felix::dataplane::Memory;
use ocicat_felix::datastore::{Datastore, Event, Object};
use ocicat_felix::metrics::Metrics;
use ocicat_felix::plan::ruleset::TABLE;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

/// A datastore that says what it is told to say.
struct Script(mpsc::UnboundedReceiver<Vec<Event>>);

impl Datastore for Script {
    async fn next(&mut self) -> Option<Vec<Event>> {
        self.0.recv().await
    }
}

/// The daemon of node n1, and how it is talked to.
pub(crate) struct Node {
    script: mpsc::UnboundedSender<Vec<Event>>,
    pub(crate) doors: Doors,
    _state: tempfile::TempDir,
    _kernel: mpsc::Sender<ocicat_felix::dataplane::kernel::Event>,
    _stop: watch::Sender<bool>,
}

impl Node {
    pub(crate) fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let options = AgentOptions {
            node: Some("n1".to_owned()),
            state_dir: Some(state.path().to_owned()),
            ..AgentOptions::default()
        };
        let config = options.resolve(AgentOptions::default()).unwrap();
        let (kernel_sender, kernel) = mpsc::channel(1);
        let dataplane = Some(Box::new(Memory::new(TABLE)) as _);
        let set_log = Box::new(|_: Option<&str>| {});
        let parts =
            Parts { dataplane, kernel, metrics: Metrics::default(), set_log, status_writer: None };
        let (daemon, doors) = Daemon::new(config, parts).unwrap();
        let (script, told) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(daemon.run(Script(told), stopped));
        Self { script, doors, _state: state, _kernel: kernel_sender, _stop: stop }
    }

    pub(crate) fn say(&self, event: Event) {
        self.script.send(vec![event]).unwrap();
    }

    pub(crate) fn put(&self, object: Value) {
        let parsed = Object::parse(object).unwrap();
        self.say(Event::Put(Box::new(parsed.object)));
    }

    pub(crate) async fn ask(&self, what: Wanted) -> oneshot::Receiver<Value> {
        let (reply, answer) = oneshot::channel();
        self.doors.requests.send(Request { what, reply }).await.unwrap();
        answer
    }
}
