//! The one file with system calls that no library makes for us. Each `unsafe` block says why it is sound.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Raises the soft limit of open files to the hard one. Returns the limit that is in force.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: as above; the kernel only reads `wanted`.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0 {
            limit.rlim_cur = limit.rlim_max;
        }
    }
    Ok(limit.rlim_cur)
}

/// Microseconds of the monotonic clock. Half the instructions of `Instant`, twice per turn of a worker's loop.
pub fn monotonic_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec that lives through the call. This clock exists on every system that Rust's standard
    // library runs on, so the call does not fail.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
    }
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// What the calling thread has spent of a processor's time.
pub fn thread_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spent` is a valid timespec that lives through the call; where the clock does not exist it stays zero.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut spent);
    }
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Whether something can be read, or accepted, without waiting. Also true where that cannot be told.
pub fn is_readable(socket: &impl AsRawFd) -> bool {
    let mut watched = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `watched` is one valid pollfd that lives through the call.
    unsafe { libc::poll(&mut watched, 1, 0) != 0 }
}

/// Gives memory that has been freed back to the system, after a burst.
pub fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_runs_forward() {
        let before = super::monotonic_micros();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let passed = super::monotonic_micros() - before;
        assert!(passed >= 2000 && before > 0, "{passed}");
    }

    #[test]
    fn readable_when_a_client_has_come() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!super::is_readable(&listener));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(super::is_readable(&listener));
    }

    #[test]
    fn limit_is_positive() {
        assert!(super::raise_file_limit().unwrap() > 0);
        super::trim_memory();
    }
}
