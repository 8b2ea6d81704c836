//! Which frames a capture keeps: an expression that people write, the program that it becomes, and the look at a frame
//! that the program needs.
//!
//! | file | is |
//! |---|---|
//! | `expression.rs` | the text of a filter, read into a program |
//! | `program.rs` | the program as octets, checked before it is run |
//! | `headers.rs` | what a program can ask about a frame |
//! | `copies.rs` | the copies of one tap, on their way |
//!
//! A control node reads the expression, because it knows the members' names; nodes are sent the program, which is small,
//! checked once and runs in bounded time on any octets. Rules: `spec/capture.md`.

mod copies;
mod expression;
mod headers;
mod program;

pub use copies::{Copies, Original};
pub use expression::{ExpressionError, NESTING_MAX, compile};
pub use headers::Headers;
pub use program::{FILTER_OCTETS_MAX, FILTER_STACK_MAX, Filter, FilterError, Side, Test};
