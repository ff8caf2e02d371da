//! What a program costs, from /proc: processor time and memory of a process, its threads and its
//! children.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The costs of a program until now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Processor time of all threads that live.
    pub(crate) cpu: Duration,
    /// The most memory that was resident, in KiB; processes added up.
    pub(crate) peak_kib: u64,
    /// Resident memory, in KiB.
    pub(crate) rss_kib: u64,
}

/// Measures the process `root` with all its children.
pub(crate) fn sample(root: u32) -> Result<Sample> {
    let mut sum = Sample::default();
    for pid in family(root) {
        // A child may end while we look; the root may not.
        match of_process(pid) {
            Ok(one) => {
                sum.cpu += one.cpu;
                sum.peak_kib += one.peak_kib;
                sum.rss_kib += one.rss_kib;
            }
            Err(error) if pid == root => return Err(error).context("the daemon has ended"),
            Err(_) => {}
        }
    }
    Ok(sum)
}

fn of_process(pid: u32) -> Result<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.with_context(|| format!("process {pid} has no {name}"))?.parse().context("a number")
    };
    Ok(Sample { cpu: cpu(pid)?, peak_kib: kib("VmHWM:")?, rss_kib: kib("VmRSS:")? })
}

/// Of all threads, in nanoseconds as the scheduler counts them: `stat` counts hundredths.
fn cpu(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += line.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

fn family(root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            open.extend(children.filter(|pid| found.insert(*pid)));
        }
    }
    found
}

/// Processor time that the whole machine has spent, in seconds.
pub(crate) fn machine_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let numbers = stat.lines().next().context("/proc/stat is empty")?.split_whitespace().skip(1);
    let ticks: Vec<f64> = numbers.filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, then idle and iowait, then irq, softirq, steal.
    let busy = ticks.iter().take(3).chain(ticks.iter().skip(5).take(3));
    Ok(busy.sum::<f64>() / 100.0)
}

/// A stretch of time in which the costs of a program are counted.
#[derive(Debug)]
pub(crate) struct Stretch {
    root: u32,
    from: Sample,
    own: Duration,
    machine: f64,
    start: Instant,
}

/// What a stretch cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    /// Seconds of processor time of this very process.
    pub(crate) tester_cpu: f64,
    /// Processors that were busy with neither.
    pub(crate) foreign: f64,
}

impl Stretch {
    pub(crate) fn begin(root: u32) -> Result<Self> {
        let (own, machine) = (cpu(std::process::id())?, machine_cpu()?);
        let from = sample(root)?;
        Ok(Self { root, from, own, machine, start: Instant::now() })
    }

    /// Begins the wall time anew, at a moment that was noted before.
    pub(crate) fn starts_at(&mut self, start: Instant) {
        self.start = start;
    }

    pub(crate) fn end(&self) -> Result<Cost> {
        let wall = self.start.elapsed().as_secs_f64();
        let cpu_now = sample(self.root)?.cpu;
        let cost = cpu_now.saturating_sub(self.from.cpu).as_secs_f64();
        let tester_cpu = cpu(std::process::id())?.saturating_sub(self.own).as_secs_f64();
        let machine = machine_cpu()? - self.machine;
        let foreign = ((machine - cost - tester_cpu) / wall.max(0.01)).max(0.0);
        Ok(Cost { wall, cpu: cost, tester_cpu, foreign })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_spends_is_seen_and_so_is_its_memory() {
        let stretch = Stretch::begin(std::process::id()).unwrap();
        let mut sum = 0u64;
        while stretch.start.elapsed() < Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let cost = stretch.end().unwrap();
        assert!(cost.cpu > 0.0, "{cost:?}");
        let sample = sample(std::process::id()).unwrap();
        assert!(sample.peak_kib >= sample.rss_kib && sample.rss_kib > 500, "{sample:?}");
    }
}
