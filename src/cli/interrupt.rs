//! Ctrl-C and SIGTERM as a request to come to an end, for commands that have something to put in order first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Whether the user has asked for an end. A second signal ends the process at once.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Heeds the signals from now on.
    pub fn watch() -> Result<Self, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let failed = |error| Failure::Io { what: "signals cannot be handled", error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            let both =
                signal(SignalKind::interrupt()).and_then(|i| Ok((i, signal(SignalKind::terminate())?)));
            both.map_err(failed)?
        };
        let seen = asked.clone();
        let watch = move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if seen.swap(true, Ordering::Relaxed) {
                        end_now();
                    }
                }
            });
        };
        std::thread::Builder::new().spawn(watch).map_err(failed)?;
        Ok(Self(asked))
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[expect(clippy::disallowed_methods, reason = "the user's second signal")]
fn end_now() -> ! {
    std::process::exit(130)
}
