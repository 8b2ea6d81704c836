//! The figure, and its ratio to the raw ring of the same run.

use serde::Serialize;

use crate::process::{Figure, Run};

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
    let rate = figure.frames as f64 / figure.elapsed.as_secs_f64();
    let raw_rate = raw.frames as f64 / raw.elapsed.as_secs_f64();
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
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
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
        );
    }
    anyhow::ensure!(figure.lost == 0, "{} frames were lost, duplicated or reordered", figure.lost);
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
    let rate = figure.frames as f64 / figure.elapsed.as_secs_f64();
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
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{mode} {} octets, cores {},{}: {:.2} M datagrams/s, {:.1} Gbit/s arrived; {} did not fit into the receiver's \
             buffer",
            run.size,
            run.cores[0],
            run.cores[1],
            rate / 1e6,
            report.gigabits_per_second,
            figure.lost,
        );
    }
    Ok(())
}
