//! What a pump that never sleeps does with its core while it finds nothing: on a machine with fewer cores than pumps, whoever could
//! go on waits for it.

/// Rounds without anything after which the core is given up, and then after each one more.
const IDLE_ROUNDS: u32 = 4;

/// Counts the rounds in which a pump has found nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Polling {
    idle_rounds: u32,
}

impl Polling {
    /// There was work.
    pub const fn handle_work(&mut self) {
        self.idle_rounds = 0;
    }

    /// There was none: true when the core is to be given up now, by `sched_yield`, and looked again after that.
    //= spec/waiting.md#polling-on-shared-cores
    //# A process that polls MUST give its core up when it has found nothing in four rounds in a row, and after each further round
    //# until it finds something.
    #[must_use]
    pub const fn handle_idle(&mut self) -> bool {
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        self.idle_rounds >= IDLE_ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_given_up_when_some_rounds_found_nothing_until_one_does() {
        //= spec/waiting.md#polling-on-shared-cores
        //= type=test
        //# A process that polls MUST give its core up when it has found nothing in four rounds in a row, and after each further round
        //# until it finds something.
        let mut polling = Polling::default();
        let mut idle = |rounds: usize| (0..rounds).filter(|_| polling.handle_idle()).count();
        assert_eq!(idle(3), 0);
        assert_eq!(idle(5), 5);
        polling.handle_work();
        let mut idle = |rounds: usize| (0..rounds).filter(|_| polling.handle_idle()).count();
        assert_eq!((idle(3), idle(2)), (0, 2));
    }
}
