//! Super-frames of UDP: what a peer sent is cut without harm, and what was joined is cut into what there was.

use vlan_core::super_frame::{Segments, UdpCoalescer};
use vlan_core::wire::frame::{VNET_LEN, Vnet};

/// Reads `data` as a frame's state, what to change in a copy of the frame, and the frame.
pub fn run(data: &[u8]) {
    let Some((state, rest)) = data.split_first_chunk::<VNET_LEN>() else { return };
    let Some((&[place, octet, count], frame)) = rest.split_first_chunk::<3>() else { return };
    let vnet = Vnet::parse(state);
    cut(&vnet, frame);
    join(&vnet, frame, usize::from(place), octet, count);
}

/// The segments of a frame have its payload, no more and no less.
fn cut(vnet: &Vnet, frame: &[u8]) -> Vec<Vec<u8>> {
    let Some(mut segments) = Segments::of(vnet, frame) else { return Vec::new() };
    let (mut all, mut segment) = (Vec::new(), Vec::new());
    let headers_len = segments.headers_len();
    let total = segments.total();
    while let Some(state) = segments.next_into(&mut segment) {
        assert!(state.gso_type == 0 && state.is_valid_for(segment.len()));
        assert!((1..=usize::from(vnet.gso_size)).contains(&(segment.len() - headers_len)));
        all.push(segment.clone());
    }
    let payload: Vec<u8> = all.iter().flat_map(|segment| &segment[headers_len..]).copied().collect();
    assert_eq!((payload.as_slice(), all.len()), (&frame[headers_len..], total));
    all
}

/// Joins a frame with copies of it, one octet of them changed.
fn join(vnet: &Vnet, frame: &[u8], place: usize, octet: u8, count: u8) {
    let Some(mut coalescer) = UdpCoalescer::begin(vnet, frame) else { return };
    let mut copy = frame.to_vec();
    if let Some(changed) = copy.get_mut(place) {
        *changed ^= octet;
    }
    let (mut joined, mut sent) = (frame.to_vec(), vec![frame.to_vec()]);
    for _ in 0..count {
        let Some(payload) = coalescer.admit(&joined, vnet, &copy) else { break };
        joined.extend_from_slice(payload);
        sent.push(copy.clone());
    }
    assert_eq!((coalescer.len(), coalescer.count()), (joined.len(), sent.len()));
    let state = coalescer.finish(&mut joined);
    assert!(state.is_valid_for(joined.len()));
    if sent.len() == 1 {
        assert_eq!((state, &joined), (*vnet, &sent[0]));
        return;
    }
    let cut = cut(&state, &joined);
    assert_eq!(cut.len(), sent.len());
    for (cut, sent) in cut.iter().zip(&sent) {
        // Identification and sum of the IPv4 header, and zero has two forms.
        let same = |from: usize, to: usize| assert_eq!(cut[from..to], sent[from..to]);
        let udp_at = usize::from(vnet.csum_start);
        same(0, 18);
        same(20, 24);
        same(26, udp_at + 6);
        same(udp_at + 8, sent.len());
    }
}

/// Three datagrams as one by IPv4, and by IPv6; one datagram that is joined with copies of itself.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let state = |gso_type, csum_start| Vnet {
        flags: Vnet::NEEDS_CSUM,
        gso_type,
        hdr_len: 0,
        gso_size: if gso_type == 0 { 0 } else { 20 },
        csum_start,
        csum_offset: 6,
    };
    let seed = |vnet: Vnet, frame: &[u8]| [&vnet.emit()[..], &[18, 0, 3], frame].concat();
    let ethernet = |kind: [u8; 2]| [&[2; 12][..], &kind].concat();
    let v4 = |payload: u8, sum: [u8; 2]| {
        let ip = [0x45, 0, 0, 28 + payload, 0, 0, 0x40, 0, 64, 17, sum[0], sum[1], 10, 1, 0, 1, 10, 1, 0, 2];
        let udp = [0x0f, 0xa0, 0x0f, 0xa0, 0, 8 + payload, 0x14, 0x1c + payload];
        [&ethernet([8, 0])[..], &ip, &udp, &vec![7; payload.into()]].concat()
    };
    let v6 = |payload: u8| {
        let ip = [&[0x60, 0, 0, 0, 0, 8 + payload, 17, 64][..], &[0xfd; 32]].concat();
        [&ethernet([0x86, 0xdd])[..], &ip, &[1, 2, 3, 4, 0, 8 + payload, 5, 6], &vec![7; payload.into()]]
            .concat()
    };
    vec![
        seed(state(5, 34), &v4(57, [0, 0])),
        seed(state(5, 54), &v6(60)),
        seed(state(0, 34), &v4(20, [0x26, 0xb9])),
        seed(state(0, 54), &v6(20)),
    ]
}
