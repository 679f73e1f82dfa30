//! Starting and stopping the broker process: everything between a validated `Config` and a shard that
//! serves, in the order in which it can fail.
//!
//! `preflight` checks what the machine must grant (io_uring, the data directory, the ports) and says what to do where
//! it does not; `needs` holds the figures, and the words for what the kernel refuses; `rehearsal` makes each system call
//! once; `disk` checks the file system and has the words for its errors; `directory` looks at what the data directory
//! holds, `membership` as which broker of which cluster it comes, `layout` puts in order what it holds; `broker` starts the shards and joins them; `serving` is what the control
//! thread does besides metadata, and `signals` what it heeds;
//! `logger` writes the log to stderr; `alloc` is the allocator, and `trim` gives memory back when work has stopped.

mod alloc;
mod broker;
mod directory;
pub mod disk;
pub mod errors;
mod ground;
mod layout;
pub mod logger;
mod membership;
pub mod needs;
pub mod preflight;
mod rehearsal;
mod serving;
mod signals;
mod trim;

pub use signals::{Reload, Reloaded};

use std::process::ExitCode;

use crate::config::Config;

/// Runs a broker until a signal stops it. 0 after a graceful stop, 1 when it cannot start or go on. `reload` gathers
/// the settings again when a SIGHUP asks for it.
pub fn serve(config: Config, reload: Reload) -> ExitCode {
    logger::init(config.log_level);
    signals::survive();
    let prepared = preflight::run(&config).map_err(errors::Failure::from);
    let outcome = prepared.and_then(|prepared| {
        trim::start(config.memory);
        broker::run(&config, prepared, reload)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logger::complain(&format!("weir: {error}\n"));
            ExitCode::from(1)
        }
    }
}
