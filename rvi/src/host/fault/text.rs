//! The text form of faults: `loss=5%,corrupt=1%,delay=2ms`.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::string::{String, ToString};

use super::faults::{Burst, DELAY_MAX, Faults, Probability, REORDER_BY_MAX, Reorder};

/// The faults that a list may have.
const NAMES: [&str; 7] = ["loss", "burst", "corrupt", "duplicate", "reorder", "delay", "jitter"];
/// How many overtake a datagram where the text does not say: as many as make TCP resend it.
const REORDER_BY: u16 = 3;
/// Units of time, their nanoseconds; the longest first, as `Display` wants them.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// A text is not a list of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultsError {
    /// An item is not of the form `name=value`.
    NoValue(String),
    /// There is no fault of this name.
    UnknownFault(String),
    /// A fault stands there twice.
    Twice(&'static str),
    /// The value of a fault is not a share such as `5%` or `0.01%`.
    Share {
        /// The fault.
        fault: &'static str,
        /// What stands there.
        value: String,
    },
    /// The value of a fault has more parts between slashes than it can have, or fewer than it must.
    Parts {
        /// The fault.
        fault: &'static str,
        /// What stands there.
        value: String,
    },
    /// The number of datagrams that overtake another is not between 1 and [`REORDER_BY_MAX`].
    Count(String),
    /// The value of a fault is not a time such as `2ms`.
    Time {
        /// The fault.
        fault: &'static str,
        /// What stands there.
        value: String,
    },
    /// A time is longer than [`DELAY_MAX`].
    TooLong {
        /// The fault.
        fault: &'static str,
        /// What stands there.
        value: String,
    },
}

impl fmt::Display for FaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(item) => write!(f, "\"{item}\" is no fault: write it as loss=5%"),
            Self::UnknownFault(name) => {
                write!(f, "there is no fault \"{name}\", but {} and off", NAMES.join(", "))
            }
            Self::Twice(fault) => write!(f, "{fault} stands there twice"),
            Self::Share { fault, value } => {
                write!(f, "{fault} takes a share from 0% to 100%, such as 5% or 0.01%, not \"{value}\"")
            }
            Self::Parts { fault: "burst", value } => {
                write!(f, "burst takes START/END or START/END/LOSS, such as 0.1%/10%, not \"{value}\"")
            }
            Self::Parts { fault, value } => {
                write!(f, "{fault} takes a share and a count, such as 2%/3, not \"{value}\"")
            }
            Self::Count(value) => {
                write!(f, "a datagram is overtaken by 1 to {REORDER_BY_MAX} others, not \"{value}\"")
            }
            Self::Time { fault, value } => {
                write!(f, "{fault} takes a whole number with ns, us, ms or s, such as 2ms, not \"{value}\"")
            }
            Self::TooLong { fault, value } => {
                write!(f, "{fault} can be {} at most, not \"{value}\"", Time(DELAY_MAX))
            }
        }
    }
}

impl core::error::Error for FaultsError {}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let mut faults = Self::NONE;
        if matches!(text.trim(), "" | "off") {
            return Ok(faults);
        }
        let mut seen = [false; NAMES.len()];
        for item in text.split(',').map(str::trim) {
            let (name, value) = item.split_once('=').ok_or_else(|| FaultsError::NoValue(item.to_string()))?;
            let (name, value) = (name.trim(), value.trim());
            let at = NAMES.iter().position(|n| *n == name);
            let at = at.ok_or_else(|| FaultsError::UnknownFault(name.to_string()))?;
            if core::mem::replace(&mut seen[at], true) {
                return Err(FaultsError::Twice(NAMES[at]));
            }
            set(&mut faults, NAMES[at], value)?;
        }
        Ok(faults)
    }
}

fn set(faults: &mut Faults, fault: &'static str, value: &str) -> Result<(), FaultsError> {
    match fault {
        "loss" => faults.loss = share(fault, value)?,
        "burst" => faults.burst = Some(burst(fault, value)?),
        "corrupt" => faults.corrupt = share(fault, value)?,
        "duplicate" => faults.duplicate = share(fault, value)?,
        "reorder" => faults.reorder = Some(reorder(fault, value)?),
        "delay" => faults.delay = time(fault, value)?,
        _ => faults.jitter = time(fault, value)?,
    }
    Ok(())
}

