//! What the demo shows while it runs: a table that is drawn again in place on a terminal, else a line a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::ledger::{Flow, FlowTally, Tally};

/// How often a terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who sends to whom and over what.
    pub name: String,
    /// Its counts.
    pub tally: FlowTally,
}

/// The demo's output.
#[derive(Debug)]
pub struct Screen {
    start: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
    /// Lines of the table that stand on the terminal now.
    lines: usize,
    /// When arrivals were counted last, and how many of each flow there were.
    counted: Option<(Instant, Vec<u64>)>,
    /// Arrivals a second of each flow, between the last two counts.
    rates: Vec<u64>,
}

impl Screen {
    /// Writes to standard output, counting time from `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { start, drawn: None, is_terminal, lines: 0, counted: None, rates: Vec::new() }
    }

    /// Says what the demo does now. It stays above the table.
    pub fn say(&mut self, now: Instant, what: &str) {
        self.erase();
        let seconds = now.duration_since(self.start).as_secs_f64();
        print(&format!("{seconds:5.1} s  {what}\n"));
        // The table comes back under the new line.
        self.drawn = None;
    }

    /// True when the table has been on the screen for long enough.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let every = if self.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= every)
    }

    /// Shows how things stand.
    pub fn show(&mut self, now: Instant, rows: &[Row]) {
        self.count(now, rows);
        if self.is_terminal {
            self.erase();
            let text = table(rows, &self.rates);
            self.lines = text.lines().count();
            print(&text);
        } else {
            print(&line(now.duration_since(self.start), rows, &self.rates));
        }
        self.drawn = Some(now);
    }

    /// Makes the rates, if enough time has passed for that.
    fn count(&mut self, now: Instant, rows: &[Row]) {
        let arrived = |row: &Row| row.tally.living.received + row.tally.apart.received;
        let received: Vec<u64> = rows.iter().map(arrived).collect();
        let since = self.counted.as_ref().map(|(at, before)| (now.duration_since(*at), before));
        match since {
            Some((span, _)) if span < DRAW_EVERY => return,
            Some((span, before)) => {
                let pairs = received.iter().zip(before);
                self.rates = pairs.map(|(now, before)| rate(now.saturating_sub(*before), span)).collect();
            }
            None => self.rates = vec![0; rows.len()],
        }
        self.counted = Some((now, received));
    }

    /// Leaves the last table where it stands, with mean rates, and prints under it.
    pub fn finish(&mut self, rows: &[Row], sending: Duration, text: &str) {
        self.erase();
        let mean = |row: &Row| rate(row.tally.living.received + row.tally.apart.received, sending);
        print(&table(rows, &rows.iter().map(mean).collect::<Vec<_>>()));
        print(text);
        self.lines = 0;
    }

    fn erase(&mut self) {
        if self.lines > 0 {
            // ECMA-48: up so many lines (CUU), then erase to the end of the screen (ED).
            print(&format!("\x1b[{}A\x1b[J", self.lines));
            self.lines = 0;
        }
    }
}

/// The row of a flow.
#[must_use]
pub fn row(names: &[String], flow: &Flow, tally: FlowTally) -> Row {
    let version = if flow.is_ipv6 { "IPv6" } else { "IPv4" };
    Row { name: format!("{} -> {} {version}", names[flow.from], names[flow.to]), tally }
}

fn rate(arrived: u64, span: Duration) -> u64 {
    if span.is_zero() { 0 } else { (arrived as f64 / span.as_secs_f64()).round() as u64 }
}

fn table(rows: &[Row], rates: &[u64]) -> String {
    let mut text = format!(
        "  {:<20}{:>9}{:>10}{:>7}{:>12}{:>11}{:>8}   {}\n",
        "datagrams",
        "sent",
        "received",
        "lost",
        "duplicated",
        "reordered",
        "per s",
        "counted apart: lost of sent"
    );
    for (row, rate) in rows.iter().zip(rates) {
        let Tally { sent, received, lost, duplicated, reordered } = row.tally.living;
        let apart = match row.tally.apart {
            Tally { sent: 0, .. } => String::new(),
            apart => format!("   {} of {}", apart.lost, apart.sent),
        };
        text.push_str(&format!(
            "  {:<20}{sent:>9}{received:>10}{lost:>7}{duplicated:>12}{reordered:>11}{rate:>8}{apart}\n",
            row.name
        ));
    }
    text
}

fn line(since: Duration, rows: &[Row], rates: &[u64]) -> String {
    let mut all = FlowTally::default();
    for row in rows {
        all.living += row.tally.living;
        all.apart += row.tally.apart;
    }
    format!(
        "{:5.1} s  {} sent, {} received, {} lost, {} duplicated, {} reordered, {} per s; apart: {} lost of {}\n",
        since.as_secs_f64(),
        all.living.sent,
        all.living.received,
        all.living.lost,
        all.living.duplicated,
        all.living.reordered,
        rates.iter().sum::<u64>(),
        all.apart.lost,
        all.apart.sent
    )
}

/// Standard output that nobody reads any more is no reason to stop: the processes are still to be cleaned up.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_flow_and_says_what_is_counted_apart() {
        let names = ["web1".to_owned(), "web2".to_owned()];
        let flow = Flow { from: 0, to: 1, is_ipv6: true, ..Flow::default() };
        let living = Tally { sent: 10, received: 10, ..Tally::default() };
        let apart = Tally { sent: 4, lost: 3, received: 1, ..Tally::default() };
        let rows = [row(&names, &flow, FlowTally { living, apart })];
        let text = table(&rows, &[7]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("web1 -> web2 IPv6") && text.contains("3 of 4"), "{text}");
    }

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(rate(100, Duration::from_millis(500)), 200);
        assert_eq!(rate(100, Duration::ZERO), 0);
    }
}
