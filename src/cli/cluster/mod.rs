//! `weir cluster status|watch|voters|drain|remove|recover`: who is there, who leads, who agrees on the metadata, and what becomes of it.

mod away;
mod recover;
mod status;
mod voters;
mod watch;

use clap::Subcommand;

use super::failure::Failure;

#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Show brokers, who agrees on the metadata, and how partitions are
    Status(status::StatusArgs),
    /// Show registration, leadership and membership change by change, until it is stopped
    Watch(watch::WatchArgs),
    /// Show who votes on the metadata, and choose who does
    Voters(voters::VotersArgs),
    /// Take what a broker holds elsewhere, so that it can be taken out
    Drain(away::DrainArgs),
    /// Take a broker that is stopped out of the cluster for good
    Remove(away::RemoveArgs),
    /// Go on with one broker, stopped, where the majority of voters is lost for good; or follow it
    Recover(recover::RecoverArgs),
}

pub fn run(command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status(args) => status::run(&args),
        ClusterCommand::Watch(args) => watch::run(&args),
        ClusterCommand::Voters(args) => voters::run(&args),
        ClusterCommand::Drain(args) => away::drain(&args),
        ClusterCommand::Remove(args) => away::remove(&args),
        ClusterCommand::Recover(args) => recover::run(&args),
    }
}
