//! The figure, and its ratio to the raw limit of the same run.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::broadcast::Finding;
use crate::process::{Figure, Run};
use crate::udp::{Findings, Settings};
use crate::{handshake, idle};

/// Prints a line. Whoever read the others may have seen enough: that is no failure.
fn say(line: fmt::Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    mode: &'a str,
    size: usize,
    legs: u8,
    cores: [usize; 2],
    seconds: f64,
    frames_per_second: f64,
    gigabits_per_second: f64,
    nanoseconds_per_frame: f64,
    lost: u64,
    raw_ring_frames_per_second: f64,
    ratio_to_raw_ring: f64,
}

pub fn print(mode: &str, run: &Run, figure: Figure, raw: Figure, json: bool) -> anyhow::Result<()> {
    let rate = figure.rate();
    let raw_rate = raw.rate();
    let report = Report {
        mode,
        size: run.size,
        legs: run.legs,
        cores: run.cores,
        seconds: figure.elapsed.as_secs_f64(),
        frames_per_second: rate,
        gigabits_per_second: rate * run.size as f64 * 8.0 / 1e9,
        nanoseconds_per_frame: 1e9 / rate,
        lost: figure.lost,
        raw_ring_frames_per_second: raw_rate,
        ratio_to_raw_ring: rate / raw_rate,
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        say(format_args!(
            "{mode} {} octets, {} leg(s), cores {},{}: {:.2} M frames/s, {:.1} Gbit/s, {:.1} ns a frame, {} lost; \
             {:.2} of a raw memory ring ({:.2} M/s)",
            run.size,
            run.legs,
            run.cores[0],
            run.cores[1],
            rate / 1e6,
            report.gigabits_per_second,
            report.nanoseconds_per_frame,
            figure.lost,
            report.ratio_to_raw_ring,
            raw_rate / 1e6,
        ))?;
    }
    anyhow::ensure!(figure.lost == 0, "{} frames were lost, duplicated or reordered", figure.lost);
    Ok(())
}

#[derive(Serialize)]
struct BroadcastReport {
    mode: &'static str,
    size: usize,
    members: u8,
    cores: [usize; 2],
    delivered_per_second: [f64; 2],
    server_nanoseconds_per_delivered_frame: [f64; 2],
    ratio: f64,
    lost: u64,
}

/// Copied frames first, then frames that are written once.
pub fn print_broadcast(run: &Run, members: u8, findings: &[Finding; 2], json: bool) -> anyhow::Result<()> {
    let nanos = findings.map(|finding| finding.nanos());
    let report = BroadcastReport {
        mode: "broadcast",
        size: run.size,
        members,
        cores: run.cores,
        delivered_per_second: findings.map(|f| f.delivered as f64 / f.elapsed.as_secs_f64()),
        server_nanoseconds_per_delivered_frame: nanos,
        ratio: nanos[0] / nanos[1],
        lost: findings[0].lost + findings[1].lost,
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        say(format_args!(
            "broadcast {} octets to {members} members, server on core {}: {:.1} ns for each frame that is delivered by copy, {:.1} ns \
             written once, {:.1} times less; {:.2} and {:.2} M frames/s, {} lost",
            run.size,
            run.cores[1],
            nanos[0],
            nanos[1],
            report.ratio,
            report.delivered_per_second[0] / 1e6,
            report.delivered_per_second[1] / 1e6,
            report.lost,
        ))?;
    }
    anyhow::ensure!(report.lost == 0, "{} frames were lost, duplicated or reordered", report.lost);
    Ok(())
}

/// A raw limit: nothing to compare it with, and loss belongs to it.
#[derive(Serialize)]
struct RawReport<'a> {
    mode: &'a str,
    size: usize,
    cores: [usize; 2],
    seconds: f64,
    datagrams_per_second: f64,
    gigabits_per_second: f64,
    lost: u64,
}

pub fn print_raw(mode: &str, run: &Run, figure: Figure, json: bool) -> anyhow::Result<()> {
    let rate = figure.rate();
    let report = RawReport {
        mode,
        size: run.size,
        cores: run.cores,
        seconds: figure.elapsed.as_secs_f64(),
        datagrams_per_second: rate,
        gigabits_per_second: rate * run.size as f64 * 8.0 / 1e9,
        lost: figure.lost,
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        say(format_args!(
            "{mode} {} octets, cores {},{}: {:.2} M datagrams/s, {:.1} Gbit/s arrived; {} did not fit into the receiver's \
             buffer",
            run.size,
            run.cores[0],
            run.cores[1],
            rate / 1e6,
            report.gigabits_per_second,
            figure.lost,
        ))?;
    }
    Ok(())
}

/// Messages over UDP, and the raw stream beside them.
#[derive(Serialize)]
struct UdpReport<'a> {
    mode: &'a str,
    size: usize,
    legs: u8,
    trusted: bool,
    loss_percent: u32,
    packet_len_max: usize,
    cores: [usize; 2],
    seconds: f64,
    messages_per_second: f64,
    gigabits_per_second: f64,
    /// CPU time for each octet of messages: of the sender, of the receiver.
    nanoseconds_per_octet: [f64; 2],
    packets_lost: u64,
    packets_rescued: u64,
    packets_spurious: u64,
    kernel_drops: u64,
    lost: u64,
    raw_gigabits_per_second: f64,
    ratio_to_raw_udp: f64,
}

