//! The configuration is a plain typed value, read at start from a file and flags and replaced whole by `CONFIG SET`.
//!
//! ```text
//!  redis.conf ─▶ file ────────────┐                     ┌─▶ Config (typed fields, read by everyone)
//!  EAGLE_CONF_PORT=7000 ─▶ args ──┼─▶ table: one row ───┼─▶ CONFIG GET / CONFIG SET
//!  --port 7000 ─▶ args ───────────┤   a directive       ├─▶ CONFIG REWRITE ─▶ redis.conf
//!  CONFIG SET ────────────────────┘                     └─▶ --help
//! ```
//!
//! What comes later wins: defaults, the file, the environment, flags, `CONFIG SET`.
//!
//! Every directive is one row of [`table::TABLE`]; the row knows its grammar, bounds, default and its place in
//! [`Config`], so that file, flags, `CONFIG` and the help cannot disagree. A directive that Redis has and EagleDB does
//! not act on is accepted, kept and echoed, and the log says so; one that promises what EagleDB does not have yet
//! (replication) is refused unless its value asks for nothing. What cannot be had together is found when all
//! is read ([`Config::check`]).
//!
//! Grammar and error texts: Redis 7.2, `src/config.c` and the self-documented `redis.conf`.

pub mod args;
pub mod file;
pub mod form;
pub mod grammar;
pub mod rewrite;
pub mod sample;
pub mod set;
pub mod table;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use args::Start;
pub use file::ConfigError;

use eagle_shard::{Eviction, Order, Policy, value::PackedLimits};

use crate::{
    acl::{Acl, Channels},
    config::table::TABLE,
};

