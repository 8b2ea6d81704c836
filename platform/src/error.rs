//! What can be wrong with a platform file, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A place in the text: line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters (Unicode scalar values), from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One mistake in a platform file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it stands.
    pub position: Position,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// A key or value whose part of the product is not built yet: fine for `check`, refused by `run` and `lab`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotBuilt {
    /// Where it stands.
    pub position: Position,
    /// What is asked for, such as `a udp leg`.
    pub what: String,
}

/// Why a platform file was not accepted. Nothing of it is in force then.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlatformError {
    /// The file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is longer than a platform file may be.
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest that is read, in octets.
        limit: usize,
    },
    /// The text says something wrong: one mistake of syntax, or every mistake of meaning, by position.
    Mistakes {
        /// The file.
        path: PathBuf,
        /// At least one, sorted by position.
        mistakes: Vec<Mistake>,
    },
}

impl PlatformError {
    /// The mistakes with their positions; none when the file could not even be read.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Mistakes { mistakes, .. } => mistakes,
            Self::Read { .. } | Self::TooLong { .. } => &[],
        }
    }

    /// The text for standard error: for each mistake a line `error: FILE:LINE:COLUMN: what` and a line
    /// `hint: what to do`, each ended by a newline.
    //= spec/platform-file.md#positions
    //# Every mistake MUST be reported as FILE:LINE:COLUMN, what is wrong, and a hint that says what to do.
    #[must_use]
    pub fn report(&self) -> String {
        match self {
            Self::Read { path, source } => {
                format!(
                    "error: {}: {source}\nhint: give the path of a platform file that can be read\n",
                    path.display()
                )
            }
            Self::TooLong { path, limit } => {
                format!(
                    "error: {}: longer than {limit} octets\nhint: give the path of a platform file\n",
                    path.display()
                )
            }
            Self::Mistakes { path, mistakes } => mistakes
                .iter()
                .map(|m| format!("error: {}:{}: {}\nhint: {}\n", path.display(), m.position, m.what, m.hint))
                .collect(),
        }
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{}: {source}", path.display()),
            Self::TooLong { path, limit } => write!(f, "{}: longer than {limit} octets", path.display()),
            Self::Mistakes { path, mistakes } => {
                for (index, m) in mistakes.iter().enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    write!(f, "{newline}{}:{}: {} ({})", path.display(), m.position, m.what, m.hint)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for PlatformError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::TooLong { .. } | Self::Mistakes { .. } => None,
        }
    }
}
