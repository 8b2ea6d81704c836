//! The deterministic simulator of Weft: `Node` and `ControlNode` as they ship, a simulated clock, shared-memory and
//! packet legs, model IP stacks, a menu of faults, and checkers after every step.
//!
//! A run is a function of its [`plan::Plan`], which is a function of a seed. [`runner`] runs seeds, [`scenarios`]
//! holds the named ones, [`world::World`] is the simulated platform. [`packet`] is the simulator of one association
//! over packet legs.

pub mod checker;
pub mod command;
pub mod coverage;
pub mod event;
pub mod frame;
pub mod journal;
pub mod memberships;
pub mod packet;
pub mod plan;
pub mod runner;
pub mod scenarios;
pub mod segment;
pub mod simulation;
pub mod stack;
pub mod world;
