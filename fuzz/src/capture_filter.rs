//! Expressions and programs of filters, and any octets as the frames that they look at.

use vlan_core::MacAddress;
use vlan_core::capture::{FILTER_OCTETS_MAX, Filter, Headers, compile};
use vlan_core::wire::{CAPTURED_HEADER_LEN, CapturedHeader, CapturedRecord};

/// Octets that say what follows: a filter's text (1) or program (0), and its length; behind it is a frame.
pub fn run(data: &[u8]) {
    copies(data);
    let Some((&[how, low, high], rest)) = data.split_first_chunk() else { return };
    let (filter, frame) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
    let filter = if how & 1 == 0 { program(filter) } else { expression(filter) };
    let headers = Headers::parse(frame, frame.len());
    assert_eq!(headers.is_some(), frame.len() >= 14);
    if let Some(filter) = filter {
        let kept = filter.keeps(headers.as_ref());
        // What a filter says follows from its octets alone.
        let again = Filter::parse(&filter.emit()).expect("what was emitted");
        assert_eq!(again.keeps(headers.as_ref()), kept);
        assert!(!filter.is_empty() || kept);
    }
}

fn program(octets: &[u8]) -> Option<Filter> {
    let filter = Filter::parse(octets).ok()?;
    assert_eq!(filter.emit(), octets, "a program has two forms");
    Some(filter)
}

fn expression(octets: &[u8]) -> Option<Filter> {
    let text = String::from_utf8_lossy(octets);
    let members = |name: &str| (name.len() < 5).then(|| vec![MacAddress([2; 6]); name.len()]);
    match compile(&text, &members) {
        Ok(filter) => {
            let program = filter.emit();
            assert!(program.len() <= FILTER_OCTETS_MAX);
            assert_eq!(Filter::parse(&program), Ok(filter.clone()));
            Some(filter)
        }
        Err(error) => {
            assert!(error.at <= text.len() && !error.what.is_empty(), "{error}");
            None
        }
    }
}

fn copies(data: &[u8]) {
    let head = &data[..data.len().min(256)];
    let Ok(header) = CapturedHeader::parse(head, data.len()) else { return };
    assert_eq!(header.emit(data.len() - CAPTURED_HEADER_LEN), head[..CAPTURED_HEADER_LEN]);
    let mut rest = &data[CAPTURED_HEADER_LEN..];
    while !rest.is_empty() {
        let before = rest.len();
        if CapturedRecord::take(&mut rest).is_err() {
            return;
        }
        assert!(rest.len() < before);
    }
}

/// An expression with every test, a program with every step, and a message with a copy.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "(arp or ip6) and not src member ab or tcp dst port 80 udp sctp icmp icmp6 ip",
        "mac 02:00:01:00:00:01 or src host 10.1.0.1 or dst net fd00::/8 or net 10.0.0.0/9",
        "ethertype 0x88b5 proto 58 less 64 greater 60 broadcast multicast control",
    ];
    let mut frame = vec![2; 12];
    frame.extend([0x81, 0, 0, 5, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 44, 64]);
    frame.extend([1; 32]);
    frame.extend([17, 0, 0, 0, 0, 0, 0, 1, 0, 53, 0, 80, 0, 8, 0, 0]);
    let join = |is_text: u8, filter: &[u8]| {
        let len = (filter.len() as u16).to_le_bytes();
        [&[is_text][..], &len, filter, &frame].concat()
    };
    let mut seeds: Vec<_> = texts.iter().map(|text| join(1, text.as_bytes())).collect();
    let members = |_: &str| Some(vec![MacAddress([2; 6])]);
    let program = |text: &&str| compile(text, &members).expect("a filter").emit();
    seeds.extend(texts.iter().map(|text| join(0, &program(text))));
    let mut copies = Vec::new();
    let copy = CapturedRecord { original_len: 60, unix_ns: 7, is_out: true, channel: 3, octets: &[] };
    copy.emit_head(20, &mut copies);
    copies.extend([5; 20]);
    let header = CapturedHeader { id: 3, seen: 9, matched: 2, ..CapturedHeader::default() };
    seeds.push([&header.emit(copies.len())[..], &copies].concat());
    seeds
}
