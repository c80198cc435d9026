//! The process around the workers: listens, deals clients out, keeps pools up, reloads, shuts down.

mod accept;
mod helper;
mod process;

pub use process::{Faults, Process, run};
