//! Ground that everything stands on: checked byte cursors, buffers, time, timers, random numbers, limits.
//!
//! Nothing here knows PostgreSQL, sockets or threads.

pub mod address;
pub mod bytes;
pub mod chunk;
pub mod limits;
pub mod outbox;
pub mod peer;
pub mod relay;
pub mod rng;
pub mod sabotage;
pub mod sync;
pub mod time;
pub mod timer;

/// What must hold. Panics in debug builds, tests, fuzzing and simulation; in a release build it ends the
/// session that broke it: the enclosing function returns `$end`, which the caller turns into a close.
#[macro_export]
macro_rules! invariant {
    ($cond:expr, $end:expr, $($text:tt)+) => {
        if !$cond {
            if cfg!(any(debug_assertions, fuzzing)) {
                panic!($($text)+);
            }
            log::error!($($text)+);
            return $end;
        }
    };
}
