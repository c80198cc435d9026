//! Ground that everything stands on: checked byte cursors, buffers, time, timers, random numbers, limits.
//!
//! Nothing here knows PostgreSQL, sockets or threads.

pub mod rng;
pub mod time;
