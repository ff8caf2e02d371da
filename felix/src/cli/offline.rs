//! Commands that read a directory of YAML and need neither agent nor root.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use ocicat_bgp::speaker::Start;
use ocicat_cni::endpoint::{Endpoint, PRIMARY_IFNAME, Stage, UnixMillis, host_interface};
use ocicat_felix::api::PlanView;
use ocicat_felix::dataplane::{Change, Dataplane, Memory, State};
use ocicat_felix::datastore::directory;
use ocicat_felix::explain::{self, Question};
use ocicat_felix::plan::routes::RoutePlan;
use ocicat_felix::plan::ruleset::{Ruleset, TABLE};
use ocicat_felix::plan::{nat, peering};
use ocicat_felix::world::World;

use super::Output;
use super::ask::{explained, print};

fn read(directory: &Path, node: &str) -> anyhow::Result<World> {
    let mut world = World::new(node);
    for event in directory::read_once(directory)? {
        world.apply(event);
    }
    Ok(world)
}

/// What is wrong with the input does not belong on standard output.
fn report(world: &World) {
    for problem in world.problems() {
        eprintln!("ocicat: {problem}");
    }
}

pub(super) fn explain(directory: &Path, flow: &str, output: Output) -> anyhow::Result<ExitCode> {
    let world = read(directory, "")?;
    report(&world);
    let question: Question = flow.parse()?;
    let answers = explain::explain(world.index.world(), &question)?;
    explained(&answers, output)
}

pub(super) fn plan(directory: &Path, node: &str, output: Output) -> anyhow::Result<ExitCode> {
    let mut world = read(directory, node)?;
    world.own_node().with_context(|| {
        format!("{} has no Node {node}; name one of its nodes with --node", directory.display())
    })?;
    attach_all(&mut world);
    world.index.flush();
    report(&world);
    let mut ruleset = Ruleset::from_scratch(&world);
    ruleset.set_nat(nat::plan(&world).0);
    let workloads = peering::plan(&world, Start::Cold).workloads;
    ruleset.set_speakers(workloads.keys().map(String::as_str));
    let mut routes = RoutePlan::default();
    routes.follow_world(&world);
    let desired = State { table: ruleset.table().clone(), routes: routes.all() };
    let empty = Memory::new(TABLE).read()?;
    let view = PlanView { change: Change::between(&desired, &empty).to_string() };
    print(output, &view, |view| view.change.clone())?;
    Ok(ExitCode::SUCCESS)
}

/// Attaches every pod of the node that has an address, as the plugin would have.
fn attach_all(world: &mut World) {
    let pods: Vec<_> = world.own_pods().cloned().collect();
    for pod in pods {
        let (namespace, name) = (pod.key.namespace.to_string(), pod.key.name.to_string());
        if pod.addresses.is_empty() {
            continue;
        }
        world.attach(Endpoint {
            host_interface: host_interface(&namespace, &name, PRIMARY_IFNAME),
            container_id: format!("{namespace}.{name}"),
            namespace,
            pod: name,
            uid: None,
            netns: String::new(),
            ifname: PRIMARY_IFNAME.to_owned(),
            addresses: pod.addresses.clone(),
            created: UnixMillis(0),
            stage: Stage::Attached,
        });
    }
}
