//! The raw limit of UDP, or of Ethernet frames, on this machine: runs of equal packets from one core to the other, for UDP
//! cut and joined by the kernel, with nothing done to their octets.

use rvi::host::udp::{ReceivePool, UDP_PAYLOAD_LEN_MAX};

use crate::ends::{End, Open};
use crate::process::{self, COUNT, Figure, READY, Run, STOP};

/// Counts the datagrams of `run.size` octets that arrive from the first end at the second. The sender does not wait
/// for the receiver: what its buffer cannot hold is lost.
pub fn measure<S: Open>(run: &Run, ends: &[End; 2]) -> anyhow::Result<Figure> {
    let longest = UDP_PAYLOAD_LEN_MAX;
    anyhow::ensure!(run.size <= longest, "--size is that of a datagram here, {longest} at most");
    let [sender, receiver]: [S; 2] = [ends[0].open(1)?, ends[1].open(2)?];
    let to = receiver.local_address();
    let octets = vec![0x5a; sender.segments_max(run.size) * run.size];
    let mut figure = process::pair(
        run,
        |meeting| {
            let (mut pool, mut received) = (ReceivePool::new(), 0);
            meeting.store(READY, 1);
            while meeting.load(STOP) == 0 {
                let taken = receiver.for_each_datagram(&mut pool, |_, _| {}).datagrams;
                if taken > 0 {
                    received += taken as u64;
                    meeting.store(COUNT, received);
                }
            }
        },
        |meeting| {
            while meeting.load(READY) == 0 {
                std::hint::spin_loop();
            }
            process::count(run, meeting, || {
                // What is not sent is not counted as received either.
                let _ = sender.send(to, &octets, run.size);
                meeting.load(COUNT)
            })
        },
    )?;
    anyhow::ensure!(figure.frames > 0, "nothing arrived");
    figure.lost = receiver.kernel_drops().into();
    Ok(figure)
}
