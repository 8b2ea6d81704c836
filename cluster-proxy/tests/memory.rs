//! What the proxy takes of memory it takes when it is made: packets and claims cost none.

#[path = "cluster/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use cluster_proxy::*;
use vlan_core::random::Random;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use world::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a tally for each thread.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the tally does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may allocate after its tally is gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what it gave it gets back, with the layout that it came with.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn packets_and_claims_take_no_memory() {
    //= spec/cluster.md#memory
    //= type=test
    //# The proxy's memory MUST be fixed by its limits and its configuration, whatever packets and claims arrive.
    let check = CheckConfig { interval: Duration::from_secs(1), fall: 1, rise: 1 };
    let mut services = vec![service(WEB, Balance::RoundRobin, 6), service(DNS, Balance::LeastConnections, 6)];
    services[0].check = Some(check);
    let mut world = World::new(&config(services));
    let mut random = Random::new(1);
    let frames: Vec<_> = (0..4000)
        .map(|number| {
            let flow =
                flow_of(client(number, number % 3 == 0), number, if number % 2 == 0 { WEB } else { DNS });
            let frame = match number % 7 {
                0 => error(&flow, flow.client),
                1 => fragment(&flow, number, random.below(2) == 0),
                2 => packet(flow.client, flow.address, if number % 3 == 0 { 58 } else { 1 }, &[8; 64]),
                3 => (0..random.below(90)).map(|_| random.next_u64() as u8).collect(),
                _ => segment(&flow, [SYN, ACK, RST][number as usize % 3]),
            };
            (flow, frame)
        })
        .collect();
    let before = ALLOCATIONS.with(Cell::get);
    for round in 0..30 {
        if round % 5 == 0 {
            world.proxy.handle_takeover(world.now);
        }
        for (number, (flow, frame)) in frames.iter().enumerate() {
            world.proxy.handle(world.now, &Vnet::default(), frame);
            let from = MemberSlot(number as u16 % 7 + 1);
            if number % 2 == 0 {
                let _ = world.proxy.handle_claim(world.now, from, flow);
            } else if number % 31 == 0 {
                world.proxy.handle_gone(world.now, from, flow);
            }
        }
        while let Some(request) = world.proxy.poll_check() {
            world.proxy.handle_checked(&request, round % 3 == 0);
        }
        let server = MemberSlot(round as u16 % 6 + 1);
        world.proxy.set_reachable(world.now, server, round % 4 != 0);
        world.proxy.set_listens(server, WEB, round % 3 != 0);
        world.wait(Duration::from_secs(3));
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert!(world.proxy.counters().claims > 1000 && world.proxy.counters().forwarded.frames > 20_000);
    world.check_ledger();
}
