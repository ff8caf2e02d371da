//! A node to test on: a network namespace of its own for the calling thread, pods in namespaces under `/run/netns`, and
//! a stand-in for the daemon that answers on a Unix socket. The real daemon is met in the integration tests.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use ocicat_cni::add::Add;
use ocicat_cni::daemon::{Attached, Detached, Refusal, RefusalCode, Request, Response, Status};
use ocicat_cni::node::Node as NodeFile;
use ocicat_cni::plan::Step;
use ocicat_cni::spec::{Command as Verb, Config, Environment, Error};
use ocicat_cni::store::{Records, Store};
use ocicat_cni::{Reply, run};
use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How the stand-in for the daemon answers an `attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    Enforces,
    Refuses,
    StaysSilent,
    IsAbsent,
}

pub(crate) struct Node {
    state: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Of the node, for threads that play other processes on it.
    netns: File,
}

/// Runs `test` on a thread that is a node, or says why it does not.
pub(crate) fn on_a_node(daemon: Daemon, cidrs: &[&str], test: impl FnOnce(&Node) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    let node = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let node = Node {
            state: tempfile::tempdir().unwrap(),
            requests: Arc::default(),
            netns: File::open("/proc/thread-self/ns/net").unwrap(),
        };
        ip("link set lo up");
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(Path::new("/proc/sys/net").join(path), "1").unwrap();
        }
        NodeFile { node: "a".into(), pod_cidrs: cidrs, mtu: 1400, ipv6: true }
            .write(node.state.path())
            .unwrap();
        node.start_daemon(daemon);
        test(&node);
    });
    if let Err(panic) = node.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Node {
    fn socket(&self) -> PathBuf {
        self.state.path().join("ocicat.sock")
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// The threads end with the process: a connection that nobody answers is one of the things to test.
    fn start_daemon(&self, daemon: Daemon) {
        if daemon == Daemon::IsAbsent {
            return;
        }
        let listener = UnixListener::bind(self.socket()).unwrap();
        let requests = Arc::clone(&self.requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let requests = Arc::clone(&requests);
                thread::spawn(move || answer(daemon, &stream, &requests));
            }
        });
    }

    /// What the daemon was asked, as `attach NAMESPACE/POD` and `detach NAMESPACE/POD`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let shown = |request: &Request| match request {
            Request::Attach(endpoint) => format!("attach {}/{}", endpoint.namespace, endpoint.pod),
            Request::Detach(endpoint) => format!("detach {}/{}", endpoint.namespace, endpoint.pod),
            Request::Status => "status".to_owned(),
        };
        self.requests.lock().unwrap().iter().map(shown).collect()
    }

    /// The network configuration, with `extra` over it.
    pub(crate) fn config(&self, extra: &Value) -> Vec<u8> {
        let mut config = json!({
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "ocicat-cni",
            "stateDir": self.state.path(),
            "socket": self.socket(),
            "policyTimeoutSeconds": 1,
        });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::to_vec(&config).unwrap()
    }

    pub(crate) fn add(&self, pod: &Pod) -> Result<Value, Error> {
        self.run("ADD", pod, &json!({})).map(|reply| reply.result.unwrap())
    }

    pub(crate) fn del(&self, pod: &Pod) -> Result<(), Error> {
        self.run("DEL", pod, &json!({})).map(drop)
    }

    pub(crate) fn check(&self, pod: &Pod, result: &Value) -> Result<(), Error> {
        self.run("CHECK", pod, &json!({ "prevResult": result })).map(drop)
    }

    pub(crate) fn run(&self, command: &str, pod: &Pod, extra: &Value) -> Result<Reply, Error> {
        run(&pod.environment(command), &self.config(extra))
    }

    pub(crate) fn records(&self) -> Records {
        Store::open(self.state.path()).unwrap().records().unwrap()
    }

    /// Moves the calling thread onto this node.
    pub(crate) fn enter(&self) {
        setns(&self.netns, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Fails unless nothing of `pod` is left anywhere.
    pub(crate) fn assert_clean(&self, pod: &Pod, what: &str) {
        let left: Vec<String> =
            links().into_iter().filter(|name| name.starts_with("oci")).collect();
        assert_eq!(left, Vec::<String>::new(), "{what}: interfaces of the node");
        assert_eq!(pod.inside(links), ["lo"], "{what}: interfaces of the pod");
        assert_eq!(self.records().endpoints, [], "{what}: records");
    }
}

fn answer(daemon: Daemon, stream: &UnixStream, requests: &Mutex<Vec<Request>>) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let Ok(request) = serde_json::from_str::<Request>(&line) else { return };
    requests.lock().unwrap().push(request.clone());
    let refusal = Refusal { code: RefusalCode::NotReady, message: "two watches lack".into() };
    let response = match (daemon, request) {
        (Daemon::StaysSilent, Request::Attach(_)) => {
            thread::sleep(Duration::from_secs(3));
            return;
        }
        (Daemon::Refuses, Request::Attach(_)) => {
            serde_json::to_string(&Response::<Attached>::Error(refusal))
        }
        (_, Request::Attach(_)) => {
            serde_json::to_string(&Response::Result(Attached { enforced: true, micros: 1 }))
        }
        (_, Request::Detach(_)) => serde_json::to_string(&Response::Result(Detached {})),
        (_, Request::Status) => {
            let ready = daemon != Daemon::Refuses;
            let reason = (!ready).then(|| "two watches lack".to_owned());
            serde_json::to_string(&Response::Result(Status { ready, reason }))
        }
    };
    // The client may have given up.
    let _ = writeln!(&*stream, "{}", response.unwrap());
}

/// The sandbox of a pod: a network namespace with a name.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) container_id: String,
    pub(crate) netns: PathBuf,
}

impl Pod {
    pub(crate) fn new(name: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("oct-cni-{}-{number}", std::process::id());
        let netns = Path::new("/run/netns").join(&unique);
        fs::create_dir_all("/run/netns").unwrap();
        File::create(&netns).unwrap();
        let pod = Self { name: name.into(), container_id: unique, netns: netns.clone() };
        let made = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let own = "/proc/thread-self/ns/net";
            mount(Some(own), &netns, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        });
        made.join().unwrap();
        pod
    }

    pub(crate) fn environment(&self, command: &str) -> Environment {
        Environment {
            command: command.into(),
            container_id: self.container_id.clone(),
            netns: self.netns.display().to_string(),
            ifname: "eth0".into(),
            args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.name),
        }
    }

    /// Does `work` inside the pod.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(&self.netns).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// Removes the namespace, as a runtime may before it calls DEL.
    pub(crate) fn vanish(&self) {
        let _ = umount2(&self.netns, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.netns);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The interfaces in the namespace of the calling thread.
pub(crate) fn links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let mut names: Vec<String> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    names.sort();
    names
}

/// The addresses in a result, IPv4 first.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter()
        .map(|ip| ip["address"].as_str().unwrap().split_once('/').unwrap().0.parse().unwrap())
        .collect()
}

/// Sends a datagram from one pod to the other at `address`, and a reply back. Fails after two seconds.
pub(crate) fn exchange(from: &Pod, to: &Pod, address: IpAddr) {
    let socket = || {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    };
    let (server, client) = (to.inside(socket), from.inside(socket));
    let port = server.local_addr().unwrap().port();
    let mut buffer = [0; 16];
    client.send_to(b"ping", (address, port)).unwrap();
    let (length, peer) = server.recv_from(&mut buffer).expect("the request arrives");
    assert_eq!(&buffer[..length], b"ping");
    server.send_to(b"pong", peer).unwrap();
    let (length, _) = client.recv_from(&mut buffer).expect("the reply arrives");
    assert_eq!(&buffer[..length], b"pong");
}

/// An interface that is up, for routes to lead to.
pub(crate) fn add_link(name: &str) {
    ip(&format!("link add {name} type veth peer name other0"));
    ip(&format!("link set {name} up"));
    ip("link set other0 up");
}

/// An ADD of which every step before `stop` is done, and the steps that are left.
pub(crate) fn add_until(node: &Node, pod: &Pod, stop: impl Fn(&Step) -> bool) -> (Add, Vec<Step>) {
    let config = Config::parse(Verb::Add, &node.config(&json!({}))).unwrap();
    let mut add = Add::begin(&pod.environment("ADD"), &config).unwrap();
    let mut steps = add.steps();
    let left = steps.split_off(steps.iter().position(stop).unwrap());
    for step in &steps {
        add.apply(step).unwrap();
    }
    (add, left)
}
