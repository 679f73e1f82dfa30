//! What signals ask of a broker: an end (SIGTERM, SIGINT), or to read its settings again (SIGHUP).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, ConfigError};

/// Gathers the settings again from where they came.
pub type Reload = Box<dyn Fn() -> Result<Reloaded, ConfigError>>;

pub struct Reloaded {
    pub config: Config,
    /// Settings whose text is another than at the start.
    pub changed: Vec<&'static str>,
}

/// Until somebody listens for them: a terminal that closes is no reason to end, and a file that may not grow is an
/// error of who writes it.
pub fn survive() {
    for number in [libc::SIGHUP, libc::SIGXFSZ, libc::SIGPIPE] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    End(&'static str),
    Reload,
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Heeds them from now on. Within a tokio runtime.
    pub fn heed() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("SIGTERM"),
            _ = self.interrupt.recv() => Asked::End("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Takes over what can change in a running broker, and says what that was and what waits for the next start.
pub fn reload(again: &Reload) {
    let Reloaded { config, changed } = match again() {
        Ok(reloaded) => reloaded,
        Err(error) => return log::error!("SIGHUP: nothing was changed, the settings make no sense: {error}"),
    };
    let before = log::max_level();
    let waiting: Vec<&str> = changed.into_iter().filter(|name| *name != "log_level").collect();
    let level = match config.log_level == before {
        true => format!("log_level stays {before}"),
        false => format!("log_level is {} now, and was {before}", config.log_level),
    }
    .to_lowercase();
    let rest = match waiting.as_slice() {
        [] => "no other setting has changed".to_owned(),
        names => format!("for the next start wait {}", names.join(", ")),
    };
    // This line is shown at any level: somebody has just asked.
    log::set_max_level(log::LevelFilter::Info);
    log::info!("SIGHUP: {level}; {rest}");
    log::set_max_level(config.log_level);
}
