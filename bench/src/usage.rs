//! What processes cost, from /proc: resident memory and CPU time.
//!
//! Process ids → [`Usage`]. A process that is gone counts as zero: the caller notices its absence otherwise.

use std::collections::BTreeMap;
use std::fs;

/// USER_HZ, which Linux has fixed at 100 for what it shows in /proc on all architectures we run on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    pub rss_mib: f64,
    /// User and system time since the process began.
    pub cpu_s: f64,
}

/// One process alone.
pub fn of_process(pid: u32) -> Usage {
    let rss_kib = field_kib(&read(pid, "status"), "VmRSS:").unwrap_or_default();
    let cpu_ticks = Stat::parse(&read(pid, "stat")).map_or(0, |stat| stat.own_ticks);
    Usage { rss_mib: rss_kib / 1024.0, cpu_s: cpu_ticks as f64 / TICKS_PER_SECOND }
}

/// A process with all its descendants, also those that have ended. Memory that they share (Postgres's buffers) counts
/// once: each has its proportional share.
pub fn of_tree(root: u32) -> Usage {
    let stats = all_stats();
    let mut usage = Usage::default();
    for pid in descendants(root, &stats) {
        let shared_fairly = field_kib(&read(pid, "smaps_rollup"), "Pss:");
        usage.rss_mib += shared_fairly.map_or_else(|| of_process(pid).rss_mib, |kib| kib / 1024.0);
        let ticks = stats.get(&pid).map_or(0, |stat| stat.own_ticks + stat.ended_children_ticks);
        usage.cpu_s += ticks as f64 / TICKS_PER_SECOND;
    }
    usage
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    ended_children_ticks: u64,
}

impl Stat {
    /// Reads /proc/PID/stat. The command name may hold spaces and brackets, so fields count from its last bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: ticks(11)? + ticks(12)?,
            ended_children_ticks: ticks(13)? + ticks(14)?,
        })
    }
}

fn all_stats() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, Stat::parse(&read(pid, "stat"))?))).collect()
}

/// `root` and everything below it.
fn descendants(root: u32, stats: &BTreeMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// The number after `name`, which /proc gives in KiB.
fn field_kib(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_names_with_spaces_and_brackets_do_not_shift_fields() {
        let line = "42 (a) b) c) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 5 6 7";
        let expected = Stat { parent: 7, own_ticks: 200, ended_children_ticks: 50 };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn descendants_include_grandchildren_and_no_strangers() {
        let stat = |parent| Stat { parent, own_ticks: 0, ended_children_ticks: 0 };
        let stats = BTreeMap::from([(2, stat(1)), (3, stat(2)), (4, stat(1)), (5, stat(3)), (6, stat(9))]);
        assert_eq!(descendants(2, &stats), [2, 3, 5]);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(of_process(std::process::id()).rss_mib > 0.0);
        assert!(of_tree(std::process::id()).rss_mib > 0.0);
        assert_eq!(of_process(u32::MAX), Usage::default());
    }
}
