//! What of Services is told.

use super::*;

fn service(name: &str, spec: Value, ingress: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}})
}

/// A slice with an endpoint on each of these nodes.
fn slice(service: &str, name: &str, nodes: &[&str], ready: bool) -> Value {
    let endpoint = |node: &&str| json!({"addresses": ["10.65.1.9"], "nodeName": node, "conditions": {"ready": ready}});
    let endpoints: Vec<Value> = nodes.iter().map(endpoint).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": name,
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints})
}

fn ranges(more: Value) -> Value {
    let mut spec = json!({
        "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {"cidr": "fd00:96::/108"}],
        "serviceExternalIPs": [{"cidr": "192.0.2.0/25"}],
        "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}, {"cidr": "203.0.113.7/32"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    calico("BGPConfiguration", "default", spec)
}

/// What node n1 tells beside its pods' range.
fn told(world: &World) -> Vec<String> {
    let Peering { config, problems, .. } = plan(world, Start::Cold);
    assert_eq!(problems, []);
    let prefixes = config.unwrap().originated.into_keys().map(|prefix| prefix.to_string());
    prefixes.filter(|prefix| prefix != "10.65.1.0/24").collect()
}

const WHOLE: [&str; 3] = ["10.96.0.0/12", "192.0.2.0/25", "fd00:96::/108"];

fn with(more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = WHOLE.iter().chain(more).map(ToString::to_string).collect();
    all.sort_by_key(|text| text.parse::<ocicat_bgp::wire::Prefix>().unwrap());
    all
}

#[test]
fn ranges_are_told_whole_and_local_services_where_their_endpoints_are() {
    let mut objects = two_nodes();
    objects.push(ranges(json!({})));
    assert_eq!(told(&world(&objects)), with(&["198.51.100.0/24"]));
    objects.push(service(
        "local",
        json!({"clusterIPs": ["10.96.0.5", "fd00:96::5"], "externalIPs": ["192.0.2.5", "192.0.2.200"],
            "externalTrafficPolicy": "Local"}),
        json!([{"ip": "198.51.100.5"}, {"ip": "198.51.100.6", "ipMode": "Proxy"}, {"hostname": "a.b"}]),
    ));
    objects.push(service("cluster", json!({"clusterIP": "10.96.0.6"}), json!([])));
    objects.push(slice("cluster", "cluster-1", &["n1"], true));
    objects.push(slice("local", "local-1", &["n2"], true));
    assert_eq!(told(&world(&objects)), with(&["198.51.100.0/24"]), "the endpoint is elsewhere");
    objects.push(slice("local", "local-2", &["n1"], false));
    assert_eq!(told(&world(&objects)), with(&["198.51.100.0/24"]), "it is not ready");
    objects.push(slice("local", "local-2", &["n1", "n2"], true));
    let hosts = ["10.96.0.5/32", "192.0.2.5/32", "198.51.100.5/32", "fd00:96::5/128"];
    assert_eq!(told(&world(&objects)), with(&[&["198.51.100.0/24"], &hosts[..]].concat()));
    let excluded = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    objects.push(node("n1", "172.16.0.1", "10.65.1.0/24", excluded));
    assert_eq!(told(&world(&objects)), [""; 0]);
}

#[test]
fn load_balancers_are_told_one_by_one_where_asked_for_and_only_with_endpoints() {
    let mut objects = two_nodes();
    objects.push(ranges(json!({"serviceLoadBalancerAggregation": "Disabled"})));
    let ingress = json!([{"ip": "198.51.100.5"}, {"ip": "203.0.113.7"}, {"ip": "203.0.113.8"}]);
    objects.push(service("web", json!({}), ingress));
    assert_eq!(told(&world(&objects)), with(&[]), "nobody is behind it");
    objects.push(slice("web", "web-1", &["n2"], true));
    assert_eq!(told(&world(&objects)), with(&["198.51.100.5/32", "203.0.113.7/32"]));
    objects.push(ranges(json!({"serviceLoadBalancerAggregation": "Enabled"})));
    assert_eq!(told(&world(&objects)), with(&["198.51.100.0/24", "203.0.113.7/32"]));
}

#[test]
fn services_are_followed_as_they_change() {
    let mut world = world(&two_nodes()).with_services(Arrival::OnDemand);
    assert!(!asks_for_services(&world) && !world.knows_services());
    let mut put = |object: Value| {
        let parsed = Object::parse(object).unwrap();
        world.apply(Event::Put(Box::new(parsed.object)));
        world.take_dirty().peering
    };
    let web = || {
        service("web", json!({"externalTrafficPolicy": "Local"}), json!([{"ip": "198.51.100.5"}]))
    };
    assert!(put(ranges(json!({}))) && put(web()) && put(slice("web", "web-1", &["n1"], true)));
    assert!(!put(web()) && !put(slice("web", "web-1", &["n1"], true)), "nothing new in that");
    assert!(!put(slice("web", "web-1", &["n1", "n1"], true)), "nor in one more of the same");
    for kind in [Kind::Service, Kind::EndpointSlice] {
        assert!(asks_for_services(&world) && !world.knows_services());
        world.apply(Event::Listed(kind));
    }
    assert!(world.knows_services());
    assert!(told(&world).contains(&"198.51.100.5/32".to_owned()));
    // A slice that changes its owner leaves the old one.
    let other = Object::parse(slice("other", "web-1", &["n1"], true)).unwrap().object;
    world.apply(Event::Put(Box::new(other)));
    assert!(!told(&world).contains(&"198.51.100.5/32".to_owned()));
    let back = Object::parse(slice("web", "web-1", &["n1"], true)).unwrap().object;
    world.apply(Event::Put(Box::new(back)));
    world.apply(Event::Delete(Key::namespaced(Kind::EndpointSlice, "shop", "web-1")));
    assert!(!told(&world).contains(&"198.51.100.5/32".to_owned()));
    world.apply(Event::Unfollowed(Kind::Service));
    assert!(!world.knows_services() && world.services().count() == 0);
}

#[test]
fn a_range_that_is_none_is_named() {
    let mut objects = two_nodes();
    let spec = json!({"serviceExternalIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "192.0.2.0/33"}]});
    objects.push(calico("BGPConfiguration", "default", spec));
    let problems = plan(&world(&objects), Start::Cold).problems;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(
        problem.to_string(),
        "BGPConfiguration default: spec.serviceExternalIPs[1].cidr: \"192.0.2.0/33\" is not a CIDR; nothing in it is told"
    );
}
