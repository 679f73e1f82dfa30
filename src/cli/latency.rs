//! `weir latency`: a live table of where the time of requests goes, from the broker's own metrics.

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output::{self, Table};
use crate::client::stages::{self, Stage};

#[derive(Args, Debug)]
pub struct LatencyArgs {
    /// HTTP address of the broker, host:port
    #[arg(long, env = "WEIR_ADMIN", default_value = "127.0.0.1:9644")]
    admin: String,
    /// Seconds that each table covers
    #[arg(long, default_value_t = 1.0)]
    every: f64,
    /// Tables to print; without end if not given
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Show only this API
    #[arg(long)]
    api: Option<String>,
    /// A JSON line for each table, for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: &LatencyArgs) -> Result<(), Failure> {
    let every = Duration::try_from_secs_f64(args.every)
        .ok()
        .filter(|every| !every.is_zero())
        .ok_or_else(|| Failure::Usage("--every must be above 0".to_owned()))?;
    let scrape = || {
        let error = |error: String| Failure::Io { what: "no metrics", error: std::io::Error::other(error) };
        stages::scrape(&args.admin).map(Some).map_err(error)
    };
    let live = !args.json && std::io::stdout().is_terminal();
    let mut before = scrape()?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        thread::sleep(every);
        let after = scrape()?;
        let mut stages = stages::between(&before, &after);
        stages.retain(|s| args.api.as_ref().is_none_or(|api| s.api.eq_ignore_ascii_case(api)));
        let text = match args.json {
            true => format!("{}\n", json!(stages)),
            false => table(&stages, args.every),
        };
        let clear = if live { "\x1b[H\x1b[2J" } else { "" };
        let text = if args.json { output::quiet_json(&text) } else { output::lines(&text) };
        output::print_raw(format!("{clear}{text}").as_bytes()).map_err(Failure::stdout)?;
        (before, shown) = (after, shown + 1);
    }
    Ok(())
}

fn table(stages: &[Stage], seconds: f64) -> String {
    if stages.is_empty() {
        return "no requests\n".to_owned();
    }
    let mut table = Table::new(&["API", "STAGE", "A SECOND", "MEAN", "P50", "P99", "P99.9", "SHARE"]);
    for stage in stages {
        let total: f64 =
            stages.iter().filter(|s| s.api == stage.api).map(|s| s.mean_us * s.count as f64).sum();
        let share = stage.mean_us * stage.count as f64 / total.max(f64::MIN_POSITIVE);
        let bound = |us: f64| if us.is_finite() { format!("≤ {}", time(us)) } else { "> 10 s".to_owned() };
        table.row([
            stage.api.clone(),
            stage.stage.clone(),
            format!("{:.0}", stage.count as f64 / seconds),
            time(stage.mean_us),
            bound(stage.p50_us),
            bound(stage.p99_us),
            bound(stage.p99_9_us),
            format!("{:<20} {:.0} %", "#".repeat((share * 20.0).round() as usize), share * 100.0),
        ]);
    }
    table.render()
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.1} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_api_and_unknown_bounds_say_so() {
        let stage = |api: &str, stage: &str, mean_us, p99_us| Stage {
            api: api.to_owned(),
            stage: stage.to_owned(),
            count: 10,
            mean_us,
            p50_us: 20.0,
            p99_us,
            p99_9_us: f64::INFINITY,
        };
        let stages = [stage("Produce", "read", 25.0, 50.0), stage("Produce", "commit", 75.0, 2000.0)];
        let text = table(&stages, 2.0);
        assert!(text.contains("25 %") && text.contains("75 %") && text.contains("≤ 2.00 ms"), "{text}");
        assert!(text.contains("> 10 s") && text.lines().count() == 3, "{text}");
        assert_eq!(table(&[], 1.0), "no requests\n");
    }
}
