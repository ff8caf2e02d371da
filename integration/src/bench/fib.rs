//! Routes from the router to the node's kernel.

use std::time::Duration;

use anyhow::Result;

use super::{print, timed};
use crate::lab::Lab;
use crate::progress::format_duration;
use crate::router::bird::{self, Bird, Uplink};
use crate::router::{Announcement, Config, Daemon as _, Neighbor};
use crate::wait::until;

/// One route at a time, from GoBGP.
pub(super) fn one(lab: &Lab) -> Result<()> {
    let router = lab.router_daemon()?;
    let node = lab.agents[0].netns();
    let mut times = Vec::new();
    for index in 0..20 {
        let prefix = format!("198.51.{index}.0/24");
        router.add(&prefix, None)?;
        // From the moment that GoBGP has it: starting its client is not what is measured.
        let (_, took) = timed(|| {
            until(Duration::from_secs(5), "the route is in the kernel", || {
                Ok(!node.run("ip", &["route", "show", &prefix])?.trim().is_empty())
            })
        })?;
        times.push(took);
    }
    print("a route from GoBGP to the node's kernel", times);
    Ok(())
}

/// Many routes at once, from BIRD in the place of GoBGP.
pub(super) fn bulk(lab: &mut Lab) -> Result<()> {
    let node = lab.spec.nodes[0].clone();
    for count in [1_000, 10_000, 100_000] {
        lab.router_daemon_mut()?.kill()?;
        let directory = lab.directory().join("bird");
        let local = node.gateway_ipv4();
        let neighbor = Neighbor::new(local.into(), node.ipv4.into(), node.as_number);
        let as_number = lab.spec.router.as_number;
        let config = Config::new(as_number, local, vec![neighbor]);
        let mut bird = Bird::start(&lab.router, &directory, &config)?;
        let routes: Vec<_> = (0..count).map(bird::prefix).map(Announcement::plain).collect();
        bird.announce(&routes)?;
        let kernel = lab.agents[0].netns();
        let has = |prefix: &str| -> Result<bool> {
            Ok(!kernel.run("ip", &["route", "show", prefix])?.trim().is_empty())
        };
        let limit = Duration::from_secs(120);
        // Counting all is slow: only when the first and the last are as they should be.
        let all = |wanted: bool| {
            until(limit, "the table is as BIRD has it", || {
                let (first, last) =
                    (bird::prefix(0).to_string(), bird::prefix(count - 1).to_string());
                if has(&first)? != wanted || has(&last)? != wanted {
                    return Ok(false);
                }
                let table = kernel.run("ip", &["route", "show", "proto", "179"])?;
                let many: u32 =
                    table.lines().map(|line| u32::from(line.contains("metric 4096"))).sum();
                Ok(if wanted { many >= count } else { many < 100 })
            })
        };
        all(true)?;
        bird.set_uplink(Uplink::Lost)?;
        let gone = all(false)?;
        // With the session up: what is measured is the way of the routes.
        let (_, there) = timed(|| bird.set_uplink(Uplink::Up).and_then(|()| all(true)))?;
        let memory = lab.agents[0].memory()?;
        println!(
            "{count} routes from BIRD: all in the kernel {} after the command, all out {} after it; the agent holds {memory} KiB",
            format_duration(there),
            format_duration(gone)
        );
    }
    Ok(())
}
