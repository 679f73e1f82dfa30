//! What the kernel says about this process.

use std::fs;

/// Clock ticks in a second as /proc counts them; fixed for user space on Linux.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_fds: u64,
    pub max_fds: u64,
    pub threads: u64,
    pub start_time_seconds: f64,
}

impl Process {
    /// Reads /proc; what cannot be read stays zero.
    pub fn here() -> Process {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut process = parse_stat(&read("/proc/self/stat"), boot_time(&read("/proc/stat")));
        process.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        process.max_fds = max_fds(&read("/proc/self/limits"));
        process
    }
}

fn boot_time(stat: &str) -> f64 {
    let line = stat.lines().find_map(|l| l.strip_prefix("btime "));
    line.and_then(|t| t.trim().parse().ok()).unwrap_or(0.0)
}

fn max_fds(limits: &str) -> u64 {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The fields after the command name, which may itself hold spaces and parentheses.
fn parse_stat(stat: &str, boot_time: f64) -> Process {
    let fields: Vec<u64> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| {
        // The first field is the state letter; signed ones that are negative are of no use here.
        rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect()
    });
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    Process {
        resident_bytes: field(24) * PAGE,
        cpu_seconds: (field(14) + field(15)) as f64 / TICKS,
        threads: field(20),
        start_time_seconds: boot_time + field(22) as f64 / TICKS,
        ..Process::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_survive_an_odd_command_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 1 2 3 4 250 50 0 0 20 0 9 0 1000 4096000 12 18446744073709551615";
        let process = parse_stat(stat, 100.0);
        assert_eq!((process.cpu_seconds, process.threads), (3.0, 9));
        assert_eq!((process.resident_bytes, process.start_time_seconds), (12 * PAGE, 110.0));
        assert_eq!(parse_stat("", 0.0), Process::default());
    }

    #[test]
    fn this_process_is_there() {
        let here = Process::here();
        assert!(here.resident_bytes > 0 && here.open_fds > 2 && here.max_fds >= here.open_fds, "{here:?}");
    }
}
