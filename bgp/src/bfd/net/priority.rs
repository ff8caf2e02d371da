//! Asks the kernel to run this thread before others.
//!
//! A packet that leaves late looks to the peer like a dead link. The thread's work is a few
//! microseconds at a time, so going first takes nothing from anybody.

use std::fmt;

/// What the kernel granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// SCHED_RR: before every ordinary thread.
    RealTime,
    /// A nice value of -10.
    Favoured,
    /// Nothing: the process may not ask for it (CAP_SYS_NICE, RLIMIT_RTPRIO).
    Ordinary,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RealTime => "real-time",
            Self::Favoured => "nice -10",
            Self::Ordinary => "ordinary",
        })
    }
}

/// Above what is ordinary, below the kernel's own threads, which have 50 and more.
const REAL_TIME_PRIORITY: libc::c_int = 10;
const NICE: libc::c_int = -10;

/// Takes the best that the kernel grants to the calling thread.
#[expect(unsafe_code, reason = "nix has neither sched_setscheduler nor setpriority")]
pub(super) fn raise() -> Priority {
    let parameters = libc::sched_param { sched_priority: REAL_TIME_PRIORITY };
    // SAFETY: the kernel reads `parameters`, which lives for the call; 0 is the calling thread.
    let real_time = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if real_time == 0 {
        return Priority::RealTime;
    }
    // SAFETY: no pointers; on Linux 0 is the calling thread, not its process.
    let favoured = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if favoured == 0 { Priority::Favoured } else { Priority::Ordinary }
}
