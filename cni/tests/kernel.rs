//! The commands in real network namespaces. Needs root.

mod node;

use std::thread;

use node::{Daemon, Pod, addresses, exchange, ip, links, on_a_node};
use ocicat_cni::endpoint::{Stage, host_interface};
use ocicat_cni::spec::Code;

const DUAL: [&str; 2] = ["10.65.1.0/24", "fd00:65:1::/64"];

#[test]
fn two_pods_reach_each_other_over_both_families() {
    on_a_node(Daemon::Enforces, &DUAL, |node| {
        let (web, client) = (Pod::new("web"), Pod::new("client"));
        let result = node.add(&web).unwrap();
        node.add(&client).unwrap();
        for address in addresses(&result) {
            exchange(&client, &web, address);
        }
        assert_eq!(node.requests(), ["attach default/web", "attach default/client"]);
        assert!(node.records().endpoints.iter().all(|e| e.stage == Stage::Attached));
        node.check(&web, &result).unwrap();
        node.del(&web).unwrap();
        node.del(&client).unwrap();
        node.assert_clean(&web, "after DEL");
    });
}