/// All settings, typed. A clone with changes is published as a whole; nobody sees half a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// TCP port, 0 for none.
    pub port: u16,
    /// What TLS is spoken with, and where.
    pub tls: TlsSettings,
    /// Addresses to listen on; `*` and `-::*` are all of IPv4 and IPv6, a leading `-` makes it optional.
    pub bind: Vec<String>,
    /// TCP port of status page, metrics and health, 0 for none.
    pub admin_port: u16,
    /// Addresses on which these are.
    pub admin_bind: Vec<String>,
    /// Path of the Unix socket, empty for none.
    pub unixsocket: String,
    /// Mode of the Unix socket, 0 to leave it as created.
    pub unixsocketperm: u32,
    /// Working directory.
    pub dir: String,
    /// Number of cores (and shards); 0: one a physical core.
    pub shards: u16,
    /// Where pools lie.
    pub pool: PoolMode,
    /// When commits are synced, if it was said; [`Config::sync`] tells what holds.
    pub sync: Option<SyncMode>,
    /// Whether a log was asked for, if it was said; [`Config::appendonly`] tells what holds.
    pub appendonly: Option<bool>,
    /// Folders in which pools are made; none for the working directory.
    pub pool_dirs: Vec<String>,
    /// Bytes that all pools together may take, 0 for no bound.
    pub pool_size_max: u64,
    /// Bytes that are appended to a pool from one checkpoint of its index to the next, 0 for none but at the end.
    pub checkpoint_bytes: u64,
    /// Whether pools are opened although what was durable is damaged.
    pub accept_damage: bool,
    /// Megabytes of records that each shard reads again a second, to see whether they are whole.
    pub scrub_mb_per_second: u32,
    /// Microseconds that a core looks for work without sleeping.
    pub spin_us: u32,
    /// Number of databases.
    pub databases: u8,
    /// Connections at most.
    pub maxclients: u32,
    /// Seconds after which an idle connection is closed, 0 for never.
    pub timeout: u32,
    /// Length of the listening sockets' queue.
    pub tcp_backlog: u32,
    /// Seconds between TCP keep-alives, 0 for none.
    pub tcp_keepalive_s: u32,
    /// Whether a server without password refuses clients of other hosts.
    pub protected_mode: bool,
    /// Whether the shards' pools are kept out of transparent huge pages.
    pub disable_thp: bool,
    /// The password of the default user as it was set last by this name, empty for none; what holds is in `acl`.
    pub requirepass: Secret,
    /// The users, and what they may do.
    pub acl: Arc<Acl>,
    /// The file of the users, empty for none.
    pub aclfile: String,
    /// What new users may do with channels: 0 everything, 1 nothing. [`Config::new_channels`] tells.
    pub acl_pubsub_default: u8,
    /// Failed logins that an address may have a minute, 0 for any number.
    pub auth_failures_per_minute: u32,
    /// Entries of the log of what was denied at most.
    pub acllog_max_len: u64,
    /// The least severe messages that are logged.
    pub loglevel: LogLevel,
    /// Path of the log, empty for standard output.
    pub logfile: String,
    /// Whether the log is lines of JSON.
    pub log_json: bool,
    /// Who watches over the process.
    pub supervised: Supervision,
    /// Bytes of a string or of one argument at most.
    pub proto_max_bulk_len: u64,
    /// Fields of a packed hash at most.
    pub hash_max_listpack_entries: u64,
    /// Bytes of a packed hash's field or value at most.
    pub hash_max_listpack_value: u64,
    /// Bytes of unparsed requests of a connection at most.
    pub client_query_buffer_limit: u64,
    /// Bounds of unread replies a connection, by class.
    pub client_output_buffer_limit: OutputLimits,
    /// Bytes of memory that the data may take, 0 for no bound.
    pub maxmemory: u64,
    /// Bytes that clients may take, or if negative a percentage of `maxmemory`; 0 for no bound.
    pub maxmemory_clients: i64,
    /// What is evicted at that bound.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys looked at for one that is evicted, at least.
    pub maxmemory_samples: u32,
    /// How slowly counts of uses grow.
    pub lfu_log_factor: u32,
    /// Minutes after which counts of uses lose one, 0 for never.
    pub lfu_decay_time: u32,
    /// Seconds that requests in flight get at the end.
    pub shutdown_timeout_s: u32,
    /// Whether it is counted how long each call of a command took.
    pub latency_tracking: bool,
    /// Which percentiles `INFO latencystats` shows: numbers, with blanks between them.
    pub latency_percentiles: String,
    /// Microseconds from which on a command is in the slow log, negative for none.
    pub slowlog_slower_than_us: i64,
    /// Entries of the slow log at most.
    pub slowlog_max_len: u64,
    /// Milliseconds from which on `LATENCY` knows of what took them, 0 for none.
    pub latency_threshold_ms: u64,
    /// Who may use `DEBUG`.
    pub enable_debug_command: Allowed,
    /// Who may set the directives with which a client could write files anywhere.
    pub enable_protected_configs: Allowed,
    /// Values of directives that are known, valid and without effect, where they differ from the default.
    pub kept: BTreeMap<&'static str, String>,
    /// Commands that clients call by another name, or not at all: `rename-command`, old and new names in the order of their lines.
    pub renamed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file that was read at start, as an absolute path; empty if there was none.
    pub config_file: String,
}

impl Default for Config {
    /// Every directive at its row's default.
    fn default() -> Self {
        let mut config = blank();
        for row in TABLE {
            if let Err(wrong) = row.set(&mut config, row.default.as_bytes()) {
                panic!("default of {}: {wrong}", row.name);
            }
        }
        // Nobody has said so yet.
        (config.sync, config.appendonly) = (None, None);
        config
    }
}

impl Config {
    /// What new users and selectors may do with channels.
    #[must_use]
    pub fn new_channels(&self) -> Channels {
        if self.acl_pubsub_default == 0 { Channels::All } else { Channels::None }
    }

    /// When commits are synced: as was said, or not where no log is wanted, or every second.
    #[must_use]
    pub fn sync(&self) -> SyncMode {
        let unsaid = if self.appendonly == Some(false) { SyncMode::No } else { SyncMode::EverySec };
        self.sync.unwrap_or(unsaid)
    }

