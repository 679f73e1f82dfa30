//! What the machine grants a broker, and the words for what it refuses.

use super::errors::StartError;
use super::needs::{Limits, Needs, Share};
use crate::config::Config;
use crate::log::journal::sizing::Sizing;
use crate::rt::Refused;

/// What the machine has granted, and is asked to make good on.
pub(super) struct Ground<'a> {
    pub config: &'a Config,
    pub needs: Needs,
    pub limits: Limits,
    pub share: Share,
    pub journals: Sizing,
}

impl Ground<'_> {
    pub fn refused(&self, refused: Refused) -> StartError {
        self.needs.explain(&refused, &self.limits)
    }

    pub fn named<T>(&self, what: &'static str, result: std::io::Result<T>) -> Result<T, StartError> {
        result.map_err(Refused::named(what)).map_err(|refused| self.refused(refused))
    }
}
