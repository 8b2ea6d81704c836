//! Node to node on their direct RVI: driver, TLV header, association and ring at both ends.

use switch_node::Accept;
use vlan_core::Instant;
use vlan_core::wire::frame::Vnet;

use crate::frames::{Sink, Source};
use crate::process::{self, COUNT, Figure, Run, SENT, STOP};
use crate::world::{VIF, World, mac};

const BATCH: usize = 32;

pub fn measure(run: &Run) -> anyhow::Result<Figure> {
    let mut world = World::new(run.legs)?;
    world.raise_direct(run.size)?;
    let now = Instant::from_nanos(world.clock);
    let [mut sender, mut receiver] = World::pair(world.nodes);
    process::pair(
        run,
        |meeting| {
            let mut sink = Sink::new(mac(2));
            loop {
                let got = receiver.receive(now, BATCH, &mut sink);
                receiver.publish(now);
                meeting.store(COUNT, sink.received);
                if got == 0 && meeting.load(STOP) != 0 {
                    break;
                }
            }
            assert_eq!(sink.wrong, 0, "frames lost, duplicated or reordered");
        },
        |meeting| {
            let mut source = Source::new(run.size, mac(2), mac(1));
            let (mut sent, mut again) = (0, false);
            let vnet = Vnet::default();
            let mut sink = Sink::new(mac(1));
            source.next();
            let mut figure = process::count(run, meeting, || {
                let mut batch = sender.batch(now, VIF);
                for _ in 0..BATCH {
                    // A frame that was refused is offered again, as a TAP's pump does.
                    let frame = if again { source.same() } else { source.next() };
                    again = batch.send(&vnet, frame) == Accept::Busy;
                    if again {
                        break;
                    }
                    sent += 1;
                }
                drop(batch);
                sender.receive(now, BATCH, &mut sink);
                sender.publish(now);
                meeting.load(COUNT)
            });
            meeting.store(SENT, sent);
            figure.lost = drain(meeting, sent);
            figure
        },
    )
}

/// Waits until everything sent has been received, or nothing more comes for a second; returns what is missing.
pub fn drain(meeting: &process::Meeting, sent: u64) -> u64 {
    let mut last = (meeting.load(COUNT), std::time::Instant::now());
    while meeting.load(COUNT) < sent && last.1.elapsed().as_secs() < 1 {
        if meeting.load(COUNT) != last.0 {
            last = (meeting.load(COUNT), std::time::Instant::now());
        }
        std::hint::spin_loop();
    }
    sent.saturating_sub(meeting.load(COUNT))
}
