//! A disk that takes longer to sync.
//!
//! The longer it takes, the less the rest counts, and so the share of *raw* that a client reaches says little without
//! it: here a sync is some 30 µs, on the machine that the goals were set on it was 141, and on many a disk it is a
//! millisecond. On Linux this program's own `fdatasync` and `fsync` stand in for the C library's, so that *raw*, SQLite
//! alone and the store all wait the same: they sync as ever, and then sleep for what is left of the time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Nanoseconds that a sync takes at least.
static AT_LEAST: AtomicU64 = AtomicU64::new(0);

/// From here on, a sync takes at least so long.
pub fn slow_down(at_least: Duration) -> std::io::Result<()> {
    if !cfg!(target_os = "linux") && !at_least.is_zero() {
        return Err(std::io::Error::other(
            "--sync-us is for Linux: elsewhere a program's syncs are not ours to slow down",
        ));
    }
    AT_LEAST.store(at_least.as_nanos() as u64, Relaxed);
    Ok(())
}

#[cfg(target_os = "linux")]
mod interposed {
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;
    use std::time::{Duration, Instant};

    use libc::{SYS_fdatasync, SYS_fsync, c_int, c_long};

    // SAFETY: both have the signatures of the C library's, and do what those do, later.
    #[unsafe(no_mangle)]
    extern "C" fn fdatasync(file: c_int) -> c_int {
        sync(SYS_fdatasync, file)
    }

    #[unsafe(no_mangle)]
    extern "C" fn fsync(file: c_int) -> c_int {
        sync(SYS_fsync, file)
    }

    fn sync(call: c_long, file: c_int) -> c_int {
        let at_least = Duration::from_nanos(super::AT_LEAST.load(Relaxed));
        let began = Instant::now();
        // SAFETY: both calls take one descriptor, and any number may be given: what is none is refused by the kernel.
        let result = unsafe { libc::syscall(call, file) as c_int };
        if !at_least.is_zero() {
            wake_on_time();
            thread::sleep(at_least.saturating_sub(began.elapsed()));
        }
        result
    }

    /// By default the kernel may let a thread sleep 50 µs longer than it asked for.
    fn wake_on_time() {
        thread_local!(static ASKED: () = {
            // SAFETY: it takes a number and changes no memory.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
        });
        ASKED.with(|()| ());
    }
}
