//! Line plots as SVG: axes, grid, one line for each series, a legend.

use std::fmt::Write;

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What the horizontal axis shows, with its unit.
    pub x: &'static str,
    /// What the vertical axis shows, with its unit.
    pub y: &'static str,
    /// The vertical axis is logarithmic.
    pub is_log: bool,
    /// The lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Left, top, right and bottom of the area between the axes.
const AREA: (f64, f64, f64, f64) = (70.0, 20.0, 740.0, 360.0);
const COLOURS: [&str; 6] = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#566573"];

/// A range of values and where it lies on the page.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, (from, to): (f64, f64), is_log: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| v.is_finite() && (!is_log || *v > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if is_log {
            (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
        } else {
            low = low.min(0.0);
        }
        if low >= high {
            high = low + 1.0;
        }
        Self { low, high, from, to, is_log }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values along the axis.
    fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let (first, last) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
            return (first..=last).map(|power| 10_f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

impl Plot {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|s| s.points.iter());
        let x = Axis::new(points().map(|p| p.0), (AREA.0, AREA.2), false);
        let y = Axis::new(points().map(|p| p.1), (AREA.3, AREA.1), self.is_log);
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        );
        self.draw_grid(&mut svg, &x, &y);
        for (place, series) in self.series.iter().enumerate() {
            draw_series(&mut svg, (&x, &y), series, place);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_grid(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (left, top, right, bottom) = AREA;
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e5e5e5\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                label(tick)
            );
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e5e5e5\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 4.0,
                label(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(left, right),
            bottom + 38.0,
            escaped(self.x),
            f64::midpoint(top, bottom),
            escaped(self.y)
        );
    }
}

fn draw_series(svg: &mut String, (x, y): (&Axis, &Axis), series: &Series, place: usize) {
    let colour = COLOURS[place % COLOURS.len()];
    let mut path = String::new();
    for (n, (at, value)) in series.points.iter().enumerate() {
        let command = if n == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", x.place(*at), y.place(*value));
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
    if series.points.len() <= 24 {
        for (at, value) in &series.points {
            let (cx, cy) = (x.place(*at), y.place(*value));
            let _ = writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
    let line = AREA.1 + 14.0 + 16.0 * place as f64;
    let _ = writeln!(
        svg,
        "<path d=\"M{} {:.1}h20\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{line:.1}\">{}</text>",
        AREA.2 - 230.0,
        line - 4.0,
        AREA.2 - 204.0,
        escaped(&series.name)
    );
}

fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_labels_and_round_ticks() {
        let series = |name: &str| Series { name: name.into(), points: vec![(0.0, 1.0), (10.0, 900.0)] };
        let plot =
            Plot { x: "loss, %", y: "time, ms", is_log: true, series: vec![series("a < b"), series("c")] };
        let svg = plot.svg();
        assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 2);
        assert!(svg.contains(">1000</text>") && svg.contains("a &lt; b") && svg.contains("loss, %"));
        let axis = Axis::new([3.0, 97.0].into_iter(), (0.0, 100.0), false);
        assert_eq!(axis.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
    }
}
