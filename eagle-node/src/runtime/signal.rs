//! Signals ask the node to end: SIGTERM or SIGINT once for an orderly end, a second time for an end at once.
//!
//! They are blocked in every thread and taken by one that waits for them, so no handler interrupts anything. SIGPIPE (a
//! log that nobody reads) and SIGHUP are ignored, as Redis does.

use std::{io, mem::MaybeUninit, thread};

use crate::log;

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
}

impl Asked {
    /// As the system names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
        }
    }
}

/// Keeps the signals that ask for the end from this thread and those that it starts from now on. To be called before the first is
/// started: one that does not hold them back dies of them, and all others with it.
pub fn hold_back() {
    let asking = asking();
    // SAFETY: `asking` is an initialised set.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const asking, std::ptr::null_mut()) };
    assert_eq!(blocked, 0, "a valid mask");
}

/// Keeps signals from this thread and those that it starts from now on, and starts one that tells `on_first` of the first that
/// asks for the end. The second ends the process at once, with exit code 1.
///
/// # Errors
/// No thread can be started.
pub fn watch(on_first: impl FnOnce(Asked) + Send + 'static) -> io::Result<()> {
    hold_back();
    let asking = asking();
    // SAFETY: the dispositions set are the constants that the system defines.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        on_first(wait(&asking));
        wait(&asking);
        tracing::warn!("You insist... exiting now.");
        log::end();
        std::process::exit(1);
    })?;
    Ok(())
}

fn asking() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others add to.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

fn wait(set: &libc::sigset_t) -> Asked {
    let mut signal = 0;
    // SAFETY: both point to live values of the right types.
    let result = unsafe { libc::sigwait(set, &raw mut signal) };
    assert_eq!(result, 0, "a valid set");
    if signal == libc::SIGINT { Asked::Int } else { Asked::Term }
}
