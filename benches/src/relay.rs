//! Node to control node to node: one core runs both nodes, the other the control node with its admission, table
//! lookup and counters.

use switch_node::Accept;
use vlan_core::Instant;
use vlan_core::wire::frame::Vnet;

use crate::frames::{Sink, Source};
use crate::process::{self, Figure, Run, STOP};
use crate::world::{VIF, World, mac};

const BATCH: usize = 32;

pub fn measure(run: &Run) -> anyhow::Result<Figure> {
    let mut world = World::new(run.legs)?;
    world.cut();
    let now = Instant::from_nanos(world.clock);
    let (mut control, [mut sender, mut receiver]) = (world.control, World::pair(world.nodes));
    process::pair(
        run,
        |meeting| {
            while meeting.load(STOP) == 0 {
                control.pump(now, 4 * BATCH);
            }
        },
        |meeting| {
            let mut source = Source::new(run.size, mac(2), mac(1));
            let (mut to_sender, mut sink) = (Sink::new(mac(1)), Sink::new(mac(2)));
            let (mut sent, mut again) = (0_u64, false);
            let vnet = Vnet::default();
            let mut round = |more: bool| {
                let mut batch = sender.batch(now, VIF);
                for _ in 0..if more { BATCH } else { 0 } {
                    let frame = if again { source.same() } else { source.next() };
                    again = batch.send(&vnet, frame) == Accept::Busy;
                    if again {
                        break;
                    }
                    sent += 1;
                }
                drop(batch);
                sender.receive(now, BATCH, &mut to_sender);
                sender.publish(now);
                receiver.receive(now, 2 * BATCH, &mut sink);
                receiver.publish(now);
                (sent, sink.received, sink.wrong)
            };
            let figure = process::count(run, meeting, || round(true).1);
            let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
            let (sent, received, wrong) = loop {
                let state = round(false);
                if state.1 >= state.0 || std::time::Instant::now() > until {
                    break state;
                }
            };
            assert!(received <= sent, "more frames than were sent");
            Figure { lost: (sent - received).max(wrong), ..figure }
        },
    )
}
