//! The machine and the versions, so that a result can be told from another machine's.

use std::fs;

use serde::Serialize;

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
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days from civil, backwards (Howard Hinnant): years begin in March, so that leap days come last.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
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
