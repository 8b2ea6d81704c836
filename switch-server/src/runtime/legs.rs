//! The control node's legs: sockets on which somebody is still proving who he is, and those that are up.
//!
//! What strangers can make this process hold is bounded: so many unproven sockets, each for two seconds, and so
//! many legs for each node.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::net::Shutdown;
use rvi::host::{ControlNodeLeg, EstablishedLeg, SETUP_TIME_MAX};
use vlan_core::{Instant, LegNumber, NodeNumber, ProcessId};

/// Sockets that may be in set-up at once; the oldest gives way to a new one.
pub const PENDING_MAX: usize = 64;
/// Legs that one node may hold, those it was told to leave included: two lives with four fabrics each, twice.
const LEGS_PER_NODE_MAX: usize = 16;
/// How long an end that has left a leg waits for the other's hang-up (amendment 10).
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// What an event of the poll is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The eventfd: orders have come.
    Wake,
    /// A listener, by its place.
    Listener(usize),
    /// A leg, by its place in the table.
    Leg(usize),
    /// The socket of a fabric's packet legs.
    Packets(LegNumber),
    /// The device of an uplink, by its place.
    Device(usize),
}

impl Source {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Wake => 0,
            Self::Listener(place) => 1 << 32 | place as u64,
            Self::Leg(place) => 2 << 32 | place as u64,
            Self::Packets(leg) => 3 << 32 | u64::from(leg.0),
            Self::Device(place) => 4 << 32 | place as u64,
        })
    }

    /// What [`Self::data`] made of it.
    #[must_use]
    pub fn from_data(data: u64) -> Self {
        let place = (data & 0xffff_ffff) as usize;
        match data >> 32 {
            0 => Self::Wake,
            1 => Self::Listener(place),
            2 => Self::Leg(place),
            4 => Self::Device(place),
            _ => Self::Packets(LegNumber(place as u8)),
        }
    }
}

/// Who is at the other end of a leg, and which leg it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LegId {
    /// The node.
    pub node: NodeNumber,
    /// Its process.
    pub process: ProcessId,
    /// The leg.
    pub leg: LegNumber,
}

/// A socket in set-up.
#[derive(Debug)]
pub struct Pending {
    /// How far it has come.
    pub setup: ControlNodeLeg,
    /// The leg that belongs to the socket it came by.
    pub fabric_leg: LegNumber,
    deadline: Instant,
}

/// A leg that is up.
#[derive(Debug)]
pub struct Up {
    /// The socket.
    pub socket: EstablishedLeg,
    /// Who and which.
    pub id: LegId,
    /// Counts up with every leg that comes up.
    age: u64,
    /// When it is given up, once one end has left it.
    leave_deadline: Option<Instant>,
    /// This end has left it.
    is_left: bool,
    /// The other end has hung up.
    is_hung_up: bool,
}

#[derive(Debug)]
enum Slot {
    Free,
    Pending(Pending),
    Up(Up),
}

/// All legs, and the poll that watches them.
#[derive(Debug)]
pub struct Legs {
    epoll: OwnedFd,
    slots: Vec<Slot>,
    places: BTreeMap<LegId, usize>,
    last_age: u64,
}

