//! Monotonic time as a value. It always comes from the caller: nothing below `io` reads a clock.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    pub const ZERO: Time = Time(0);
    /// Later than every deadline.
    pub const NEVER: Time = Time(u64::MAX);

    pub const fn from_micros(micros: u64) -> Time {
        Time(micros)
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`; zero if `earlier` lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The deadline `limit` after this time; never, without a limit.
    pub fn after(self, limit: Option<Duration>) -> Time {
        limit.map_or(Time::NEVER, |limit| self + limit)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, rest: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rest.as_micros()).unwrap_or(u64::MAX)))
    }
}