pub fn print_udp(run: &Run, settings: &Settings, findings: &Findings, json: bool) -> anyhow::Result<()> {
    let Findings { figure, raw, .. } = findings;
    let octets = figure.frames as f64 * run.size as f64;
    let gigabits = figure.rate() * run.size as f64 * 8.0 / 1e9;
    let raw_gigabits = raw.rate() * settings.packet_len_max as f64 * 8.0 / 1e9;
    let report = UdpReport {
        mode: settings.kind,
        size: run.size,
        legs: run.legs,
        trusted: settings.is_trusted,
        loss_percent: settings.loss_percent,
        packet_len_max: settings.packet_len_max,
        cores: run.cores,
        seconds: figure.elapsed.as_secs_f64(),
        messages_per_second: figure.rate(),
        gigabits_per_second: gigabits,
        nanoseconds_per_octet: figure.cpu.map(|time| time.as_nanos() as f64 / octets),
        packets_lost: findings.packets_lost,
        packets_rescued: findings.packets_rescued,
        packets_spurious: findings.packets_spurious,
        kernel_drops: findings.kernel_drops,
        lost: figure.lost,
        raw_gigabits_per_second: raw_gigabits,
        ratio_to_raw_udp: gigabits / raw_gigabits,
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        print_udp_text(&report)?;
    }
    anyhow::ensure!(figure.lost == 0, "{} messages were lost, duplicated or reordered", figure.lost);
    Ok(())
}

fn print_udp_text(report: &UdpReport<'_>) -> anyhow::Result<()> {
    say(format_args!(
        "{} {} octets, {} leg(s), {}, {} % loss, packets of {}, cores {},{}: {:.3} M messages/s, {:.2} Gbit/s; CPU {:.2} + \
         {:.2} ns an octet; of the sender's packets {} lost, {} sent again unproven ({} of them needlessly), {} without room \
         in the kernel; {} messages lost; {:.2} of the raw stream ({:.1} Gbit/s)",
        report.mode,
        report.size,
        report.legs,
        if report.trusted { "trusted" } else { "encrypted" },
        report.loss_percent,
        report.packet_len_max,
        report.cores[0],
        report.cores[1],
        report.messages_per_second / 1e6,
        report.gigabits_per_second,
        report.nanoseconds_per_octet[0],
        report.nanoseconds_per_octet[1],
        report.packets_lost,
        report.packets_rescued,
        report.packets_spurious,
        report.kernel_drops,
        report.lost,
        report.ratio_to_raw_udp,
        report.raw_gigabits_per_second,
    ))
}

/// Handshakes of one thread that plays both ends.
#[derive(Serialize)]
struct HandshakeReport<'a> {
    mode: &'a str,
    legs: u8,
    handshakes_per_second: f64,
    initiator_microseconds: f64,
    responder_microseconds: f64,
    cookies_per_second: f64,
}

pub fn print_handshake(run: &Run, findings: &handshake::Findings, json: bool) -> anyhow::Result<()> {
    let count = findings.handshakes as f64;
    let [initiator, responder] = findings.times.map(|time| time.as_secs_f64() / count);
    let report = HandshakeReport {
        mode: "handshake",
        legs: run.legs,
        handshakes_per_second: 1.0 / (initiator + responder),
        initiator_microseconds: initiator * 1e6,
        responder_microseconds: responder * 1e6,
        cookies_per_second: findings.cookies as f64 / findings.cookies_time.as_secs_f64(),
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        say(format_args!(
            "handshake over {} leg(s), core {}: {:.0} a second in one thread ({:.0} us of the initiator, {:.0} us of the \
             responder); {:.0} CONNECTs a second answered with a cookie",
            run.legs,
            run.cores[0],
            report.handshakes_per_second,
            report.initiator_microseconds,
            report.responder_microseconds,
            report.cookies_per_second,
        ))?;
    }
    Ok(())
}

/// Idle associations of one process.
#[derive(Serialize)]
struct IdleReport<'a> {
    mode: &'a str,
    legs: u8,
    associations: u32,
    octets_each: f64,
    packets_per_second: f64,
    probes_per_second: f64,
    cpu_percent: f64,
}

pub fn print_idle(run: &Run, count: u32, findings: &idle::Findings, json: bool) -> anyhow::Result<()> {
    let report = IdleReport {
        mode: "idle",
        legs: run.legs,
        associations: count,
        octets_each: findings.octets_each,
        packets_per_second: findings.packets_per_second,
        probes_per_second: findings.probes_per_second,
        cpu_percent: 100.0 * findings.cpu_per_second.as_secs_f64(),
    };
    if json {
        say(format_args!("{}", serde_json::to_string(&report)?))?;
    } else {
        say(format_args!(
            "idle, {count} associations of {} leg(s): {:.0} octets each; a process sends {:.0} packets a second, {:.0} of \
             them probes, for {:.1} % of a core",
            run.legs,
            report.octets_each,
            report.packets_per_second,
            report.probes_per_second,
            report.cpu_percent,
        ))?;
    }
    Ok(())
}