/// Reads `5%` or `0.0125%`: up to four decimals, so that each value is a whole number of millionths.
fn share(fault: &'static str, value: &str) -> Result<Probability, FaultsError> {
    let millionths = || {
        let number = value.strip_suffix('%')?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str, digits_max: usize| {
            (1..=digits_max).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(decimals, 4) {
            return None;
        }
        let decimals = decimals.parse::<u32>().ok()? * 10_u32.pow(4 - decimals.len() as u32);
        let millionths = whole.parse::<u32>().ok()? * 10_000 + decimals;
        (millionths <= Probability::ALWAYS.millionths()).then_some(millionths)
    };
    let wrong = || FaultsError::Share { fault, value: value.to_string() };
    millionths().map(Probability::from_millionths).ok_or_else(wrong)
}

/// Reads `START/END` or `START/END/LOSS`.
fn burst(fault: &'static str, value: &str) -> Result<Burst, FaultsError> {
    let mut parts = value.split('/').map(str::trim);
    let (Some(start), Some(end), loss, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FaultsError::Parts { fault, value: value.to_string() });
    };
    let loss = loss.map_or(Ok(Probability::ALWAYS), |loss| share(fault, loss))?;
    Ok(Burst { start: share(fault, start)?, end: share(fault, end)?, loss })
}

/// Reads `SHARE` or `SHARE/COUNT`.
fn reorder(fault: &'static str, value: &str) -> Result<Reorder, FaultsError> {
    let mut parts = value.split('/').map(str::trim);
    let (Some(probability), by, None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(FaultsError::Parts { fault, value: value.to_string() });
    };
    let by = match by {
        None => REORDER_BY,
        Some(text) => {
            let count = text.parse().ok().filter(|by| (1..=REORDER_BY_MAX).contains(by));
            count.ok_or_else(|| FaultsError::Count(text.to_string()))?
        }
    };
    Ok(Reorder { probability: share(fault, probability)?, by })
}

/// Reads `2ms`.
fn time(fault: &'static str, value: &str) -> Result<Duration, FaultsError> {
    let wrong = || FaultsError::Time { fault, value: value.to_string() };
    let too_long = || FaultsError::TooLong { fault, value: value.to_string() };
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let (_, nanos) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if number.is_empty() {
        return Err(wrong());
    }
    let nanos = number.parse::<u64>().ok().and_then(|number| number.checked_mul(nanos));
    nanos.map(Duration::from_nanos).filter(|time| *time <= DELAY_MAX).ok_or_else(too_long)
}

/// Writes the list that reads back as the same value; `off` when there is no fault.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("off");
        }
        let mut separator = "";
        let mut item = |name: &str, is_there: bool, value: &dyn fmt::Display| {
            if !is_there {
                return Ok(());
            }
            write!(f, "{separator}{name}={value}")?;
            separator = ",";
            Ok(())
        };
        item("loss", self.loss > Probability::NEVER, &self.loss)?;
        if let Some(Burst { start, end, loss }) = self.burst {
            item("burst", true, &format_args!("{start}/{end}/{loss}"))?;
        }
        item("corrupt", self.corrupt > Probability::NEVER, &self.corrupt)?;
        item("duplicate", self.duplicate > Probability::NEVER, &self.duplicate)?;
        if let Some(Reorder { probability, by }) = self.reorder {
            item("reorder", true, &format_args!("{probability}/{by}"))?;
        }
        item("delay", !self.delay.is_zero(), &Time(self.delay))?;
        item("jitter", !self.jitter.is_zero(), &Time(self.jitter))
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.millionths() / 10_000, self.millionths() % 10_000);
        if decimals == 0 {
            return write!(f, "{whole}%");
        }
        let digits = std::format!("{decimals:04}");
        write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
    }
}

