//! Refused connections in the log: clear the first time, and not again at each attempt of somebody who keeps trying.

use std::collections::BTreeMap;
use std::time::Duration;

use rvi::host::SetupError;
use tracing::{debug, warn};
use vlan_core::{Instant, LegNumber};

/// How often the same refusal is told. A node that is refused tries each leg again twice a second.
const REPEAT: Duration = Duration::from_secs(60);
/// Different refusals that are remembered; when there are more, the log repeats itself sooner.
const REMEMBERED_MAX: usize = 64;

/// What has been told, and when.
#[derive(Debug, Default)]
pub struct Refusals {
    told: BTreeMap<String, Instant>,
}

impl Refusals {
    /// Logs that a connection on `leg` came to nothing.
    pub fn log(&mut self, now: Instant, error: &SetupError, leg: LegNumber) {
        if *error == SetupError::Closed {
            debug!(%leg, "a connection ended before it proved who it is");
            return;
        }
        let text = error.to_string();
        if self.is_news(now, &text) {
            warn!(%leg, "refused: {text}");
        } else {
            debug!(%leg, "refused again: {text}");
        }
    }

    /// Logs that somebody was refused.
    pub fn log_text(&mut self, now: Instant, text: &str) {
        if self.is_news(now, text) {
            warn!("refused: {text}");
        } else {
            debug!("refused again: {text}");
        }
    }

    fn is_news(&mut self, now: Instant, text: &str) -> bool {
        self.told.retain(|_, told| now.since(*told) < REPEAT);
        if self.told.contains_key(text) {
            return false;
        }
        if self.told.len() >= REMEMBERED_MAX {
            self.told.clear();
        }
        self.told.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_told_once_a_minute() {
        let mut refusals = Refusals::default();
        let start = Instant::ZERO;
        assert!(refusals.is_news(start, "no node has this key"));
        assert!(!refusals.is_news(start + Duration::from_secs(59), "no node has this key"));
        assert!(refusals.is_news(start, "another"));
        assert!(refusals.is_news(start + REPEAT, "no node has this key"));
    }

    #[test]
    fn strangers_cannot_make_it_remember_more_than_its_bound() {
        let mut refusals = Refusals::default();
        for stranger in 0..1000 {
            assert!(refusals.is_news(Instant::ZERO, &stranger.to_string()));
            assert!(refusals.told.len() <= REMEMBERED_MAX);
        }
    }
}
