//! Runs to start from.

/// Nodes that attach, talk, are granted a direct RVI, restart and go.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    // Operation, node, interface, destination, length, no change.
    let to_2: &[u8] = &[8, 0, 0, 2, 0, 9];
    let to_all: &[u8] = &[8, 1, 0, 0, 0, 9];
    let blue: &[u8] = &[8, 0, 1, 2, 1, 9];
    let ask: &[u8] = &[10, 0, 0, 0, 1, 2, 9];
    let answer: &[u8] = &[10, 1, 0, 1, 2, 0, 9];
    let bind: &[u8] = &[11, 0, 1, 0, 0, 1, 1];
    let pump: &[u8] = &[4, 0, 100];
    let take: &[u8] = &[6, 0, 6, 1, 6, 2];
    let later: &[u8] = &[16, 0, 0xff, 0x7f];
    let talk = [&[2][..], to_2, to_all, blue, ask, answer, bind, pump, take, later, to_2, pump, take];
    let granted = [&[2][..], to_2, pump, later, to_2, pump, take, &[11, 0, 1, 1, 2, 0, 5], pump, take];
    let restart = [&[2][..], to_2, pump, &[3, 0, 9, 1, 0, 0, 0, 1, 0], pump, take, to_2, pump, take];
    let two_legs = [&[0][..], &[0, 0, 0, 1, 0, 0, 0, 1, 4, 0, 9, 2, 0, 0, 1, 4, 0, 9], to_2, pump, take];
    let cut =
        [&[3][..], to_2, pump, later, to_2, pump, &[15, 0, 1, 2, 0, 0], take, &[17, 0, 255], pump, take];
    // To a node of another host, by packets; then from another address.
    let to_3: &[u8] = &[8, 0, 0, 3, 0, 9];
    let moved: &[u8] = &[11, 0, 0, 0, 0, 0, 8, 2, 4, 1, 19, 0];
    let leg_cut: &[u8] = &[15, 0, 1, 3, 1, 0];
    let packets = [
        &[2][..],
        to_3,
        pump,
        later,
        to_3,
        pump,
        take,
        moved,
        pump,
        take,
        leg_cut,
        pump,
        take,
        moved,
        pump,
        take,
    ];
    // Nodes 1 and 3 claim what they have from an earlier control node: interface, RVI, peer; registration; LAN, channel,
    // interface; version, node, process; one RVI; one udp leg, process, epoch, once; one address.
    let claim = |node: u8, peer: u8| {
        [11, node - 1, 1, 1, peer, 0, 10, 1, 1, 1, 1, 1, node, 1, 1, 1, 0, 1, 1, 1, 0, 19, node - 1]
    };
    let up: &[u8] = &[0, 0, 0, 0, 2, 0];
    // Octets, to node, epoch, length, no change; also in another epoch, to a node without a grant, and one with a change.
    let to = |octets: &[u8]| [&[13, 0, 0, octets.len() as u8][..], octets].concat();
    let relays =
        [to(&[3, 0, 20, 99]), to(&[3, 1, 20, 99]), to(&[2, 0, 20, 99]), to(&[3, 0, 20, 0, 1])].concat();
    let relayed = [&[2][..], to_3, pump, later, to_3, pump, take, &relays, &[19, 0], pump, take];
    // The device is there; a host outside asks for node 1 and sends to it, with a tag and without; a member answers it.
    let found: &[u8] = &[21, 0, 0, 0];
    let asked: &[u8] = &[20, 0, 1, 0, 0, 200, 1, 7];
    let sent: &[u8] = &[20, 0, 1, 1, 1, 200, 1, 7];
    let tagged: &[u8] = &[20, 0, 1, 2, 1, 1, 200, 2, 0];
    let to_outside: &[u8] = &[8, 0, 0, 5, 0, 9];
    let outside =
        [&[6][..], found, bind, pump, asked, sent, tagged, pump, take, to_outside, to_all, ask, pump, take];
    let claims = [&[0][..], up, &claim(1, 3), pump, &claim(3, 1), pump, take, pump];
    // Both servers have told their flows; a segment of another goes to each of them in turn, and back to the first.
    let told: &[u8] = &[11, 0, 1, 0, 0, 0, 14, 11, 1, 1, 0, 0, 0, 14];
    let later_on: &[u8] = &[17, 0, 8];
    let segment: &[u8] = &[8, 2, 0, 5, 1, 0, 2, 16, 9];
    let backs: &[u8] = &[22, 0, 0, 200, 0, 22, 1, 1, 200, 0, 22, 0, 1, 200, 0, 22, 1, 0, 40, 1];
    let asked_in_turn =
        [&[2][..], told, pump, take, later_on, segment, pump, take, backs, pump, take, backs, pump, take];
    vec![
        asked_in_turn.concat(),
        talk.concat(),
        granted.concat(),
        restart.concat(),
        two_legs.concat(),
        cut.concat(),
        packets.concat(),
        claims.concat(),
        relayed.concat(),
        outside.concat(),
    ]
}