    /// Whether a log is wanted and there is one.
    #[must_use]
    pub fn appendonly(&self) -> bool {
        self.appendonly.unwrap_or(true) && self.pool != PoolMode::None
    }

    /// Finds what cannot be had together: the directive, and what to do.
    ///
    /// # Errors
    /// If something is.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.pool != PoolMode::None {
            return Ok(());
        }
        if self.appendonly == Some(true) {
            return Err(("appendonly", "with 'pool none' nothing is kept, so the only value is 'no'"));
        }
        if self.kept.contains_key("save") {
            return Err(("save", "with 'pool none' nothing is kept, so the only value is \"\""));
        }
        Ok(())
    }

    /// Bytes that all clients may take, 0 for no bound: at least 128 KiB, so that who sets too little can still set more.
    #[must_use]
    pub fn clients_limit(&self) -> u64 {
        const MIN: u64 = 128 << 10;
        let limit = match self.maxmemory_clients {
            bytes @ 0.. => bytes.unsigned_abs(),
            percent => (u128::from(self.maxmemory) * u128::from(percent.unsigned_abs()) / 100) as u64,
        };
        if limit == 0 && (self.maxmemory == 0 || self.maxmemory_clients == 0) { 0 } else { limit.max(MIN) }
    }

    /// How a shard makes room by eviction.
    #[must_use]
    pub fn eviction(&self) -> Eviction {
        Eviction {
            policy: self.maxmemory_policy.order(),
            samples: self.maxmemory_samples as usize,
            log_factor: self.lfu_log_factor,
            decay_minutes: self.lfu_decay_time,
        }
    }

    /// How large a hash may be that is packed.
    #[must_use]
    pub fn packed_hash(&self) -> PackedLimits {
        let bound = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        PackedLimits {
            entries_max: bound(self.hash_max_listpack_entries),
            item_bytes_max: bound(self.hash_max_listpack_value),
        }
    }
}

/// Before any default is set; never seen outside of this file.
fn blank() -> Config {
    Config {
        port: 0,
        tls: TlsSettings::default(),
        bind: Vec::new(),
        admin_port: 0,
        admin_bind: Vec::new(),
        unixsocket: String::new(),
        unixsocketperm: 0,
        dir: String::new(),
        shards: 0,
        pool: PoolMode::Auto,
        sync: None,
        appendonly: None,
        pool_dirs: Vec::new(),
        pool_size_max: 0,
        checkpoint_bytes: 0,
        accept_damage: false,
        scrub_mb_per_second: 0,
        spin_us: 0,
        databases: 0,
        maxclients: 0,
        timeout: 0,
        tcp_backlog: 0,
        tcp_keepalive_s: 0,
        protected_mode: true,
        disable_thp: true,
        requirepass: Secret(Vec::new()),
        acl: Arc::default(),
        aclfile: String::new(),
        acl_pubsub_default: 0,
        auth_failures_per_minute: 0,
        acllog_max_len: 0,
        loglevel: LogLevel::Notice,
        logfile: String::new(),
        log_json: false,
        supervised: Supervision::No,
        proto_max_bulk_len: 0,
        hash_max_listpack_entries: 0,
        hash_max_listpack_value: 0,
        client_query_buffer_limit: 0,
        client_output_buffer_limit: OutputLimits {
            normal: OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
            replica: OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
            pubsub: OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
        },
        maxmemory: 0,
        maxmemory_clients: 0,
        maxmemory_policy: EvictionPolicy::NoEviction,
        maxmemory_samples: 0,
        lfu_log_factor: 0,
        lfu_decay_time: 0,
        shutdown_timeout_s: 0,
        latency_tracking: true,
        latency_percentiles: String::new(),
        slowlog_slower_than_us: 0,
        slowlog_max_len: 0,
        latency_threshold_ms: 0,
        enable_debug_command: Allowed::No,
        enable_protected_configs: Allowed::No,
        kept: BTreeMap::new(),
        renamed: Vec::new(),
        config_file: String::new(),
    }
}

