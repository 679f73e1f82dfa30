//! The `weir` command: `serve`, and a client for people and scripts.
//!
//! Answers go to stdout, everything else to stderr. Human tables by default; `--json` prints what
//! programs read. Exit codes: 0 done, 1 failed, 2 the command line or a setting is wrong. A failure says
//! what to do about it where that can be known.

mod clock;
mod cluster;
mod consume;
mod consume_group;
mod consumer;
mod doctor;
mod dump;
mod failure;
mod format;
mod group;
mod interrupt;
mod latency;
mod log;
mod offline;
mod output;
mod partitioner;
mod produce;
mod recover;
mod serve;
mod topic;
mod txn;
mod when;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, Options};
use failure::Failure;

#[derive(Parser)]
#[command(name = "weir", version, about = "A Kafka-compatible log broker", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker
    Serve(serve::ServeArgs),
    /// Show and watch a cluster, and take brokers out of it
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List, describe and abort transactions
    #[command(subcommand)]
    Txn(txn::TxnCommand),
    /// Look at and mend a data directory that no broker uses
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Produce each line of standard input as a record
    Produce(produce::ProduceArgs),
    /// Print a topic's records
    Consume(consume::ConsumeArgs),
    /// Show where the time of requests goes, live
    Latency(latency::LatencyArgs),
    /// Check whether this machine is fit for a broker, and say how to fix what is not
    Doctor(doctor::DoctorArgs),
    /// Print what this machine needs, or set it with --apply
    Tune(doctor::TuneArgs),
}

/// What every client command takes.
#[derive(Args, Clone, Debug)]
struct Remote {
    /// Broker to talk to, host:port
    #[arg(short, long, env = "WEIR_BROKER", default_value = "127.0.0.1:9092")]
    broker: String,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Remote {
    fn connect(&self) -> Result<Client, Failure> {
        let address = match self.broker.contains(':') {
            true => self.broker.clone(),
            false => format!("{}:9092", self.broker),
        };
        Ok(Client::connect(&address, Options::default())?)
    }
}

/// The whole program: arguments in, exit code out.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to stdout with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => return serve::run(args),
        Command::Cluster(command) => cluster::run(command),
        Command::Topic(command) => topic::run(command),
        Command::Group(command) => group::run(command),
        Command::Txn(command) => txn::run(command),
        Command::Log(command) => log::run(command),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Doctor(args) => return doctor::doctor(&args),
        Command::Tune(args) => return doctor::tune(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests;