/// A time in the largest unit that has a whole number of it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let is_whole = |unit: &&(&str, u64)| nanos.is_multiple_of(unit.1);
        let (name, unit) = UNITS.iter().find(is_whole).unwrap_or(&("ns", 1));
        write!(f, "{}{name}", nanos / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use std::string::ToString;

    fn parse(text: &str) -> Faults {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_fault_is_read() {
        assert_eq!(parse(""), Faults::NONE);
        assert_eq!(parse("off"), Faults::NONE);
        let all =
            "loss=5%, burst=0.1%/10%/90%,corrupt=1%,duplicate=0.0125%,reorder=2%/7,delay=2ms,jitter=500us";
        let share = Probability::from_millionths;
        let expected = Faults {
            loss: share(50_000),
            burst: Some(Burst { start: share(1_000), end: share(100_000), loss: share(900_000) }),
            corrupt: share(10_000),
            duplicate: share(125),
            reorder: Some(Reorder { probability: share(20_000), by: 7 }),
            delay: Duration::from_millis(2),
            jitter: Duration::from_micros(500),
        };
        assert_eq!(parse(all), expected);
        assert_eq!(parse("burst=1%/50%").burst.map(|burst| burst.loss), Some(Probability::ALWAYS));
        assert_eq!(parse("reorder=1%").reorder.map(|reorder| reorder.by), Some(3));
        assert_eq!(parse("loss=100%").loss, Probability::ALWAYS);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<Faults>().unwrap_err();
        assert_eq!(error("loss"), FaultsError::NoValue("loss".into()));
        assert_eq!(error("loss=1%,"), FaultsError::NoValue(String::new()));
        assert_eq!(error("lose=1%"), FaultsError::UnknownFault("lose".into()));
        assert_eq!(error("loss=1%,loss=1%"), FaultsError::Twice("loss"));
        for value in
            ["", "5", "%", "-1%", "101%", "1.23456%", "1.%", ".5%", "1e1%", "100.0001%", "1 %", "+1%"]
        {
            let wrong = FaultsError::Share { fault: "loss", value: value.into() };
            assert_eq!(error(&std::format!("loss={value}")), wrong);
        }
        for value in ["1%", "1%/1%/1%/1%"] {
            let wrong = FaultsError::Parts { fault: "burst", value: value.into() };
            assert_eq!(error(&std::format!("burst={value}")), wrong);
        }
        assert!(matches!(error("reorder=1%/2/3"), FaultsError::Parts { fault: "reorder", .. }));
        for count in ["0", "1025", "x", ""] {
            assert_eq!(error(&std::format!("reorder=1%/{count}")), FaultsError::Count(count.into()));
        }
        for value in ["", "2", "ms", "-2ms", "2m", "1.5ms", "2 ms"] {
            let wrong = FaultsError::Time { fault: "delay", value: value.into() };
            assert_eq!(error(&std::format!("delay={value}")), wrong);
        }
        for value in ["10001ms", "11s", "99999999999999999999s", "18446744073709551615s"] {
            let wrong = FaultsError::TooLong { fault: "jitter", value: value.into() };
            assert_eq!(error(&std::format!("jitter={value}")), wrong);
        }
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        let said = |text: &str| text.parse::<Faults>().unwrap_err().to_string();
        assert_eq!(
            said("lose=1%"),
            "there is no fault \"lose\", but loss, burst, corrupt, duplicate, reorder, delay, jitter and off"
        );
        assert_eq!(said("delay=60s"), "delay can be 10s at most, not \"60s\"");
        assert!(said("burst=1%").contains("START/END"));
    }

    fn a_share() -> impl Strategy<Value = Probability> {
        prop_oneof![0..=1_000_000_u32, (0..=100_u32).prop_map(|percent| percent * 10_000)]
            .prop_map(Probability::from_millionths)
    }

    fn a_time() -> impl Strategy<Value = Duration> {
        let unit = prop_oneof![Just(1_u64), Just(1_000), Just(1_000_000), Just(1_000_000_000)];
        (0..=10_u64, unit).prop_map(|(number, unit)| Duration::from_nanos(number * unit))
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            (loss, corrupt, duplicate) in (a_share(), a_share(), a_share()),
            burst in option::of((a_share(), a_share(), a_share())),
            reorder in option::of((a_share(), 1..=REORDER_BY_MAX)),
            (delay, jitter) in (a_time(), a_time()),
        ) {
            let burst = burst.map(|(start, end, loss)| Burst { start, end, loss });
            let reorder = reorder.map(|(probability, by)| Reorder { probability, by });
            let faults = Faults { loss, burst, corrupt, duplicate, reorder, delay, jitter };
            prop_assert_eq!(faults.to_string().parse(), Ok(faults));
        }

        #[test]
        fn no_text_is_a_panic(text: String, value in "[0-9a-z%/.]{0,12}", name in 0..NAMES.len()) {
            let _ = text.parse::<Faults>();
            if let Ok(faults) = std::format!("{}={value}", NAMES[name]).parse::<Faults>() {
                prop_assert_eq!(faults.to_string().parse(), Ok(faults));
            }
        }
    }
}
