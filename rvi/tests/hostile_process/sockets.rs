//! The hostile peer's sockets: what it sends there, and what becomes of the honest end.

use super::*;

fn send_raw(socket: BorrowedFd<'_>, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    // The honest end may have hung up, or not read: neither matters to this peer.
    let _ = rustix::net::sendmsg(socket, &[IoSlice::new(octets)], &mut control, flags);
}

/// One act of misuse.
fn misuse(random: &mut Random, socket: BorrowedFd<'_>, memory: &OwnMemory) {
    let file = File::open("/dev/null").unwrap();
    let mut octets = [0; 600];
    for octet in &mut octets {
        *octet = random.next() as u8;
    }
    let len = random.below(octets.len());
    let header = [b'W', b'L', 1, 1 + random.below(6) as u8];
    match random.below(10) {
        0 => send_raw(socket, &octets[..len], &[]),
        1 => send_raw(socket, &octets[..1 + len / 2], &vec![file.as_fd(); 1 + random.below(32)]),
        2 => (0..1000).for_each(|_| send_raw(socket, &[0], &[])),
        3 => (0..300).for_each(|_| send_raw(socket, &[0], &[file.as_fd()])),
        4 => {
            octets[..4].copy_from_slice(&header);
            send_raw(socket, &octets[..4 + random.below(140)], &[]);
        }
        5 | 6 => {
            octets[..4].copy_from_slice(&header);
            octets[4..20].fill(0);
            octets[4..8].copy_from_slice(&(shm_config().region_len() as u32).to_le_bytes());
            let descriptor = if random.one_in(2) { memory.descriptor() } else { file.as_fd() };
            send_raw(socket, &octets[..20], &[descriptor]);
        }
        7 => {
            let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][random.below(3)];
            let _ = rustix::net::shutdown(socket, how);
        }
        8 => send_raw(socket, &[], &[file.as_fd()]),
        _ => send_raw(socket, &[0], &[]),
    }
}

/// A set-up of any kind.
pub enum Setup<'k> {
    Node(NodeControlLeg),
    ControlNode(ControlNodeLeg, &'k PrivateKey, PublicKey),
    Pair(PairLeg),
}

impl<'k> Setup<'k> {
    /// Both ends of a control leg (the honest end may be either) or of a pair.
    pub fn pair(random: &mut Random, keys: &'k [PrivateKey; 2]) -> [Self; 2] {
        let (a, b) = LegSocket::pair().unwrap();
        let config = shm_config();
        if random.one_in(3) {
            return [a, b].map(|socket| Self::Pair(PairLeg::new(socket, END, &config).unwrap()));
        }
        let node = NodeControlLeg::new(a, &keys[0], &keys[1].public(), &HELLO, &config).unwrap();
        let control_node = ControlNodeLeg::new(b, ProcessId(1), &config);
        let mut ends = [Self::Node(node), Self::ControlNode(control_node, &keys[1], keys[0].public())];
        if random.one_in(2) {
            ends.reverse();
        }
        ends
    }

    pub fn advance(&mut self) -> Result<SetupProgress, SetupError> {
        match self {
            Self::Node(leg) => leg.advance(),
            Self::ControlNode(leg, key, known) => {
                leg.advance(key, &mut |proven| (*proven == *known).then_some(NODE), &mut |_| Some(1))
            }
            Self::Pair(leg) => leg.advance(),
        }
    }

    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Node(leg) => leg.as_fd(),
            Self::ControlNode(leg, ..) => leg.as_fd(),
            Self::Pair(leg) => leg.as_fd(),
        }
    }
}

/// One end of an episode: still being set up, up, or gone.
pub enum End<'k> {
    Setup(Setup<'k>),
    Up(EstablishedLeg),
    Gone,
}

impl<'k> End<'k> {
    pub fn step(self, seen: &mut Seen) -> Self {
        match self {
            Self::Setup(mut setup) => match setup.advance() {
                Ok(SetupProgress::Pending) => Self::Setup(setup),
                Ok(SetupProgress::Up { leg, .. }) => {
                    seen.episodes_up += 1;
                    Self::Up(leg)
                }
                Err(_) => {
                    seen.refused_setups += 1;
                    Self::Gone
                }
            },
            Self::Up(mut leg) => match leg.receive() {
                Datagram::Closed => Self::Gone,
                Datagram::Violation(_) => {
                    seen.violations += 1;
                    Self::Gone
                }
                _ => Self::Up(leg),
            },
            Self::Gone => Self::Gone,
        }
    }

    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Setup(setup) => setup.as_fd(),
            Self::Up(leg) => Some(leg.as_fd()),
            Self::Gone => None,
        }
    }
}

/// One life of a socket: the hostile end behaves for a while, misuses its socket, and goes.
pub fn socket_episode(random: &mut Random, keys: &[PrivateKey; 2], memory: &OwnMemory, seen: &mut Seen) {
    let [honest, hostile] = Setup::pair(random, keys);
    let (mut honest, mut hostile) = (End::Setup(honest), End::Setup(hostile));
    let mut nobody = Seen::default();
    for _ in 0..random.below(6) {
        hostile = hostile.step(&mut nobody);
        honest = honest.step(seen);
    }
    for _ in 0..random.below(8) {
        let Some(socket) = hostile.as_fd() else { break };
        misuse(random, socket, memory);
        honest = honest.step(seen);
    }
    drop(hostile);
    // The hang-up is behind at most a socket full of doorbells.
    let mut steps = 0;
    while !matches!(honest, End::Gone) {
        honest = honest.step(seen);
        steps += 1;
        assert!(steps < 10_000, "a leg whose peer hung up comes to its end");
    }
}
