//! `switchctl capture`: pcapng from a control node to a file or a pipe, whole block by whole block.
//!
//! The control node writes the pcapng; here blocks are counted and passed on. At the end, by a count, a time or a signal,
//! the control node is asked to end the capture, so that its last blocks say what was seen and lost.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::Method;
use platform::failure::Failure;
use platform::management::{CaptureDirection, CaptureEnd, CaptureRequest};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use vlan_core::MacAddress;

use crate::client::{self, Stream};
use crate::pcapng::{Block, Blocks, Statistics};

/// What `capture --help` says last.
pub const HELP: &str = "\
FILTER says which frames are kept. It is one or more of these, with `and` (which may be left out), `or`, `not` and parentheses:
  member NAME            from or to the interfaces of this node
  mac 02:00:01:00:00:01  this Ethernet address
  host 10.1.0.2          this IP address; `net 10.1.0.0/24` or `net fd00::/64` this subnet (ARP messages about it too)
  port 80                this port of TCP, UDP or SCTP
  src ..., dst ...       before member, mac, host, net or port: only that end
  arp ip ip6             this kind of frame; `ethertype 0x88cc` any other
  icmp icmp6 tcp udp     this protocol; `proto 89` any other
  broadcast multicast    to all, to a group (broadcast included)
  less 128, greater 1400 so many octets at most, at least
  control                in an RVI: messages that carry no frame

A capture costs those who send and receive nothing but the copy: copies wait in 4 MiB of memory in each node at most, what does not fit is
counted as lost, and copies take only room that no frame waits for. Frames of a whole LAN come from several nodes: they are in the order of
their arrival, `reordercap` sorts them. Super-frames are captured whole, with checksums that are not filled in yet.
In an RVI each message stands behind 8 octets (user link type 0): contrib/wireshark/weft.lua reads them. Keys are overwritten.

Examples:
  switchctl -f lab.toml capture --lan red | tshark -r -
  switchctl -f lab.toml capture --node web1 -w web1.pcapng --seconds 10 tcp port 80 or arp
  switchctl -f lab.toml capture --lan red -w x.pcapng --count 100 not member web3
  switchctl -f lab.toml capture --rvi web1 web2 | tshark -r - -X lua_script:contrib/wireshark/weft.lua
  switchctl -f lab.toml capture --rvi web1 cn-a -w control.pcapng control";

/// How long the last blocks may take after the end was asked for: nodes have two seconds.
const END_TIME: Duration = Duration::from_secs(4);

/// What `capture` is asked.
#[derive(Args, Debug)]
pub struct CaptureArguments {
    /// Frames of this LAN: each once, as its sender's interface sees it or as it comes in from outside; with --node those of one interface
    #[arg(long, value_name = "LAN", required_unless_present_any = ["node", "rvi"])]
    lan: Option<String>,
    /// Frames at the interfaces of this node, on one LAN or on all
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Messages between two nodes, or a node and the control node, with their TLV headers, as the first node sees them
    #[arg(long, num_args = 2, value_names = ["NODE", "PEER"], conflicts_with_all = ["lan", "node"])]
    rvi: Option<Vec<String>>,
    /// Which way, seen from the interface or the node; default: both; for a whole LAN what members send and
    /// what comes in from outside
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// Where to write pcapng; default, and `-`: standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Octets of each frame to keep; default: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    snap: Option<u32>,
    /// Which frames are kept: see below
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// What stacks are given, or what arrives at the node
    In,
    /// What stacks send, or what leaves the node
    Out,
    /// Either
    Both,
}

/// How a capture went.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Frames written.
    frames: u64,
    /// Frames that passed the taps.
    seen: u64,
    /// Frames that the filter kept.
    matched: u64,
    /// Frames that the filter kept and that there was no room for.
    lost: u64,
    /// The control node has said all this: the capture ended in order.
    complete: bool,
    #[serde(skip)]
    is_told: bool,
}

impl CaptureArguments {
    /// Captures until a count, a time, a signal or the end of the reader; prints how it went.
    pub fn run(&self, sockets: &[PathBuf], json: bool) -> Result<(), Failure> {
        let request = self.request()?;
        let out = self.output()?;
        let is_file = matches!(out, Output::File(..));
        let summary = client::block_on(self.capture(sockets, &request, out))??;
        if json && is_file {
            let text = serde_json::to_string_pretty(&summary).unwrap_or_default();
            println!("{text}");
        } else {
            eprintln!("{}", summary.text());
        }
        if summary.complete {
            return Ok(());
        }
        Err(Failure::runtime("the capture was broken off: the control node has gone")
            .hint("what was written is whole"))
    }

    fn request(&self) -> Result<CaptureRequest, Failure> {
        let filter = self.filter.join(" ");
        // Names are the control node's business.
        vlan_core::capture::compile(&filter, &|_| Some(vec![MacAddress([0; 6])])).map_err(|error| {
            let pointer = " ".repeat(error.at);
            Failure::usage(format!("the filter is wrong: {}\n  {filter}\n  {pointer}^", error.what))
                .hint("see switchctl capture --help")
        })?;
        let rvi = self.rvi.as_ref().and_then(|ends| <[String; 2]>::try_from(ends.clone()).ok());
        let direction = self.direction.map(|direction| match direction {
            Direction::In => CaptureDirection::In,
            Direction::Out => CaptureDirection::Out,
            Direction::Both => CaptureDirection::Both,
        });
        let (lan, node) = (self.lan.clone(), self.node.clone());
        Ok(CaptureRequest { lan, node, rvi, direction, filter, snap: self.snap })
    }

