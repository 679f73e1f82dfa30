//! The machine and the versions, so that a result can be told from another machine's.

use std::fs;

use serde::Serialize;
use weir::model::utc::Utc;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    pub host: String,
    pub weir_perf: String,
    /// The generator was built without optimisation, so its figures mean little.
    pub debug_build: bool,
}

pub fn describe() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let meminfo = read("/proc/meminfo");
    let memory = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = memory.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Machine {
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: kib.unwrap_or(0) << 10,
        kernel: read("/proc/sys/kernel/osrelease"),
        host: read("/proc/sys/kernel/hostname"),
        weir_perf: env!("CARGO_PKG_VERSION").to_owned(),
        debug_build: cfg!(debug_assertions),
    }
}

/// The command line as it can be given again.
pub fn command_line() -> String {
    let quote = |word: String| match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,".contains(c))
    {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(program).chain(words.map(quote)).collect::<Vec<_>>().join(" ")
}

/// Now, as `2026-11-22T22:37:05Z`.
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs())
}

fn date(seconds: u64) -> String {
    format!("{}Z", Utc(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_795_387_025), "2026-11-22T22:37:05Z");
    }
}
