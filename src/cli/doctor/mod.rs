//! `weir doctor`: whether this machine is fit for a broker, and how to fix what is not. `weir tune`: the fixes that
//! are a matter of writing a setting, printed as commands or, with `--apply`, made.
//!
//! A check reads and decides; it changes nothing. It sees the machine through [`Host`], so that tests can show it
//! another one.

mod disk;
mod host;
mod kernel;
mod limits;
mod tune;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output::{self, Table};
use crate::boot::needs::Needs;
use crate::config::Config;
use host::Host;

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Where the broker keeps, or will keep, its data
    #[arg(long, env = "WEIR_DATA_DIR", default_value = "./weir-data")]
    data_dir: PathBuf,
    /// Shards that the broker will run; one for each core it may use if not given
    #[arg(long)]
    shards: Option<usize>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct TuneArgs {
    #[command(flatten)]
    doctor: DoctorArgs,
    /// Set what can be set, as root; without it, only print the commands
    #[arg(long)]
    apply: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Good,
    /// The broker runs, but slower or with less room than it could.
    Poor,
    /// The broker does not start, or does not keep its promises.
    Bad,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Poor => "could be better",
            State::Bad => "PROBLEM",
        }
    }
}

/// How to mend what a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fix {
    /// Write this value to these files below `/proc/sys` or `/sys`.
    Write { files: Vec<String>, value: String },
    /// Something for a person to do.
    Manual(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    fix: Option<Fix>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, state: State::Good, found: found.into(), fix: None }
    }

    fn poor(name: &'static str, found: impl Into<String>, fix: Fix) -> Check {
        Check { name, state: State::Poor, found: found.into(), fix: Some(fix) }
    }

    fn bad(name: &'static str, found: impl Into<String>, fix: Fix) -> Check {
        Check { name, state: State::Bad, found: found.into(), fix: Some(fix) }
    }
}

fn manual(text: impl Into<String>) -> Fix {
    Fix::Manual(text.into())
}

impl Fix {
    /// What to type, or to do.
    fn words(&self) -> String {
        match self {
            Fix::Manual(text) => text.clone(),
            Fix::Write { files, value } => match files.as_slice() {
                [file] if file.starts_with("/proc/sys/") => {
                    let key = file.trim_start_matches("/proc/sys/").replace('/', ".");
                    format!("sysctl -w {key}='{value}'")
                }
                [file] => format!("echo '{value}' > {file}"),
                files => format!("echo '{value}' | tee {} > /dev/null", files.join(" ")),
            },
        }
    }
}

fn examine(args: &DoctorArgs) -> Vec<Check> {
    let host = Host::here();
    let shards = args.shards.unwrap_or_else(host::shards).max(1);
    let needs = needs(args, shards);
    let mut checks = kernel::checks(&host, &needs);
    checks.extend(limits::checks(&host, &needs));
    checks.extend(disk::checks(&host, &args.data_dir, shards));
    checks
}

/// What a broker with the default settings asks for.
fn needs(args: &DoctorArgs, shards: usize) -> Needs {
    let config = Config::for_directory(&args.data_dir).expect("the defaults make sense on any machine");
    Needs { shards, ..Needs::of(&config) }
}

pub fn doctor(args: &DoctorArgs) -> ExitCode {
    let checks = examine(args);
    let printed = if args.json { print_json(&checks) } else { print_table(&checks) };
    if let Err(error) = printed {
        return Failure::stdout(error).report();
    }
    match checks.iter().any(|c| c.state == State::Bad) {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    }
}

fn print_json(checks: &[Check]) -> std::io::Result<()> {
    let one = |c: &Check| {
        let state = match c.state {
            State::Good => "good",
            State::Poor => "poor",
            State::Bad => "bad",
        };
        json!({"check": c.name, "state": state, "found": c.found, "fix": c.fix.as_ref().map(Fix::words)})
    };
    output::print_json(&checks.iter().map(one).collect())
}

fn print_table(checks: &[Check]) -> std::io::Result<()> {
    let mut table = Table::new(&["CHECK", "", "FOUND"]);
    for check in checks {
        table.row([check.name.to_owned(), check.state.word().to_owned(), check.found.clone()]);
    }
    let mut text = table.render();
    let mut wanting: Vec<&Check> = checks.iter().filter(|c| c.state != State::Good).collect();
    wanting.sort_by_key(|c| std::cmp::Reverse(c.state));
    for check in &wanting {
        if let Some(fix) = &check.fix {
            text += &format!("\n{}: {}\n  {}\n", check.name, check.found, fix.words());
        }
    }
    let writable = wanting.iter().any(|c| matches!(c.fix, Some(Fix::Write { .. })));
    if writable {
        text += "\n`weir tune` prints what can be set from here; `weir tune --apply`, as root, sets it.\n";
    }
    output::print(&text)
}

pub fn tune(args: &TuneArgs) -> ExitCode {
    tune::run(&examine(&args.doctor), args.apply)
}