    fn output(&self) -> Result<Output, Failure> {
        match &self.write {
            Some(path) if path != Path::new("-") => {
                let file = File::create(path).map_err(|error| {
                    Failure::runtime(format!("cannot write {}: {error}", path.display()))
                        .hint("name a file in a folder that you may write to")
                })?;
                Ok(Output::File(file, path.clone()))
            }
            _ if io::stdout().is_terminal() => {
                Err(Failure::usage("pcapng is not for a terminal").hint("add `-w FILE`, or `| tshark -r -`"))
            }
            _ => Ok(Output::Standard),
        }
    }

    async fn capture(
        &self,
        sockets: &[PathBuf],
        request: &CaptureRequest,
        mut out: Output,
    ) -> Result<Summary, Failure> {
        let body = serde_json::to_string(request).unwrap_or_default();
        let mut stream = Stream::open(sockets, "/v1/capture", body).await?;
        let cannot_wait = |error| Failure::runtime(format!("cannot wait for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_wait)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot_wait)?;
        let mut ends_at =
            self.seconds.map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
        let (mut summary, mut blocks, mut is_ending) = (Summary::default(), Blocks::default(), false);
        loop {
            let is_full = self.count.is_some_and(|count| summary.frames >= count);
            let until = ends_at.unwrap_or_else(|| tokio::time::Instant::now() + END_TIME);
            tokio::select! {
                piece = stream.piece() => match piece {
                    Some(piece) => blocks.add(&piece),
                    None => return Ok(summary),
                },
                _ = interrupt.recv(), if !is_ending => ends_at = Some(tokio::time::Instant::now()),
                _ = terminate.recv(), if !is_ending => ends_at = Some(tokio::time::Instant::now()),
                () = tokio::time::sleep_until(until), if ends_at.is_some() || is_full => {}
            }
            while let Some(block) = blocks.take_block().map_err(|what| {
                Failure::runtime(what).hint("use a switchctl of the same version as the control node")
            })? {
                if !summary.take(&block, self.count) {
                    continue;
                }
                if !out.write(block.octets())? {
                    // Nobody reads on: what was written was wanted, and no more.
                    summary.complete = true;
                    return Ok(summary);
                }
            }
            out.flush()?;
            let is_due = ends_at.is_some_and(|at| at <= tokio::time::Instant::now());
            if is_due && is_ending {
                return Ok(summary);
            }
            if !is_ending && (is_due || self.count.is_some_and(|count| summary.frames >= count)) {
                is_ending = true;
                ends_at = Some(tokio::time::Instant::now() + END_TIME);
                stream.end(sockets).await;
            }
        }
    }
}

impl Summary {
    /// Counts a block; false when it is beyond the count and not to be written.
    fn take(&mut self, block: &Block<'_>, count: Option<u64>) -> bool {
        match block {
            Block::Packet(_) => {
                let is_wanted = count.is_none_or(|count| self.frames < count);
                self.frames += u64::from(is_wanted);
                is_wanted
            }
            Block::Statistics(_, Statistics { seen, matched, lost, comment }) => {
                (self.complete, self.is_told) = (true, true);
                self.seen += seen;
                self.matched += matched;
                self.lost += lost;
                if !comment.is_empty() {
                    eprintln!("note: {comment}");
                }
                true
            }
            Block::Other(_) => true,
        }
    }

    fn text(&self) -> String {
        let frames = |n: u64| if n == 1 { "1 frame".to_owned() } else { format!("{n} frames") };
        if !self.is_told {
            return format!("{} captured", frames(self.frames));
        }
        format!(
            "{} captured; {} passed, the filter kept {}, {} lost for want of room",
            frames(self.frames),
            self.seen,
            self.matched,
            self.lost
        )
    }
}

/// Where the blocks go.
enum Output {
    Standard,
    File(File, PathBuf),
}

impl Output {
    /// Writes a block; false when nobody reads any more.
    fn write(&mut self, octets: &[u8]) -> Result<bool, Failure> {
        let written = match self {
            Self::Standard => io::stdout().write_all(octets),
            Self::File(file, _) => file.write_all(octets),
        };
        self.check(written)
    }

    /// Readers of a pipe see what there is.
    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = match self {
            Self::Standard => io::stdout().flush(),
            Self::File(..) => Ok(()),
        };
        self.check(flushed).map(|_| ())
    }

    fn check(&self, result: io::Result<()>) -> Result<bool, Failure> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                let place = match self {
                    Self::Standard => "standard output".to_owned(),
                    Self::File(_, path) => path.display().to_string(),
                };
                Err(Failure::runtime(format!("cannot write to {place}: {error}")).hint("make room there"))
            }
        }
    }
}

/// The request that ends a capture.
pub(crate) fn end_request(capture: u32) -> (Method, &'static str, String) {
    let body = serde_json::to_string(&CaptureEnd { capture }).unwrap_or_default();
    (Method::POST, "/v1/capture/end", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_is_written_and_what_the_taps_say() {
        let mut summary = Summary::default();
        assert!(summary.take(&Block::Packet(&[]), Some(1)));
        assert!(!summary.take(&Block::Packet(&[]), Some(1)));
        let said = Statistics { seen: 9, matched: 4, lost: 2, comment: String::new() };
        assert!(summary.take(&Block::Statistics(&[], said.clone()), Some(1)));
        assert!(summary.take(&Block::Statistics(&[], said), Some(1)));
        assert_eq!(
            summary,
            Summary { frames: 1, seen: 18, matched: 8, lost: 4, complete: true, is_told: true }
        );
        assert_eq!(summary.text(), "1 frame captured; 18 passed, the filter kept 8, 4 lost for want of room");
    }
}
