//! Services, as far as their addresses are told to routers: which there are, and where somebody stands behind them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice as SliceObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Arrival, World};
use crate::datastore::{Key, Kind};

/// The label by which an EndpointSlice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
type Place = (String, String);

/// The addresses of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs`.
    pub cluster: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external: Vec<IpAddr>,
    /// Addresses of `status.loadBalancer.ingress` that the nodes serve themselves.
    pub load_balancer: Vec<IpAddr>,
    /// `spec.externalTrafficPolicy`.
    pub traffic: Traffic,
}

/// Which endpoints a node gives traffic from outside to (`externalTrafficPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Any.
    Cluster,
    /// Its own.
    Local,
}

/// Where ready endpoints of a Service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoints {
    /// There are none.
    Nowhere,
    /// On other nodes alone.
    Elsewhere,
    /// On this node, and maybe on others.
    Here,
}

/// What is known of Services.
#[derive(Debug, Default)]
pub(super) struct Services {
    arrival: Arrival,
    /// Of the kinds that arrive on demand, those of which everything was told.
    listed: [bool; 2],
    services: BTreeMap<Place, Service>,
    /// By Service, and by the name of the slice.
    endpoints: BTreeMap<Place, BTreeMap<String, Endpoints>>,
    /// The Service of a slice.
    owners: BTreeMap<Place, Place>,
}

impl Services {
    fn put(&mut self, object: &ServiceObject) -> bool {
        let service = read(object);
        self.services.insert(place(&object.metadata), service.clone()) != Some(service)
    }

    fn put_slice(&mut self, object: &SliceObject, node: &str) -> bool {
        let slice = place(&object.metadata);
        let labels = object.metadata.labels.as_ref();
        let Some(owner) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else {
            return self.delete_slice(&slice);
        };
        let owner = (slice.0.clone(), owner.clone());
        let moved = self.owners.get(&slice).is_some_and(|before| *before != owner)
            && self.delete_slice(&slice);
        self.owners.insert(slice.clone(), owner.clone());
        let found = endpoints(object, node);
        moved | (self.endpoints.entry(owner).or_default().insert(slice.1, found) != Some(found))
    }

    fn delete_slice(&mut self, slice: &Place) -> bool {
        let Some(owner) = self.owners.remove(slice) else { return false };
        let Some(slices) = self.endpoints.get_mut(&owner) else { return false };
        let there = slices.remove(&slice.1).is_some();
        if slices.is_empty() {
            self.endpoints.remove(&owner);
        }
        there
    }

    /// Everything of a kind was told; says whether that is news.
    pub(super) fn list(&mut self, kind: Kind) -> bool {
        index(kind).is_some_and(|index| !std::mem::replace(&mut self.listed[index], true))
    }

    /// A kind is not followed any more.
    pub(super) fn forget(&mut self, kind: Kind) {
        match index(kind) {
            Some(0) => self.services.clear(),
            Some(_) => {
                self.endpoints.clear();
                self.owners.clear();
            }
            None => return,
        }
        index(kind).into_iter().for_each(|index| self.listed[index] = false);
    }
}

fn index(kind: Kind) -> Option<usize> {
    [Kind::Service, Kind::EndpointSlice].iter().position(|of| *of == kind)
}

impl World {
    /// Services become known by `arrival`.
    #[must_use]
    pub fn with_services(mut self, arrival: Arrival) -> Self {
        self.services.arrival = arrival;
        self
    }

    /// Whether everything was told of Services and their endpoints.
    pub fn knows_services(&self) -> bool {
        self.services.arrival == Arrival::WithTheRest || self.services.listed == [true; 2]
    }

    /// The Services, and where they have endpoints that are ready.
    pub fn services(&self) -> impl Iterator<Item = (&Service, Endpoints)> {
        let Services { services, endpoints, .. } = &self.services;
        services.iter().map(|(place, service)| {
            let slices = endpoints.get(place).into_iter().flat_map(BTreeMap::values);
            (service, slices.copied().max().unwrap_or(Endpoints::Nowhere))
        })
    }

    pub(super) fn put_service(&mut self, object: &ServiceObject) {
        self.dirty.peering |= self.services.put(object);
    }

    pub(super) fn put_endpoint_slice(&mut self, object: &SliceObject) {
        self.dirty.peering |= self.services.put_slice(object, &self.name);
    }

    pub(super) fn delete_service(&mut self, key: &Key) {
        let place = (key.namespace.clone(), key.name.clone());
        self.dirty.peering |= self.services.services.remove(&place).is_some();
    }

    pub(super) fn delete_endpoint_slice(&mut self, key: &Key) {
        let place = (key.namespace.clone(), key.name.clone());
        self.dirty.peering |= self.services.delete_slice(&place);
    }
}

fn place(metadata: &ObjectMeta) -> Place {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, metadata.name.clone().unwrap_or_default())
}

fn read(object: &ServiceObject) -> Service {
    let spec = object.spec.clone().unwrap_or_default();
    // A headless Service has "None" there.
    let parse = |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
    let cluster = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    // With ipMode Proxy packets to the address are not for the nodes.
    let ours = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    Service {
        cluster: parse(cluster),
        external: parse(spec.external_ips.unwrap_or_default()),
        load_balancer: ours.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect(),
        traffic: match spec.external_traffic_policy.as_deref() {
            Some("Local") => Traffic::Local,
            _ => Traffic::Cluster,
        },
    }
}

fn endpoints(object: &SliceObject, node: &str) -> Endpoints {
    // Not said means ready (EndpointConditions).
    let is_ready = |conditions: Option<&k8s_openapi::api::discovery::v1::EndpointConditions>| {
        conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
    };
    let all = object.endpoints.iter().flatten();
    let ready = all.filter(|endpoint| is_ready(endpoint.conditions.as_ref()));
    let places = ready.map(|endpoint| match endpoint.node_name.as_deref() == Some(node) {
        true => Endpoints::Here,
        false => Endpoints::Elsewhere,
    });
    places.max().unwrap_or(Endpoints::Nowhere)
}
