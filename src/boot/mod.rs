//! Starting and stopping the broker process: everything between a validated `Config` and a shard that
//! serves, in the order in which it can fail.
//!
//! `preflight` checks what the machine must grant (io_uring, locked memory, the data directory, the
//! ports) and says what to do where it does not; `broker` starts the shards and joins them; `directory`
//! looks at what the data directory holds; `control` is the control thread; `logger` writes the log to stderr; `alloc` is the allocator, and `trim` gives memory back when work has
//! stopped.

mod alloc;
mod broker;
mod control;
mod directory;
pub mod logger;
pub mod preflight;
mod trim;

use std::process::ExitCode;

use crate::config::Config;

/// Runs a broker until a signal stops it. 0 after a graceful stop, 1 when it cannot start or go on.
pub fn serve(config: Config) -> ExitCode {
    logger::init(config.log_level);
    trim::start();
    let prepared = preflight::run(&config).map_err(broker::Failure::from);
    match prepared.and_then(|prepared| broker::run(&config, prepared)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error}");
            ExitCode::from(1)
        }
    }
}
