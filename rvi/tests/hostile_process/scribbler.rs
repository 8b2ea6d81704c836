//! The hostile peer's memory: what it writes there.

use super::*;

/// Numbers that look random and follow from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Writes to the hostile peer's own memory, knowing the layout well.
pub struct Scribbler<'w> {
    pub random: Random,
    pub layout: Layout,
    /// Where the next slot of the data and of the control ring goes, and its number.
    pub next: [(u32, u32); 2],
    pub write: &'w mut dyn FnMut(usize, &[u8]),
    /// Reads a word of the honest end's region.
    pub read: &'w dyn Fn(usize) -> u32,
    /// How often it still waits for the honest end.
    pub patience: usize,
    /// Of 64 mutations, how many may touch fields whose change is noticed at once.
    pub boldness: usize,
}

impl Scribbler<'_> {
    /// One mutation: half of them start from a valid slot.
    pub fn mutate(&mut self) {
        let publish = self.random.one_in(2);
        let control = self.random.one_in(8);
        if publish && self.has_room(control) { self.publish_flipped(control) } else { self.overwrite() }
    }

    /// Waits a little for room in a ring: what is overwritten before it was read has no effect. The honest end
    /// does not go on when it has given up the leg, so patience is limited.
    pub fn has_room(&mut self, control: bool) -> bool {
        let ring = if control { self.layout.control } else { self.layout.data };
        let next = self.next[usize::from(control)].0;
        while next.wrapping_sub((self.read)(ring.head)) > ring.slot_count() - 4 {
            if self.patience == 0 {
                return false;
            }
            self.patience -= 1;
            thread::yield_now();
        }
        true
    }

    /// Publishes a valid message with something of it flipped, before or after.
    pub fn publish_flipped(&mut self, control: bool) {
        let ring = if control { self.layout.control } else { self.layout.data };
        let (position, number) = self.next[usize::from(control)];
        let (mut slot, slots) = self.valid_slot(&ring, control, number);
        let place = ring.slot(position);
        let flips_before = self.random.one_in(2);
        if flips_before {
            self.flip(&mut slot);
        }
        (self.write)(place + 4, &slot[4..]);
        for more in 1..slots {
            let octets = [self.random.next() as u8; SLOT_LEN - 4];
            (self.write)(ring.slot(position.wrapping_add(more)) + 4, &octets);
        }
        (self.write)(place, &position.wrapping_add(1).to_le_bytes());
        (self.write)(ring.tail, &position.wrapping_add(slots).to_le_bytes());
        if !flips_before {
            self.flip(&mut slot);
            (self.write)(place + 4, &slot[4..]);
        }
        self.next[usize::from(control)] = (position.wrapping_add(slots), number.wrapping_add(1));
    }

    pub fn valid_slot(&mut self, ring: &RingLayout, control: bool, number: u32) -> ([u8; SLOT_LEN], u32) {
        let longest = if control { 16 * 1024 } else { MESSAGE_LEN_MAX };
        let len = match self.random.below(4) {
            0 => self.random.below(41),
            1 => self.random.below(221),
            2 => self.random.below(2048),
            _ => self.random.below(longest + 1),
        };
        let granules = granules_for(len);
        let arena = self.random.below((ring.arena_granules - granules + 1) as usize) as u32;
        let channel = if control { Channel::CONTROL } else { DATA };
        let lane = self.random.below(1024) as u16;
        let meta = SlotMeta { mseq: number, lane, channel, session: SESSION, resent: false };
        let slots = slots_for(len);
        let fields = SlotFields { len: len as u32, slots, in_arena: granules > 0, arena, meta };
        let mut slot = [self.random.next() as u8; SLOT_LEN];
        slot[4..24].copy_from_slice(&fields.emit());
        (slot, slots)
    }

    pub fn flip(&mut self, slot: &mut [u8; SLOT_LEN]) {
        let bold = self.random.below(64) < self.boldness;
        let at = match self.random.below(3) {
            0 if bold => 4 + self.random.below(20),
            1 if bold => 12 + self.random.below(4), // the number
            2 if bold => 20 + self.random.below(4), // channel, kind, session
            _ => 24 + self.random.below(40),        // the message itself
        };
        slot[at] ^= 1 << self.random.below(8);
    }

    /// Overwrites something: a control word, a slot, the header, any octets.
    pub fn overwrite(&mut self) {
        let word = self.random.next() as u32;
        let small = self.random.below(300) as u32;
        let value = if self.random.one_in(2) { word } else { small };
        let slots_end = self.layout.control.slots + SLOT_LEN * self.layout.control.slot_count() as usize;
        match self.random.below(8) {
            0 if self.random.below(64) < self.boldness => {
                // Heads and settled of both rings, state and final heads; or any of that page's words.
                let words = [0x1100, 0x1104, 0x1180, 0x1184, 0x1280, 0x1284, 0x1288];
                let any = 0x1000 + self.random.below(0x300 / 4) * 4;
                let place = if self.random.one_in(4) { any } else { words[self.random.below(words.len())] };
                (self.write)(place, &value.to_le_bytes());
            }
            1 => (self.write)(0x1200, &[self.random.next() as u8 & 1, 0, 0, 0]),
            2 => (self.write)(self.random.below(64) * 4, &word.to_le_bytes()),
            3 if self.random.below(64) < self.boldness => {
                let place = 0x2000 + self.random.below((slots_end - 0x2000) / 4) * 4;
                (self.write)(place, &value.to_le_bytes());
            }
            _ => {
                let octets = [word as u8; 96];
                let len = 1 + self.random.below(96);
                let room = self.layout.region_len - self.layout.control.arena - len;
                let place = self.layout.control.arena + self.random.below(room);
                (self.write)(place, &octets[..len]);
            }
        }
    }
}

/// One life of a leg, for the hostile thread.
pub struct Job {
    pub region: Region,
    pub honest: Region,
    pub seed: u64,
    pub boldness: usize,
}

/// Scribbles, job by job, until there are no more.
pub fn scribble_jobs(jobs: &Receiver<Job>, done: &Sender<()>) {
    for job in jobs {
        let layout = Layout::read_header(&job.region, job.region.len()).expect("formatted");
        let mut write = |place: usize, octets: &[u8]| job.region.write(place, octets);
        let read = |place: usize| {
            let mut word = [0; 4];
            job.honest.read(place, &mut word);
            u32::from_le_bytes(word)
        };
        let mut scribbler = Scribbler {
            random: Random(job.seed),
            layout,
            next: [(0, 0); 2],
            patience: PATIENCE,
            write: &mut write,
            read: &read,
            boldness: job.boldness,
        };
        for _ in 0..MUTATIONS_PER_LEG {
            scribbler.mutate();
        }
        drop(job);
        if done.send(()).is_err() {
            return;
        }
    }
}
