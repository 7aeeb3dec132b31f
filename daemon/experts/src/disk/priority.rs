//! Who computes when a drive has answered.
#![expect(unsafe_code, reason = "the system's scheduler")]

/// Lets this thread run before those that compute, where the system allows it: it has little to do, and until it has done it
/// the drive may idle. Without, it waits for up to 3 ms when all cores are busy, the time of a read. For one thread of a box
/// at most: several that check and decode records could leave no core to others.
pub(super) fn be_urgent() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives during the call; 0 is this thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const param) };
    if result != 0 {
        let cause = std::io::Error::last_os_error();
        tracing::debug!(%cause, "reads have no priority over computing: allow the daemon LimitRTPRIO=1");
    }
}
