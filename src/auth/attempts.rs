//! Failed logins by where they come from: guessing has to be slow, and who guesses must not lock out others.
//!
//! A user's failures from one address count together. After [`FREE`] of them every further attempt of that user from that
//! address gets a place in a line, each place twice as far from the one before as the last, up to [`PAUSE_MAX`]; once the
//! line is longer than [`LINE_MAX`], attempts are refused without a look at the password. A verdict waits for its place, too,
//! if the line began while the client proved itself. Other users and other addresses
//! do not stand in that line. All failures of one address, whoever it wants to be, have a line of their own, which begins
//! later, is never closed, and never makes anybody wait longer than [`ADDRESS_WAIT_MAX`]: many clients may share an address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::time::Time;

/// Failures that cost nothing: typing errors, and applications with an old password.
pub const FREE: u32 = 5;
/// The same for all users of one address.
pub const ADDRESS_FREE: u32 = 50;
/// The first pause between two attempts.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);
pub const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest wait for a place in a line.
pub const LINE_MAX: Duration = Duration::from_secs(10);
pub const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Failures are forgotten after so long without another one.
pub const MEMORY: Duration = Duration::from_secs(60);
/// Lines that are remembered; the one with the oldest failure goes first.
pub const LINES_MAX: usize = 10_000;
/// Longest user name that is told apart: PostgreSQL's own are at most 63 bytes long.
const USER_BYTES_MAX: usize = 63;

/// When an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Now,
    At(Time),
    Refused,
}

/// An address (none: a Unix socket of this machine), and a user of it or all.
type Key = (Option<IpAddr>, Option<Box<[u8]>>);

#[derive(Debug)]
struct Line {
    failures: u32,
    /// Places that have been taken.
    places: u32,
    /// The last failure; tells lines apart in `by_age` together with the key.
    last: Time,
    /// From when on the next place is free.
    next: Time,
}

#[derive(Debug, Default)]
pub struct Attempts {
    lines: BTreeMap<Key, Line>,
    by_age: BTreeMap<(Time, Key), ()>,
}

impl Attempts {
    /// Whether a client may try to prove that it is `user`, and when. It takes a place in the line.
    pub fn admit(&mut self, address: impl Into<Option<IpAddr>> + Copy, user: &str, now: Time) -> Admission {
        let user_at = match self.place(&key(address, Some(user)), FREE, now) {
            Some(at) if at.since(now) > LINE_MAX => return Admission::Refused,
            at => at,
        };
        let address_at =
            self.place(&key(address, None), ADDRESS_FREE, now).map(|at| at.min(now + ADDRESS_WAIT_MAX));
        match user_at.max(address_at) {
            Some(at) if at > now => Admission::At(at),
            _ => Admission::Now,
        }
    }

    /// The next place in a line; none where nobody has to wait.
    fn place(&mut self, key: &Key, free: u32, now: Time) -> Option<Time> {
        let line = self.lines.get_mut(key)?;
        if now.since(line.last) >= MEMORY || line.failures < free {
            return None;
        }
        let at = line.next.max(now);
        // Who is refused takes no place, or the line would never get shorter.
        if at.since(now) <= LINE_MAX {
            line.next = at + (PAUSE_MIN * (1 << line.places.min(8))).min(PAUSE_MAX);
            line.places += 1;
        }
        Some(at)
    }

    /// A client has not proved that it is `user`.
    pub fn failed(&mut self, address: impl Into<Option<IpAddr>> + Copy, user: &str, now: Time) {
        for key in [key(address, Some(user)), key(address, None)] {
            let old = self.lines.remove(&key);
            if let Some(line) = &old {
                self.by_age.remove(&(line.last, key.clone()));
            } else if self.lines.len() >= LINES_MAX
                && let Some(((_, oldest), ())) = self.by_age.pop_first()
            {
                self.lines.remove(&oldest);
            }
            let old = old.filter(|line| now.since(line.last) < MEMORY);
            let mut line = old.unwrap_or(Line { failures: 0, places: 0, last: now, next: now });
            line.failures = line.failures.saturating_add(1);
            line.last = now;
            self.by_age.insert((now, key.clone()), ());
            self.lines.insert(key, line);
        }
    }

