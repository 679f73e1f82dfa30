//! `weir-perf`: a load generator that gets out of the way.
//!
//! Requests are built once, checksums included; sending one patches its correlation id into a copy of the
//! first twelve bytes. One thread drives all connections through epoll, so that the broker under test
//! gets as much of the machine as possible. Every answer's error code is checked. The loop is closed:
//! a connection keeps a fixed number of requests in flight, so a slow broker is asked less.
//!
//! ```text
//! weir-perf produce   throughput and latency of producing
//! weir-perf consume   throughput of fetching, optionally verifying every batch
//! weir-perf probe     what this machine's loopback and disk cost by themselves
//! weir-perf compare   two brokers, the same work, in turns
//! ```

mod compare;
mod consume;
mod driver;
mod frames;
mod probe;
mod process;
mod produce;
mod report;
mod rows;
mod topics;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weir-perf", version, about = "Load generator for Kafka-compatible brokers")]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produce as fast as the broker answers
    Produce(produce::ProduceArgs),
    /// Fetch as fast as the broker answers
    Consume(consume::ConsumeArgs),
    /// Measure this machine's loopback round trip and disk commit
    Probe(probe::ProbeArgs),
    /// Run the same work on two brokers in turns and compare
    Compare(compare::CompareArgs),
}

/// What went wrong, in words for the person running it.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("weir-perf: {message}");
            ExitCode::from(1)
        }
    }
}
