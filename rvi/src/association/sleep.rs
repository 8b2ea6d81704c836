//! Going to sleep without missing anything (`spec/ring.md`, Wake-up).

use super::{Association, LEGS};

impl Association {
    /// Tells the peers that this end sleeps, then looks once more. True: sleep now, a doorbell will wake you.
    /// False: there is something to receive, or room for what waits; this end counts as awake.
    ///
    /// Publish and ring doorbells first: what is not published wakes nobody.
    pub fn prepare_sleep(&mut self) -> bool {
        let wants_room = self.refused || !self.direct && self.route.has_leg();
        for leg in self.legs.iter_mut().flatten() {
            leg.shm.bell.fall_asleep(wants_room);
        }
        let (mut ready, takes_data) = (false, self.takes_data());
        for index in 0..LEGS {
            let Some(leg) = &self.legs[index] else { continue };
            ready |= leg.is_ready(takes_data);
            if wants_room && leg.has_moved() {
                self.refresh(index);
                ready = true;
            }
        }
        if ready {
            self.refused = false;
            self.wake();
        }
        !ready
    }

    /// Tells the peers that this end is awake.
    pub fn wake(&mut self) {
        self.refused = false;
        for leg in self.legs.iter_mut().flatten() {
            leg.shm.bell.wake();
        }
    }
}
