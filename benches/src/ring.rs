//! An association alone: one channel over shared-memory legs, no driver and no header but the ring's own.

use rvi::{Association, AssociationConfig, Part, Scratch};
use vlan_core::{Channel, Instant};

use crate::process::{self, COUNT, Figure, Run, STOP};
use crate::world::leg_pair;

const CHANNEL: Channel = Channel(1);
const BATCH: usize = 32;

pub fn measure(run: &Run) -> anyhow::Result<Figure> {
    let (mut sender, mut receiver) = (association(), association());
    for leg in 0..run.legs {
        let (a, b) = leg_pair()?;
        sender.handle_leg_up(Instant::ZERO, vlan_core::LegNumber(leg), a);
        receiver.handle_leg_up(Instant::ZERO, vlan_core::LegNumber(leg), b);
    }
    let size = run.size;
    process::pair(
        run,
        |meeting| {
            let (mut scratch, mut out, mut count) = (Scratch::default(), vec![0; 70_000], 0);
            while meeting.load(STOP) == 0 {
                for _ in 0..BATCH {
                    let Some(message) = receiver.receive(&mut scratch) else { break };
                    let head = message.head.len();
                    out[..head].copy_from_slice(message.head);
                    message.rest.copy_to(&mut out[head..head + message.rest.len()]);
                    count += 1;
                }
                receiver.release();
                meeting.store(COUNT, count);
            }
        },
        |meeting| {
            let mut frame = vec![0x5a_u8; size];
            let mut flow = 0_u32;
            process::count(run, meeting, || {
                for _ in 0..BATCH {
                    flow = flow.wrapping_add(1);
                    frame[..4].copy_from_slice(&flow.to_le_bytes());
                    let parts = [Part::Private(&frame)];
                    if sender.send(Instant::ZERO, CHANNEL, flow, 0, &parts).is_err() {
                        break;
                    }
                }
                sender.publish();
                meeting.load(COUNT)
            })
        },
    )
}

fn association() -> Association {
    let config =
        AssociationConfig { park_messages_max: 0, park_octets_max: 0, ..AssociationConfig::default() };
    let mut association = Association::new(&config);
    association.open_channel(CHANNEL);
    association
}
