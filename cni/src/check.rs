//! CHECK: whether everything that ADD made is still there.
//!
//! The steps of the ADD are planned again from the record, and each is looked up in the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::add::open_kernel;
use crate::endpoint::{Endpoint, Stage};
use crate::plan::{self, Step};
use crate::spec::{Code, Config, Environment, Error};
use crate::store::Store;

/// Fails with all the damage there is.
pub(crate) fn check(environment: &Environment, config: &Config) -> Result<(), Error> {
    let container = environment.container()?;
    let Some(previous) = &config.previous else {
        return Err(Error::new(Code::InvalidConfig, "CHECK without prevResult"));
    };
    let mut kernel = open_kernel(&container)?;
    let Some(endpoint) = Store::open(&config.state)?.endpoint(&container.id())? else {
        let msg = format!("there is no record of {}", container.id());
        return Err(Error::new(Code::Damaged, msg));
    };
    let mut damage = contradictions(&endpoint, previous);
    // The MTU is not verified: a plugin later in the chain may have lowered it.
    for step in plan::attach(&endpoint, 0) {
        if let Step::Kernel(change) = step {
            damage.extend(kernel.verify(&change)?);
        }
    }
    if damage.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Damaged, damage.join("; ")))
}

/// Where the record and the result that the runtime kept do not agree. A later plugin may have added to the result.
fn contradictions(endpoint: &Endpoint, previous: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match endpoint.stage {
        Stage::Attached => {}
        Stage::Reserved => found.push(format!("the ADD of {} did not end", endpoint.id())),
        Stage::Superseded => found.push("the pod has a newer sandbox".to_owned()),
    }
    let named: BTreeSet<&str> =
        list(previous, "interfaces").filter_map(|interface| interface["name"].as_str()).collect();
    for name in [&endpoint.host_interface, &endpoint.ifname] {
        if !named.contains(name.as_str()) {
            found.push(format!("prevResult lacks the interface {name}"));
        }
    }
    let reported: BTreeSet<IpAddr> = list(previous, "ips")
        .filter_map(|ip| ip["address"].as_str()?.parse::<IpNet>().ok())
        .map(|address| address.addr())
        .collect();
    for address in &endpoint.addresses {
        if !reported.contains(address) {
            found.push(format!("prevResult lacks the address {address}"));
        }
    }
    found
}

fn list<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object[key].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::example;
    use serde_json::json;

    fn check(previous: &Value, expected: &[&str]) {
        let endpoint = Endpoint { stage: Stage::Attached, ..example(&["10.65.1.2"]) };
        assert_eq!(contradictions(&endpoint, previous), expected);
    }

    #[test]
    fn a_result_to_which_a_later_plugin_has_added_agrees() {
        let interfaces = json!([{"name": "oci0"}, {"name": "eth0"}, {"name": "ifb0"}]);
        let ips = json!([{"address": "10.65.1.2/32"}, {"address": "10.9.9.9/24"}]);
        check(&json!({ "interfaces": interfaces, "ips": ips }), &[]);
    }

    #[test]
    fn a_result_of_another_attachment_does_not() {
        let ips = json!([{"address": "10.65.1.3/32"}]);
        check(
            &json!({ "interfaces": [{"name": "eth0"}], "ips": ips }),
            &["prevResult lacks the interface oci0", "prevResult lacks the address 10.65.1.2"],
        );
    }
}