/// What TLS is spoken with, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// TCP port, 0 for none.
    pub port: u16,
    /// Path of the certificate and those behind it, PEM.
    pub cert_file: String,
    /// Path of its key, PEM.
    pub key_file: String,
    /// Path of the authorities that clients' certificates are to be of, empty for none.
    pub ca_cert_file: String,
    /// Folder of such authorities, empty for none.
    pub ca_cert_dir: String,
    /// Whether clients need a certificate: 0 no, 1 yes, 2 only if they show one.
    pub auth_clients: u8,
    /// Versions with blanks between them, empty for all.
    pub protocols: String,
    /// Whether the server chooses the cipher.
    pub prefers_server_ciphers: bool,
    /// Whether clients that come again may go on with their session.
    pub session_caching: bool,
}

/// A password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl Secret {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "secret" })
    }
}

/// Bounds of the unread replies of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which the connection is closed at once, 0 for none.
    pub hard_bytes: u64,
    /// Bytes at which it is closed after `soft_seconds`, 0 for none.
    pub soft_bytes: u64,
    /// Seconds that it may stay above `soft`.
    pub soft_seconds: u32,
}

/// Bounds by class of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Ordinary clients.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients with subscriptions.
    pub pubsub: OutputLimit,
}

/// Where pools lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Nowhere: nothing is kept.
    None,
    /// On persistent memory where the folder grants it, else in files.
    Auto,
    /// In ordinary files.
    File,
    /// In files on persistent memory.
    Dax,
}

impl PoolMode {
    const ALL: [Self; 4] = [Self::None, Self::Auto, Self::File, Self::Dax];
    const NAMES: &[&str] = &["none", "auto", "file", "dax"];

    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// When commits are synced, and so what replies promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Every second.
    EverySec,
    /// Before replies leave.
    Always,
    /// When the log needs it.
    No,
}

impl SyncMode {
    pub(crate) const ALL: [Self; 3] = [Self::EverySec, Self::Always, Self::No];
    pub(crate) const NAMES: &[&str] = &["everysec", "always", "no"];

    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// To whom something dangerous is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// To nobody.
    No,
    /// To everybody.
    Yes,
    /// To clients of this host: by a Unix socket or the loopback interface.
    Local,
}

impl Allowed {
    const ALL: [Self; 3] = [Self::No, Self::Yes, Self::Local];
    const NAMES: &[&str] = &["no", "yes", "local"];

    /// Whether a client may, given whether it is one of this host.
    #[must_use]
    pub fn to(self, is_local: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => is_local,
        }
    }
}

/// Severity from which messages are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Much.
    Verbose,
    /// What an operator wants to know.
    Notice,
    /// What an operator must know.
    Warning,
    /// Nothing at all.
    Nothing,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Debug, Self::Verbose, Self::Notice, Self::Warning, Self::Nothing];
    const NAMES: &[&str] = &["debug", "verbose", "notice", "warning", "nothing"];
}

/// Who watches over the process and is told how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervision {
    /// Nobody.
    No,
    /// Whoever the environment tells of.
    Auto,
    /// Upstart.
    Upstart,
    /// systemd.
    Systemd,
}

impl Supervision {
    const ALL: [Self; 4] = [Self::No, Self::Auto, Self::Upstart, Self::Systemd];
    const NAMES: &[&str] = &["no", "auto", "upstart", "systemd"];
}

/// What is evicted when memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Keys with a time to live, least recently used first.
    VolatileLru,
    /// Keys with a time to live, least often used first.
    VolatileLfu,
    /// Keys with a time to live, by chance.
    VolatileRandom,
    /// Keys with a time to live, nearest end first.
    VolatileTtl,
    /// Any key, least recently used first.
    AllKeysLru,
    /// Any key, least often used first.
    AllKeysLfu,
    /// Any key, by chance.
    AllKeysRandom,
    /// None: writers get an error.
    NoEviction,
}

