//! What the cores of a node share: a few counters and the published configuration. Nothing of it is written on the way
//! of an ordinary command.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::attempts::Attempts;
use crate::budget::Budget;
use crate::config::Config;
use crate::core::monitor::Watchers;
use crate::crowd::Crowd;
use crate::faults::Faults;
use crate::loading::Loading;
use crate::pulse::Pulse;
use crate::runtime::published::Published;

/// What the cores of a node share.
#[derive(Debug)]
pub struct Shared {
    config: Published<Arc<Config>>,
    config_version: AtomicU64,
    client_ids: AtomicU64,
    denial_ids: AtomicU64,
    slow_ids: AtomicU64,
    clients: AtomicUsize,
    /// 40 hexadecimal digits, new with each start: `run_id` of `INFO`.
    pub run_id: String,
    /// When the node started, Unix milliseconds.
    pub started_unix_ms: u64,
    /// When the node started, on the monotonic clock, in microseconds.
    pub started_mono_us: u64,
    /// Resident memory of the process in bytes, refreshed by the runtime.
    pub rss_bytes: AtomicU64,
    /// Time of the process in user mode, in microseconds, refreshed by the runtime.
    pub cpu_user_us: AtomicU64,
    /// Time of the process in the kernel, in microseconds, refreshed by the runtime.
    pub cpu_system_us: AtomicU64,
    /// What it runs on.
    pub host: Host,
    used_memory_peak: AtomicU64,
    /// Chooses the replication id, and how often it was chosen anew.
    replication_ids: (u64, AtomicU64),
    /// What the process takes however little it holds, in bytes: program, rings, buffers for input. Set by the runtime.
    pub program_bytes: AtomicU64,
    /// What the cores take of the memory that the node may.
    pub budget: Budget,
    /// How far the cores are with loading their pools.
    pub loading: Loading,
    /// Whether they live.
    pub pulse: Pulse,
    /// What is to go wrong with the pools' media, for tests.
    pub faults: Faults,
    /// What all clients take.
    pub crowd: Crowd,
    /// Failed logins, by address.
    pub attempts: Attempts,
    /// Who sees all commands.
    pub watchers: Watchers,
}

/// What a node runs on, for `INFO`.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// System, version and machine: `Linux 6.1.0 x86_64`.
    pub os: String,
    /// Path of the program.
    pub executable: String,
    /// The machine's memory in bytes.
    pub memory_bytes: u64,
    /// Who watches over the process: `systemd`, `upstart`; empty: nobody.
    pub supervisor: &'static str,
}

/// The part of a memory limit that the program itself may take of it; the rest of the program comes on top, so that
/// the smallest limits leave room for data.
const PROGRAM_PART: u64 = 100;

impl Shared {
    /// What a memory limit leaves for data, in bytes.
    #[must_use]
    pub fn limit_of_data(&self, maxmemory: u64) -> u64 {
        maxmemory - self.program_bytes.load(Ordering::Relaxed).min(maxmemory / PROGRAM_PART)
    }

    /// At the start of a node. `seed` makes the run id.
    #[must_use]
    pub fn new(config: Config, seed: u64, started_unix_ms: u64, started_mono_us: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            config: Published::new(Arc::new(config)),
            config_version: AtomicU64::new(0),
            client_ids: AtomicU64::new(1),
            denial_ids: AtomicU64::new(0),
            slow_ids: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
            run_id: forty_digits(&mut rng),
            started_unix_ms,
            started_mono_us,
            rss_bytes: AtomicU64::new(0),
            cpu_user_us: AtomicU64::new(0),
            cpu_system_us: AtomicU64::new(0),
            host: Host::default(),
            used_memory_peak: AtomicU64::new(0),
            replication_ids: (seed.rotate_left(32), AtomicU64::new(0)),
            program_bytes: AtomicU64::new(0),
            budget: Budget::default(),
            loading: Loading::default(),
            pulse: Pulse::default(),
            faults: Faults::default(),
            crowd: Crowd::default(),
            attempts: Attempts::new(seed),
            watchers: Watchers::default(),
        }
    }

    /// The configuration and its version.
    #[must_use]
    pub fn config(&self) -> (u64, Arc<Config>) {
        // The version first: if a newer configuration comes between, the older version makes the core look again.
        let version = self.config_version();
        (version, (*self.config.load()).clone())
    }

    /// Grows with each change of the configuration.
    #[must_use]
    pub fn config_version(&self) -> u64 {
        self.config_version.load(Ordering::Acquire)
    }

    /// Replaces the configuration by what `change` makes of the present one. `change` may run more than once.
    ///
    /// # Errors
    /// Those of `change`; nothing is replaced then.
    pub fn change_config<E>(&self, change: impl Fn(&Config) -> Result<Config, E>) -> Result<(), E> {
        self.config.update(|present| change(present).map(Arc::new))?;
        self.config_version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Notes how much memory the data takes; returns the most that was ever noted.
    pub(crate) fn note_used_memory(&self, bytes: u64) -> u64 {
        self.used_memory_peak.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// 40 hexadecimal digits by which replicas know this history: `master_replid` of `INFO`.
    #[must_use]
    pub fn replication_id(&self) -> String {
        let (seed, changes) = &self.replication_ids;
        forty_digits(&mut fastrand::Rng::with_seed(seed.wrapping_add(changes.load(Ordering::Relaxed))))
    }

    /// Chooses another replication id.
    pub fn change_replication_id(&self) {
        self.replication_ids.1.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's number: unique, growing.
    pub(crate) fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of something denied: unique, growing.
    pub(crate) fn next_denial(&self) -> u64 {
        self.denial_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of an entry of the slow log: unique, growing.
    pub(crate) fn next_slow_id(&self) -> u64 {
        self.slow_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A client came; returns how many there are now.
    pub(crate) fn client_came(&self) -> usize {
        self.clients.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A client left.
    pub(crate) fn client_left(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many clients are connected to the node.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }
}

fn forty_digits(rng: &mut fastrand::Rng) -> String {
    (0..40).map(|_| char::from_digit(rng.u32(0..16), 16).expect("below 16")).collect()
}