impl Legs {
    /// None yet.
    ///
    /// # Errors
    ///
    /// When the system has no epoll to give.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, slots: Vec::new(), places: BTreeMap::new(), last_age: 0 })
    }

    /// The poll.
    #[must_use]
    pub fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches another descriptor.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn watch(&self, descriptor: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, source.data(), epoll::EventFlags::IN)?)
    }

    /// Stops or starts to watch a descriptor that is watched.
    pub fn set_watched(&self, descriptor: BorrowedFd<'_>, source: Source, is_watched: bool) {
        let events = if is_watched { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        // It was added before, so there is nothing that can be wrong with it.
        let _ = epoll::modify(&self.epoll, descriptor, source.data(), events);
    }

    // --- set-up ---------------------------------------------------------------------------------------------

    /// Takes a socket in set-up. When there are [`PENDING_MAX`] already, the oldest is dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; it is dropped.
    //= spec/control-node.md#strangers
    //# A control node MUST hold at most 64 connections whose peers have proven nothing, each for at most 2 seconds.
    pub fn add_pending(
        &mut self,
        now: Instant,
        setup: ControlNodeLeg,
        fabric_leg: LegNumber,
    ) -> io::Result<()> {
        if self.pending_count() >= PENDING_MAX {
            self.drop_oldest_pending();
        }
        let place = self.free_place();
        let Some(descriptor) = setup.as_fd() else { return Ok(()) };
        let events = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::add(&self.epoll, descriptor, Source::Leg(place).data(), events)?;
        let deadline = now + SETUP_TIME_MAX;
        self.slots[place] = Slot::Pending(Pending { setup, fabric_leg, deadline });
        Ok(())
    }

    /// The socket in set-up at `place`, if there is one.
    pub fn pending(&mut self, place: usize) -> Option<&mut Pending> {
        match self.slots.get_mut(place)? {
            Slot::Pending(pending) => Some(pending),
            Slot::Free | Slot::Up(_) => None,
        }
    }

    /// What was in set-up at `place` has come up: it keeps its place and its watch. A leg of the same name is
    /// closed, though its hang-up has not been seen: the new one takes its place.
    pub fn establish(&mut self, place: usize, socket: EstablishedLeg) -> LegId {
        let id = LegId { node: socket.peer, process: socket.peer_process, leg: socket.leg };
        self.close_id(&id);
        self.last_age += 1;
        let (leave_deadline, is_left, is_hung_up) = (None, false, false);
        self.slots[place] =
            Slot::Up(Up { socket, id, age: self.last_age, leave_deadline, is_left, is_hung_up });
        self.places.insert(id, place);
        id
    }

    /// Sockets in set-up that have had their time; they are dropped. Says how many.
    pub fn drop_late_pending(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        for slot in &mut self.slots {
            if matches!(slot, Slot::Pending(pending) if pending.deadline <= now) {
                *slot = Slot::Free;
                dropped += 1;
            }
        }
        dropped
    }

    /// Closes every connection whose peer has not come all the way up.
    pub fn drop_pending(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| matches!(slot, Slot::Pending(_))) {
            *slot = Slot::Free;
        }
    }

    fn pending_count(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Pending(_))).count()
    }

    fn drop_oldest_pending(&mut self) {
        let pending = self.slots.iter_mut().filter(|slot| matches!(slot, Slot::Pending(_)));
        let oldest = pending.min_by_key(|slot| match slot {
            Slot::Pending(pending) => pending.deadline,
            Slot::Free | Slot::Up(_) => Instant::from_nanos(u64::MAX),
        });
        if let Some(slot) = oldest {
            *slot = Slot::Free;
        }
    }

    fn free_place(&mut self) -> usize {
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        free.unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        })
    }

    // --- legs that are up -----------------------------------------------------------------------------------

    /// The leg at `place`, if one is up there.
    pub fn up(&mut self, place: usize) -> Option<&mut Up> {
        match self.slots.get_mut(place)? {
            Slot::Up(up) => Some(up),
            Slot::Free | Slot::Pending(_) => None,
        }
    }

    /// The leg that is up under this name.
    #[must_use]
    pub fn find(&self, id: &LegId) -> Option<&Up> {
        match self.slots.get(*self.places.get(id)?)? {
            Slot::Up(up) => Some(up),
            Slot::Free | Slot::Pending(_) => None,
        }
    }

    /// This end has left the leg: shuts its sending side, and closes it when the other end has hung up.
    pub fn leave(&mut self, now: Instant, id: &LegId) {
        let Some(&place) = self.places.get(id) else { return };
        let Some(up) = self.up(place) else { return };
        if up.is_hung_up {
            self.close(place);
            return;
        }
        up.is_left = true;
        up.leave_deadline = Some(now + LEAVE_WAIT);
        // Fails only when the other end has hung up, which the poll says too.
        let _ = rustix::net::shutdown(&up.socket, Shutdown::Write);
    }

    /// The other end of the leg at `place` has hung up. This end stays open, and is not watched any more, until the
    /// machine has left the leg too: what the machine still takes from it must be in its final heads before the other
    /// end finds it closed.
    //= spec/rvi.md#leaving-a-leg
    //# An end that leaves a leg MUST stop consuming, MUST store its final heads and CLOSED, and only then hang up.
    pub fn hung_up(&mut self, now: Instant, place: usize) -> Option<LegId> {
        let Some(Slot::Up(up)) = self.slots.get_mut(place) else { return None };
        let id = up.id;
        if up.is_left {
            self.close(place);
        } else if !std::mem::replace(&mut up.is_hung_up, true) {
            up.leave_deadline = Some(now + LEAVE_WAIT);
            // It is watched, so there is nothing that can be wrong with it.
            let _ = epoll::delete(&self.epoll, &up.socket);
        }
        Some(id)
    }

    /// Closes whatever is at `place` and gives the leg's name, if one was up there.
    pub fn close(&mut self, place: usize) -> Option<LegId> {
        match std::mem::replace(self.slots.get_mut(place)?, Slot::Free) {
            Slot::Up(up) => {
                if self.places.get(&up.id) == Some(&place) {
                    self.places.remove(&up.id);
                }
                Some(up.id)
            }
            Slot::Free | Slot::Pending(_) => None,
        }
    }

    /// Closes the leg of this name; true when there was one.
    pub fn close_id(&mut self, id: &LegId) -> bool {
        self.places.get(id).copied().is_some_and(|place| self.close(place).is_some())
    }

    /// Closes a leg of which one end has left, and the other has not in time, and gives its name.
    pub fn close_late_leaving(&mut self, now: Instant) -> Option<LegId> {
        let is_late =
            |slot: &Slot| matches!(slot, Slot::Up(up) if up.leave_deadline.is_some_and(|d| d <= now));
        let place = self.slots.iter().position(is_late)?;
        self.close(place)
    }

    /// A leg of `node` that must go before another may come: the oldest of those that this end has left, else
    /// the oldest of all. None while the node is within its bound.
    //= spec/control-node.md#legs-of-one-node
    //# A control node MUST hold at most 16 legs of one node; when another comes, one that it has left already, or
    //# else the oldest, is closed.
    #[must_use]
    pub fn excess_of(&self, node: NodeNumber) -> Option<LegId> {
        let of_node = |slot: &Slot| match slot {
            Slot::Up(up) if up.id.node == node => Some((!up.is_left, up.age, up.id)),
            _ => None,
        };
        let mut legs: Vec<(bool, u64, LegId)> = self.slots.iter().filter_map(of_node).collect();
        legs.sort_unstable();
        legs.first().filter(|_| legs.len() >= LEGS_PER_NODE_MAX).map(|&(_, _, id)| id)
    }

    /// When something here is due: a set-up or a leave that has had its time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |slot: &Slot| match slot {
            Slot::Free => None,
            Slot::Pending(pending) => Some(pending.deadline),
            Slot::Up(up) => up.leave_deadline,
        };
        self.slots.iter().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rvi::ShmConfig;
    use rvi::host::{LegSocket, NodeControlLeg, NodeHello, PrivateKey, SetupProgress};

    fn pending(peers: &mut Vec<LegSocket>) -> ControlNodeLeg {
        let (ours, theirs) = LegSocket::pair().unwrap();
        peers.push(theirs);
        ControlNodeLeg::new(ours, ProcessId(1), &ShmConfig::default())
    }

    #[test]
    fn the_oldest_stranger_gives_way_when_too_many_come() {
        //= spec/control-node.md#strangers
        //= type=test
        //# A control node MUST hold at most 64 connections whose peers have proven nothing, each for at most 2
        //# seconds.
        let mut legs = Legs::new().unwrap();
        let mut peers = Vec::new();
        for at in 0..PENDING_MAX as u64 + 1 {
            let setup = pending(&mut peers);
            legs.add_pending(Instant::from_nanos(at), setup, LegNumber(0)).unwrap();
        }
        assert_eq!(legs.pending_count(), PENDING_MAX);
        assert!(peers[0].is_hung_up());
        assert!(!peers[1].is_hung_up());
    }

    /// A leg of node 7 that has come all the way up, at `place`.
    fn establish(legs: &mut Legs, key: &PrivateKey, process: u64) -> (LegId, NodeControlLeg) {
        let config = ShmConfig { slots_log2: 6, arena_len: 1 << 18 };
        let (ours, theirs) = LegSocket::pair().unwrap();
        let leg = LegNumber(0);
        let hello = NodeHello { node: NodeNumber(7), process: ProcessId(process), leg, session: 1 };
        let mut node = NodeControlLeg::new(theirs, key, &key.public(), &hello, &config).unwrap();
        let setup = ControlNodeLeg::new(ours, ProcessId(1), &config);
        legs.add_pending(Instant::ZERO, setup, LegNumber(0)).unwrap();
        let is_pending = |slot: &Slot| matches!(slot, Slot::Pending(_));
        let place = legs.slots.iter().position(is_pending).unwrap();
        loop {
            let setup = &mut legs.pending(place).unwrap().setup;
            let progress = setup.advance(key, &mut |_| Some(NodeNumber(7)), &mut |_| Some(1)).unwrap();
            if let SetupProgress::Up { leg, .. } = progress {
                return (legs.establish(place, leg), node);
            }
            node.advance().unwrap();
        }
    }

    #[test]
    fn a_node_with_too_many_legs_loses_one_it_was_told_to_leave_or_else_its_oldest() {
        //= spec/control-node.md#legs-of-one-node
        //= type=test
        //# A control node MUST hold at most 16 legs of one node; when another comes, one that it has left already,
        //# or else the oldest, is closed.
        let mut legs = Legs::new().unwrap();
        let key = PrivateKey::generate();
        let mut up: Vec<_> = (1..16).map(|process| establish(&mut legs, &key, process)).collect();
        assert_eq!(legs.excess_of(NodeNumber(7)), None);
        up.push(establish(&mut legs, &key, 16));
        assert_eq!(legs.excess_of(NodeNumber(7)), Some(up[0].0));
        assert_eq!(legs.excess_of(NodeNumber(8)), None);
        // An older place is used again by a younger leg.
        assert!(legs.close_id(&up[0].0));
        up.push(establish(&mut legs, &key, 17));
        assert_eq!(legs.excess_of(NodeNumber(7)), Some(up[1].0));
        legs.leave(Instant::ZERO, &up[9].0);
        assert_eq!(legs.excess_of(NodeNumber(7)), Some(up[9].0));
        assert_eq!(legs.close_late_leaving(Instant::ZERO + LEAVE_WAIT), Some(up[9].0));
        assert!(legs.find(&up[9].0).is_none());
    }

    #[test]
    fn a_leg_of_the_same_name_closes_the_older_one_and_keeps_its_own_place() {
        let mut legs = Legs::new().unwrap();
        let key = PrivateKey::generate();
        let (id, mut older) = establish(&mut legs, &key, 1);
        let place = legs.places[&id];
        let (again, mut newer) = establish(&mut legs, &key, 1);
        assert_eq!(again, id);
        assert!(legs.up(place).is_none());
        assert!(matches!(older.advance(), Ok(SetupProgress::Up { leg, .. }) if leg.is_hung_up()));
        assert!(matches!(newer.advance(), Ok(SetupProgress::Up { leg, .. }) if !leg.is_hung_up()));
        // The older one's end is no news: closing its place again gives no name.
        assert_eq!(legs.close(place), None);
        assert!(legs.find(&id).is_some());
    }

    #[test]
    fn a_stranger_has_two_seconds() {
        let mut legs = Legs::new().unwrap();
        let mut peers = Vec::new();
        let setup = pending(&mut peers);
        legs.add_pending(Instant::ZERO, setup, LegNumber(0)).unwrap();
        let due = legs.poll_timeout().unwrap();
        assert_eq!(due, Instant::ZERO + SETUP_TIME_MAX);
        assert_eq!(legs.drop_late_pending(Instant::ZERO), 0);
        assert_eq!(legs.drop_late_pending(due), 1);
        assert!(peers[0].is_hung_up());
        assert_eq!(legs.poll_timeout(), None);
    }

    #[test]
    fn sources_survive_the_way_through_the_poll() {
        for source in [Source::Wake, Source::Listener(3), Source::Leg(70_000), Source::Packets(LegNumber(2))]
        {
            assert_eq!(Source::from_data(source.data().u64()), source);
        }
    }
}