    /// A client has proved that it is `user`: its failures were its own. Those of its address stay: one account of an
    /// attacker must not make guessing at others free.
    pub fn succeeded(&mut self, address: impl Into<Option<IpAddr>> + Copy, user: &str) {
        if self.lines.is_empty() {
            return;
        }
        let key = key(address, Some(user));
        if let Some(line) = self.lines.remove(&key) {
            self.by_age.remove(&(line.last, key));
        }
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// The host of an IPv6 address may be any of its network's: they count as one.
fn key(address: impl Into<Option<IpAddr>> + Copy, user: Option<&str>) -> Key {
    let address = address.into().map(|address| match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    });
    let user = user.map(|user| user.as_bytes()[..user.len().min(USER_BYTES_MAX)].into());
    (address, user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn failed(times: u32) -> Attempts {
        let mut attempts = Attempts::default();
        (0..times).for_each(|_| attempts.failed(HERE, "alice", at(0)));
        attempts
    }

    #[test]
    fn a_few_failures_cost_nothing() {
        let mut attempts = failed(FREE - 1);
        assert_eq!(attempts.admit(HERE, "alice", at(0)), Admission::Now);
    }

    #[test]
    fn then_there_is_a_line_and_it_is_bounded() {
        let mut attempts = failed(FREE + 3);
        let mut places = Vec::new();
        loop {
            match attempts.admit(HERE, "alice", at(0)) {
                Admission::Refused => break,
                Admission::Now => places.push(0),
                Admission::At(time) => places.push(time.since(at(0)).as_millis()),
            }
        }
        assert_eq!(places, [0, 100, 300, 700, 1_500, 3_100, 5_100, 7_100, 9_100]);
        assert_eq!(attempts.admit(HERE, "alice", at(0)), Admission::Refused);
        assert_eq!(attempts.admit(HERE, "bob", at(0)), Admission::Now, "another user");
        assert_eq!(attempts.admit(THERE, "alice", at(0)), Admission::Now, "another address");
        // The line gets shorter as time passes, whoever was refused meanwhile.
        assert!(matches!(attempts.admit(HERE, "alice", at(5_000)), Admission::At(_)));
        assert_eq!(attempts.admit(HERE, "alice", at(0) + MEMORY), Admission::Now);
    }

    #[test]
    fn at_most_so_many_guesses_whatever_is_tried_at_once() {
        let mut attempts = failed(FREE);
        let mut guesses = 0;
        // Ten minutes, ten connections at a time that try again at once.
        let mut waiting = [at(0); 10];
        while let Some(now) = waiting.iter().copied().min().filter(|now| *now < at(600_000)) {
            let place = waiting.iter().position(|time| *time == now).unwrap();
            let admission = attempts.admit(HERE, "alice", now);
            waiting[place] = match admission {
                Admission::Refused => now + Duration::from_millis(200),
                Admission::Now => now + Duration::from_millis(1),
                Admission::At(time) => time,
            };
            if admission != Admission::Refused {
                guesses += 1;
                attempts.failed(HERE, "alice", now);
            }
        }
        assert!(guesses < 330, "{guesses} guesses in ten minutes");
    }

    #[test]
    fn many_users_of_one_address_are_slowed_a_little() {
        let mut attempts = Attempts::default();
        for number in 0..ADDRESS_FREE {
            assert_eq!(attempts.admit(HERE, &number.to_string(), at(0)), Admission::Now);
            attempts.failed(HERE, &number.to_string(), at(0));
        }
        attempts.admit(HERE, "one more", at(0));
        assert_eq!(attempts.admit(HERE, "one more", at(0)), Admission::At(at(0) + PAUSE_MIN));
        for _ in 0..1_000 {
            let admission = attempts.admit(HERE, "yet another", at(0));
            assert!(matches!(admission, Admission::At(time) if time <= at(0) + ADDRESS_WAIT_MAX));
        }
        assert_eq!(attempts.admit(THERE, "one more", at(0)), Admission::Now);
    }

    #[test]
    fn success_forgets_the_own_failures_only() {
        let mut attempts = failed(ADDRESS_FREE);
        attempts.succeeded(HERE, "alice");
        assert_eq!(attempts.admit(HERE, "alice", at(0)), Admission::Now);
        assert!(matches!(attempts.admit(HERE, "bob", at(0)), Admission::At(_)), "the address's line goes on");
    }

    #[test]
    fn networks_of_ipv6_and_mapped_addresses_count_as_one() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(key(address("2001:db8::1"), None), key(address("2001:db8::ffff:1"), None));
        assert_ne!(key(address("2001:db8::1"), None), key(address("2001:db8:0:1::1"), None));
        assert_eq!(key(address("::ffff:10.0.0.1"), None), key(HERE, None));
    }

    #[test]
    fn memory_is_bounded() {
        let mut attempts = Attempts::default();
        for number in 0..3 * LINES_MAX as u32 {
            attempts.failed(IpAddr::V4(number.into()), "alice", at(u64::from(number)));
        }
        assert_eq!((attempts.len(), attempts.by_age.len()), (LINES_MAX, LINES_MAX));
        attempts.failed(HERE, &"x".repeat(10_000), at(60_000));
        let longest = attempts.lines.keys().filter_map(|(_, user)| Some(user.as_ref()?.len())).max();
        assert_eq!(longest, Some(USER_BYTES_MAX));
    }
}
