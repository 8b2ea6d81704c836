//! How a command fails: what is printed and the exit code, from one table.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every binary of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed while running.
    Runtime = 1,
    /// The command line or the configuration is wrong, or this process has been replaced (FENCED): starting the
    /// same again cannot help.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends: `error: what`, `hint: what to do`, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, without a full stop.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Something failed while running.
    pub fn runtime(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Runtime, error: error.to_string(), hint: None }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, error: error.to_string(), hint: None }
    }

    /// The configuration is wrong, as a report of `error:` and `hint:` lines says.
    #[must_use]
    pub fn from_report(report: &str) -> Self {
        Self::usage(report.strip_prefix("error: ").unwrap_or(report).trim_end())
    }

    /// The command line is wrong, in the words of the parser of command lines, whose pointer to the help becomes the hint.
    /// None when the words are the help itself.
    #[must_use]
    pub fn from_command_line(words: &str) -> Option<Self> {
        let words = words.strip_prefix("error: ")?.trim_end();
        let words = words.strip_suffix("For more information, try '--help'.").unwrap_or(words).trim_end();
        Some(Self::usage(words).hint("put `--help` behind the command to see what it takes"))
    }

    /// Says what to do about it; nothing, when `hint` is empty.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        let hint = hint.to_string();
        self.hint = (!hint.is_empty()).then_some(hint);
        self
    }

    /// Prints it on standard error.
    pub fn print(&self) {
        eprintln!("{self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when something failed.
pub trait Doing<T> {
    /// Turns the error into a runtime failure that begins with `doing`.
    ///
    /// # Errors
    ///
    /// When `self` is one.
    fn doing(self, doing: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::runtime(format_args!("{doing}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_an_error_line_and_a_hint_line() {
        let failure = Failure::usage("no such node: web9").hint("the file has web1 and web2");
        assert_eq!(failure.to_string(), "error: no such node: web9\nhint: the file has web1 and web2");
        assert_eq!(failure.exit as u8, 2);
        assert_eq!(Failure::runtime("gone").exit as u8, 1);
        assert_eq!(Failure::runtime("gone").hint("").to_string(), "error: gone");
    }

    #[test]
    fn a_report_is_printed_as_it_is() {
        let report = "error: lab.toml:3:1: what\nhint: do\nerror: lab.toml:4:1: that\nhint: do\n";
        let failure = Failure::from_report(report);
        assert_eq!(format!("{failure}\n"), report);
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn a_wrong_command_line_has_a_hint_and_help_is_none() {
        let words =
            "error: unexpected argument 'x' found\n\nUsage: p run\n\nFor more information, try '--help'.\n";
        let failure = Failure::from_command_line(words).unwrap().to_string();
        let expected = "error: unexpected argument 'x' found\n\nUsage: p run\nhint: put `--help` behind the command to see \
                        what it takes";
        assert_eq!(failure, expected);
        assert_eq!(Failure::from_command_line("Does things\n\nUsage: p <COMMAND>\n"), None);
    }

    #[test]
    fn a_failed_step_says_what_was_being_done() {
        let step: Result<(), _> = Err("permission denied").doing("cannot open the door");
        assert_eq!(step.unwrap_err().error, "cannot open the door: permission denied");
    }
}
