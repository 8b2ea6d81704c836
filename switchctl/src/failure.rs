//! How a command fails: `error: what`, `hint: what to do`, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// The exit codes beside 0, "it worked".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It failed while running.
    Runtime = 1,
    /// The command line or the platform file is wrong.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Whole lines for standard error.
    text: String,
}

impl Failure {
    /// Something failed while running.
    pub fn runtime(error: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::new(Exit::Runtime, &error, &hint)
    }

    /// The command line is wrong.
    pub fn usage(error: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, &error, &hint)
    }

    /// The platform file is wrong: `report` has the lines for standard error.
    pub fn report(report: String) -> Self {
        Self { exit: Exit::Usage, text: report }
    }

    fn new(exit: Exit, error: &dyn fmt::Display, hint: &dyn fmt::Display) -> Self {
        let mut text = format!("error: {error}\n");
        let hint = hint.to_string();
        if !hint.is_empty() {
            text = format!("{text}hint: {hint}\n");
        }
        Self { exit, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_an_error_line_and_a_hint_line_if_there_is_one() {
        assert_eq!(Failure::usage("what", "do").to_string(), "error: what\nhint: do\n");
        assert_eq!(Failure::runtime("what", "").to_string(), "error: what\n");
        assert_eq!((Exit::Runtime as u8, Exit::Usage as u8), (1, 2));
    }
}
