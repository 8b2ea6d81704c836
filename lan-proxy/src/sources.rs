//! From which MACs an uplink has sent just now: what comes back from one of them is in a loop.

use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::mac_table::MacTable;
use vlan_core::{Instant, MacAddress};

/// How long a frame may take to come back: four bridges that hold it as long as they may (IEEE 802.1D-2004, table 7-3).
pub(crate) const LOOP_TIME_MAX: Duration = Duration::from_secs(4);
/// Sources at once.
pub(crate) const SOURCES_MAX: usize = 1024;
/// Between two looks for what may be forgotten, when there is no room.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// The sources of frames that went outside, each with the last time.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    sent: MacTable<Instant>,
    sweep_at: Instant,
}

impl Sources {
    pub fn new(seed: u64) -> Self {
        Self { sent: MacTable::new(SOURCES_MAX, seed), sweep_at: Instant::ZERO }
    }

    /// A frame goes outside from `mac`; false when there is no room to remember it.
    //= spec/uplink.md#unknown-sources
    //# In unfiltered mode a frame from inside whose source is none of the platform's MUST be dropped when the proxy has no
    //# room to remember that source.
    pub fn remember(&mut self, now: Instant, mac: MacAddress) -> bool {
        if self.sent.insert(mac, now).is_ok() {
            return true;
        }
        if now < self.sweep_at {
            return false;
        }
        self.sweep_at = now + SWEEP_PAUSE;
        let old: Vec<_> = self.sent.iter().filter(|(_, sent)| now.since(*sent) > LOOP_TIME_MAX).collect();
        for (mac, _) in old {
            self.sent.remove(mac);
        }
        self.sent.insert(mac, now).is_ok()
    }

    /// One of its frames went outside within [`LOOP_TIME_MAX`].
    pub fn has_sent(&self, now: Instant, mac: MacAddress) -> bool {
        self.sent.lookup(mac).is_some_and(|sent| now.since(sent) <= LOOP_TIME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> MacAddress {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddress([2, 9, a, b, c, d])
    }

    #[test]
    fn what_cannot_be_remembered_is_refused_until_others_are_old() {
        //= spec/uplink.md#unknown-sources
        //= type=test
        //# In unfiltered mode a frame from inside whose source is none of the platform's MUST be dropped when the proxy has no
        //# room to remember that source.
        let mut sources = Sources::new(1);
        let start = Instant::ZERO + Duration::from_secs(9);
        let all = (0..100_000).take_while(|n| sources.remember(start, mac(*n))).count();
        assert!((SOURCES_MAX..=2 * SOURCES_MAX).contains(&all), "{all}");
        assert!(sources.remember(start, mac(0)), "one that is there");
        let late = start + LOOP_TIME_MAX;
        assert!(!sources.remember(late, mac(1_000_000)) && sources.has_sent(late, mac(7)));
        let later = late + SWEEP_PAUSE;
        assert!(!sources.has_sent(later, mac(7)));
        assert!(sources.remember(later, mac(1_000_000)) && sources.has_sent(later, mac(1_000_000)));
    }
}
