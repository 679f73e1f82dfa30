//! `weir-perf`: a load generator for Kafka-compatible brokers that measures honestly and gets out of the way.
//!
//! Open-loop by default: every record has an intended send time on a fixed or Poisson schedule, and latency
//! counts from it, so a broker that stalls is charged for what waited (no coordinated omission). When the
//! generator itself was late, the run is marked invalid. What is read is checked: offsets, checksums, every
//! producer's order; a gap or a repetition fails the run.
//!
//! ```text
//! weir-perf produce | consume | e2e    one run of a workload
//! weir-perf sweep                      rates up to the knee: latency against throughput
//! weir-perf compare                    two brokers, the same workloads, in turns
//! weir-perf soak                       hours of e2e, checked, watched for drift
//! weir-perf probe                      what this machine's loopback and disk can do by themselves
//! weir-perf sink                       a broker that forgets everything: how fast is the generator?
//! weir-perf workloads                  the workloads that are built in
//! ```
//!
//! `workload` is what to send, `load` makes it, `net` moves it, `engine` drives it in threads, `run` watches
//! one run, `report` says what was found; the commands are on top.

/// Tells the user something beside the answer. Where it cannot be told, it is not.
macro_rules! note_part {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($part)*);
    }};
}

/// The same, as a line.
macro_rules! note {
    ($($part:tt)*) => { note_part!("{}\n", format_args!($($part)*)) };
}

mod compare;
mod engine;
mod fill;
mod load;
mod net;
mod options;
mod probe;
mod process;
mod report;
mod run;
mod sink;
mod soak;
mod statistics;
mod sweep;
mod topics;
mod units;
mod workload;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use options::{OutputArgs, TargetArgs, WorkloadArgs};
use report::record::{deliver, print};
use run::{Place, Progress};
use workload::Workload;

#[derive(Parser)]
#[command(name = "weir-perf", version, about = "Load generator for Kafka-compatible brokers")]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produce at a rate (or --saturate) and measure from intended time to acknowledgement
    Produce(RunArgs),
    /// Read a topic from its beginning, again and again, or the workload's consumers
    Consume(RunArgs),
    /// Produce and consume: latency from intended time to arrival, everything checked
    E2e(RunArgs),
    /// Raise the rate to the knee and draw latency against throughput
    Sweep(sweep::SweepArgs),
    /// Run the same workloads on two brokers in turns and compare
    Compare(compare::CompareArgs),
    /// Run for hours, checked, and watch for drift
    Soak(soak::SoakArgs),
    /// Measure this machine's loopback and disk
    Probe(probe::ProbeArgs),
    /// Be a broker that acknowledges and forgets
    Sink(sink::SinkArgs),
    /// List the workloads that are built in
    Workloads,
}

#[derive(Args, Debug)]
struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    workload: WorkloadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What went wrong, in words for the person running it.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Produce(args) => one(&args, |w| Ok(options::produce_only(w))),
        Command::Consume(args) => one(&args, |w| Ok(options::consume_only(w))),
        Command::E2e(args) => one(&args, options::end_to_end),
        Command::Sweep(args) => sweep::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Sink(args) => sink::run(&args),
        Command::Workloads => list(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            note!("weir-perf: {message}");
            ExitCode::from(1)
        }
    }
}

fn one(args: &RunArgs, shape: impl Fn(Workload) -> Outcome<Workload>) -> Outcome<()> {
    let workload = shape(args.workload.load()?)?;
    let progress = if args.output.quiet { Progress::None } else { Progress::Live };
    let run = run::run(&place(&args.target, progress), &workload)?;
    deliver(&run, &args.output)
}

fn place(target: &TargetArgs, progress: Progress) -> Place {
    let TargetArgs { broker, topic, pid, admin } = target.clone();
    Place { broker, topic, pid, admin, progress }
}

fn list() -> Outcome<()> {
    let mut text = String::new();
    for name in Workload::built_in() {
        let workload = Workload::load(name, &[])?;
        text += &format!("{name:<32} {}\n", workload.about);
    }
    print(&text)
}
