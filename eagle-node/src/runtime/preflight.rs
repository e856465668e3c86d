//! The preflight finds out what is missing before anything starts, and says in one sentence what to do.
//!
//! Asked in this order: the directory, open files, io_uring itself (a kernel that is too old, a sysctl or a seccomp
//! profile that forbids it), locked memory (rings count against it for users without CAP_IPC_LOCK), and, by the listeners,
//! the port. Limits are raised as far as the system lets us; then `maxclients` gives way, with a warning, as in Redis.

use std::{
    ffi::CString,
    fmt, fs, io,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::ring::{self, Ring};

/// What is missing to start, and what to do.
#[derive(Debug)]
pub enum StartError {
    /// The working directory cannot be entered.
    NoDirectory {
        /// Which.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nothing can be written in the working directory.
    NotWritable {
        /// Which.
        dir: PathBuf,
    },
    /// `kernel.io_uring_disabled` is this.
    RingsDisabled(u8),
    /// A security profile forbids io_uring.
    RingsForbidden,
    /// This kernel lacks io_uring or what we need of it.
    KernelTooOld {
        /// Its release.
        release: String,
    },
    /// The rings do not fit into what may be locked.
    LockedMemory {
        /// What all cores need.
        need_bytes: u64,
        /// What the limit is.
        limit_bytes: u64,
    },
    /// Too few files may be open even without a client.
    OpenFiles {
        /// What is needed.
        need: u64,
        /// What the limit is.
        limit: u64,
    },
    /// Somebody listens there.
    PortTaken(SocketAddr),
    /// Somebody listens where the admin port is to be.
    AdminPortTaken(SocketAddr),
    /// The admin port cannot be listened on.
    AdminListen {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// None of the addresses of `bind` is of this machine.
    NoAddress {
        /// The port.
        port: u16,
    },
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// Another process serves from the folder.
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process, if it says so.
        pid: Option<u32>,
    },
    /// The file of users cannot be used: what is wrong with it.
    Users(String),
    /// TLS cannot be had: one sentence.
    Tls(String),
    /// The pools cannot be used: one sentence.
    Pools(String),
    /// The machine's CPUs cannot be told.
    Topology(String),
    /// A core could not start.
    Core {
        /// Which.
        core: u16,
        /// Why.
        why: String,
    },
    /// The system refused a thread, an eventfd or a ring.
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl std::error::Error for StartError {}

impl StartError {
    /// The directive whose value cannot be had here, if it is one.
    #[must_use]
    pub fn directive(&self) -> Option<&'static str> {
        match self {
            Self::NoDirectory { .. } | Self::NotWritable { .. } | Self::Locked { .. } => Some("dir"),
            Self::PortTaken(_) => Some("port"),
            Self::NoAddress { .. } => Some("bind"),
            Self::Listen { address, .. } if address.contains('/') => Some("unixsocket"),
            Self::Listen { .. } => Some("bind"),
            Self::Users(_) => Some("aclfile"),
            Self::AdminPortTaken(_) => Some("admin-port"),
            Self::AdminListen { .. } => Some("admin-bind"),
            Self::LockedMemory { .. } => Some("shards"),
            _ => None,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory { dir, error } => {
                write!(f, "Can't chdir to '{}': {error}: create the directory or set --dir to one that exists.", dir.display())
            }
            Self::NotWritable { dir } => write!(
                f,
                "The directory '{}' is not writable for this user: change its owner or set --dir to one that is.",
                dir.display()
            ),
            Self::RingsDisabled(1) => f.write_str(
                "io_uring is only for a group here (kernel.io_uring_disabled = 1): add this user to the group of \
                 kernel.io_uring_group, or run `sysctl kernel.io_uring_disabled=0` as root.",
            ),
            Self::RingsDisabled(value) => write!(
                f,
                "io_uring is switched off on this machine (kernel.io_uring_disabled = {value}): run \
                 `sysctl kernel.io_uring_disabled=0` as root."
            ),
            Self::RingsForbidden => f.write_str(
                "io_uring is forbidden here, most likely by a seccomp profile as Docker's default one: allow io_uring_setup, \
                 io_uring_enter and io_uring_register in it, or start the container with `--security-opt seccomp=unconfined`.",
            ),
            Self::KernelTooOld { release } => {
                write!(f, "Linux 6.1 or newer is needed for its io_uring, and this is {release}: use a newer kernel.")
            }
            Self::LockedMemory { need_bytes, limit_bytes } => write!(
                f,
                "The io_uring rings need {} KiB of locked memory and the limit is {} KiB: run `ulimit -l unlimited`, set \
                 LimitMEMLOCK=infinity in the unit, or use fewer --shards.",
                need_bytes.div_ceil(1024),
                limit_bytes / 1024
            ),
            Self::OpenFiles { need, limit } => write!(
                f,
                "{need} open files are needed even for a single client and the limit is {limit}: raise `ulimit -n`, or LimitNOFILE= in \
                 the unit."
            ),
            Self::PortTaken(address) => {
                write!(f, "Somebody already listens on {address}: stop that server or choose another --port.")
            }
            Self::AdminPortTaken(address) => write!(
                f,
                "Somebody already listens on {address}, where metrics and health are to be: give each node of a host its own \
                 --admin-port, or --admin-port 0 for none."
            ),
            Self::AdminListen { address, error } => {
                write!(f, "Can't listen on {address}: {error}: correct --admin-bind or --admin-port.")
            }
            Self::NoAddress { port } => {
                write!(f, "None of the addresses of --bind is of this machine, so nobody could reach port {port}: correct --bind.")
            }
            Self::Listen { address, error } => {
                write!(f, "Can't listen on {address}: {error}: correct --bind, --port or --unixsocket.")
            }
            Self::Locked { dir, pid } => {
                let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                write!(f, "The pools in '{}' are in use by {who}: stop it or choose another --dir.", dir.display())
            }
            Self::Users(complaint) => write!(f, "Aborting startup because of ACL errors: {complaint}"),
            Self::Tls(sentence) => f.write_str(sentence),
            Self::Pools(sentence) => f.write_str(sentence),
            Self::Topology(why) => write!(f, "Can't tell this machine's CPUs: {why}: check that /sys is mounted."),
            Self::Core { core, why } => write!(f, "Core {core} can't start: {why}."),
            Self::System { what, error } => write!(f, "Can't {what}: {error}: check this user's limits (`ulimit -a`)."),
        }
    }
}

/// Files that a core opens beside its connections: four rings, five eventfds, timers, and room.
const FILES_PER_CORE: u64 = 16;
/// Files of the process beside its cores and connections, as Redis reserves them.
const FILES_RESERVED: u64 = 32;
/// Bytes of glommio's three rings of a core and its registered buffers that the kernel may count as locked, measured on Linux
/// 6.18 and rounded up.
const EXECUTOR_LOCKED_BYTES: u64 = 256 << 10;

/// Enters the working directory and sees that it can be written.
///
/// # Errors
/// It is not there, or not writable.
pub(super) fn enter_directory(dir: &str) -> Result<(), StartError> {
    let path = PathBuf::from(dir);
    std::env::set_current_dir(&path).map_err(|error| StartError::NoDirectory { dir: path.clone(), error })?;
    if is_writable(Path::new(".")) { Ok(()) } else { Err(StartError::NotWritable { dir: path }) }
}

/// Whether this user may make files in a directory.
pub(super) fn is_writable(dir: &Path) -> bool {
    let Ok(dir) = CString::new(dir.as_os_str().as_bytes()) else { return false };
    // SAFETY: a string that ends in zero.
    unsafe { libc::access(dir.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}

/// Raises the limit of open files to what `maxclients` needs, and returns how many clients there can be.
///
/// # Errors
/// There is not even room for one.
pub(super) fn clients_possible(maxclients: u32, cores: u16, listeners: usize) -> Result<u32, StartError> {
    let per_core = FILES_PER_CORE + listeners as u64;
    let reserve = FILES_RESERVED + u64::from(cores) * per_core;
    let need = u64::from(maxclients) + reserve;
    let limit =
        raise(libc::RLIMIT_NOFILE, need).map_err(|error| StartError::System { what: "read RLIMIT_NOFILE", error })?;
    if limit >= need {
        return Ok(maxclients);
    }
    let possible = limit.saturating_sub(reserve);
    if possible == 0 {
        return Err(StartError::OpenFiles { need: reserve + 1, limit });
    }
    tracing::warn!(
        "You requested maxclients of {maxclients} requiring at least {need} max file descriptors. Current maximum open files \
         is {limit}. maxclients has been reduced to {possible} to compensate for low ulimit. If you need higher maxclients \
         increase 'ulimit -n'."
    );
    Ok(u32::try_from(possible).expect("less than maxclients"))
}

/// Bytes that the rings of all cores lock.
pub(super) fn locked_bytes(cores: u16) -> u64 {
    u64::from(cores) * (ring::LOCKED_BYTES + EXECUTOR_LOCKED_BYTES)
}

/// Sees that this process may use io_uring, and that the rings of all cores fit into what it may lock.
///
/// # Errors
/// It may not, or they do not.
pub(super) fn rings(cores: u16) -> Result<(), StartError> {
    let need_bytes = locked_bytes(cores);
    let limit_bytes = raise(libc::RLIMIT_MEMLOCK, need_bytes)
        .map_err(|error| StartError::System { what: "read RLIMIT_MEMLOCK", error })?;
    // Who has CAP_IPC_LOCK is not bound by the limit; only a ring tells whether the kernel counts at all.
    let enough = limit_bytes >= need_bytes || may_lock_all();
    match Ring::new().map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) if enough => Ok(()),
        Ok(_) | Err((Some(libc::ENOMEM), _)) => Err(StartError::LockedMemory { need_bytes, limit_bytes }),
        Err((Some(libc::EPERM | libc::EACCES), _)) => Err(forbidden(io_uring_disabled())),
        Err((Some(libc::ENOSYS | libc::EINVAL), _)) => Err(StartError::KernelTooOld { release: kernel_release() }),
        Err((_, error)) => Err(StartError::System { what: "make an io_uring", error }),
    }
}

fn forbidden(disabled: u8) -> StartError {
    if disabled == 0 { StartError::RingsForbidden } else { StartError::RingsDisabled(disabled) }
}

fn io_uring_disabled() -> u8 {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", text.trim())
}

/// Whether this process has CAP_IPC_LOCK.
fn may_lock_all() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits >> CAP_IPC_LOCK & 1 == 1
}

/// Raises a limit to `need`, the hard one too if the system lets us, and returns what it is then.
fn raise(resource: libc::__rlimit_resource_t, need: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: points to a live rlimit.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= need {
        return Ok(limit.rlim_cur);
    }
    let wished = [(need, limit.rlim_max.max(need)), (limit.rlim_max, limit.rlim_max)];
    for (rlim_cur, rlim_max) in wished {
        // SAFETY: points to a live rlimit.
        if unsafe { libc::setrlimit(resource, &libc::rlimit { rlim_cur, rlim_max }) } == 0 {
            return Ok(rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_one_sentence_that_says_what_to_do() {
        // Shows that every reason not to start has a line of its own, with a way out.
        let error = || io::Error::from_raw_os_error(libc::EACCES);
        let all = [
            StartError::NoDirectory { dir: "/d".into(), error: error() },
            StartError::NotWritable { dir: "/d".into() },
            StartError::RingsDisabled(1),
            StartError::RingsDisabled(2),
            StartError::RingsForbidden,
            StartError::KernelTooOld { release: "Linux 5.10".to_owned() },
            StartError::LockedMemory { need_bytes: 1 << 20, limit_bytes: 64 << 10 },
            StartError::OpenFiles { need: 80, limit: 64 },
            StartError::PortTaken("127.0.0.1:6379".parse().expect("an address")),
            StartError::NoAddress { port: 6379 },
            StartError::Listen { address: "192.0.2.1".to_owned(), error: error() },
            StartError::Topology("no".to_owned()),
            StartError::System { what: "make an io_uring", error: error() },
        ];
        let hints = [
            "create",
            "owner",
            "group",
            "sysctl",
            "seccomp",
            "newer",
            "ulimit -l",
            "ulimit -n",
            "--port",
            "--bind",
            "--bind",
            "/sys",
            "ulimit -a",
        ];
        for (refusal, hint) in all.iter().zip(hints) {
            let line = refusal.to_string();
            assert!(line.contains(hint) && line.ends_with('.') && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn this_machine_can_start_a_core() {
        // Shows that the checks pass where the tests run; on failure the sentence says what this machine lacks.
        if let Err(refusal) = rings(1) {
            panic!("{refusal}");
        }
    }

    #[test]
    fn a_forbidding_sysctl_is_named_before_seccomp_is_blamed() {
        // Shows the two reasons for EPERM.
        assert!(matches!(forbidden(0), StartError::RingsForbidden));
        assert!(matches!(forbidden(2), StartError::RingsDisabled(2)));
    }

    #[test]
    fn clients_give_way_to_the_limit_of_open_files() {
        // Shows that a hard limit lowers maxclients instead of failing, and that none at all is refused.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: points to a live rlimit.
        assert_eq!(
            // SAFETY: writes to `limit` alone.
            unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) },
            0
        );
        assert_eq!(clients_possible(10, 1, 1).expect("room for ten"), 10);
        // 1 G is the most that Linux allows by default (fs.nr_open); beyond it even root is refused.
        let possible = clients_possible(u32::MAX, 1, 1).expect("room for some");
        assert!(possible < u32::MAX && u64::from(possible) + 100 > limit.rlim_cur, "{possible}");
        let none = clients_possible(u32::MAX, u16::MAX, 1 << 20);
        assert!(matches!(none, Err(StartError::OpenFiles { .. })), "{none:?}");
    }
}