impl EvictionPolicy {
    const ALL: [Self; 8] = [
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
        Self::AllKeysLru,
        Self::AllKeysLfu,
        Self::AllKeysRandom,
        Self::NoEviction,
    ];
    const NAMES: &[&str] = &[
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];

    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn order(self) -> Option<Policy> {
        let volatile = matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl);
        let order = match self {
            Self::VolatileLru | Self::AllKeysLru => Order::Recency,
            Self::VolatileLfu | Self::AllKeysLfu => Order::Frequency,
            Self::VolatileRandom | Self::AllKeysRandom => Order::Chance,
            Self::VolatileTtl => Order::Expiry,
            Self::NoEviction => return None,
        };
        Some(Policy { volatile, order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        // Every row's default parses, and the ones that clients lean on are Redis'.
        let config = Config::default();
        assert_eq!(config.port, 6379);
        assert_eq!(config.databases, 16);
        assert_eq!(config.maxclients, 10_000);
        assert_eq!(config.timeout, 300);
        assert_eq!(config.proto_max_bulk_len, 512 << 20);
        assert_eq!(config.client_query_buffer_limit, 1 << 30);
        assert_eq!(
            config.client_output_buffer_limit.pubsub,
            OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 }
        );
        assert!(config.protected_mode && config.requirepass.is_empty() && config.kept.is_empty());
    }

    #[test]
    fn durability_is_asked_for_by_two_names() {
        // `appendfsync` is `sync`; `appendonly no` lowers what was not said, in whatever order; without a pool there is no log.
        let with = |pairs: &[(&str, &str)]| {
            let mut config = Config::default();
            for (name, value) in pairs {
                table::find(name.as_bytes()).unwrap().set(&mut config, value.as_bytes()).unwrap();
            }
            config
        };
        let shown = |pairs: &[(&str, &str)]| {
            let config = with(pairs);
            ["sync", "appendfsync", "appendonly"].map(|name| config.value(name)).join(" ")
        };
        assert_eq!(shown(&[]), "everysec everysec yes");
        assert_eq!(shown(&[("appendfsync", "always")]), "always always yes");
        assert_eq!(shown(&[("appendonly", "no")]), "no no no");
        assert_eq!(shown(&[("appendonly", "no"), ("sync", "everysec")]), "everysec everysec no");
        assert_eq!(shown(&[("appendfsync", "everysec"), ("appendonly", "no")]), "everysec everysec no");
        assert_eq!(shown(&[("pool", "none")]), "everysec everysec no");
        assert_eq!(with(&[("pool", "none"), ("appendonly", "no"), ("save", "")]).check(), Ok(()));
        assert_eq!(with(&[("save", "900 1"), ("appendonly", "yes")]).check(), Ok(()));
        assert_eq!(with(&[("appendonly", "yes"), ("pool", "none")]).check().unwrap_err().0, "appendonly");
        assert_eq!(with(&[("save", "900 1"), ("pool", "none")]).check().unwrap_err().0, "save");
    }

    #[test]
    fn clients_may_take_bytes_or_a_percentage() {
        // A percentage of nothing is no bound, and no bound is below 128 KiB.
        let limits =
            [(0, 0), (0, 1), (0, 1 << 20), (0, -10), (1 << 30, -10), (1 << 20, -1), (1 << 30, 0), (1 << 30, 1 << 20)];
        let limits = limits.map(|(maxmemory, maxmemory_clients)| {
            Config { maxmemory, maxmemory_clients, ..Config::default() }.clients_limit()
        });
        assert_eq!(limits, [0, 128 << 10, 1 << 20, 0, (1 << 30) / 10, 128 << 10, 0, 1 << 20]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret(b"eagle".to_vec())), "secret");
    }
}
