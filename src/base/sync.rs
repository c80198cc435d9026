//! The locks whose every interleaving is tried: with `--cfg pgdog_loom`, the unit tests get loom's instead of std's
//! (`make loom`).

#[cfg(not(all(test, pgdog_loom)))]
pub use std::sync::Mutex;

#[cfg(all(test, pgdog_loom))]
pub use loom::sync::Mutex;
