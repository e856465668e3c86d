//! The runtime is all that knows glommio, io_uring, sockets, clocks and threads. It starts the cores, each on its pinned
//! thread, turns what the world does into their events, and carries their actions out.
//!
//! ```text
//!  main thread:    preflight ─▶ pools ─▶ listeners ─▶ a thread a core, pinned (placement) ─▶ waits for the end
//!                                              └─ glommio executor
//!                                                   └─ core loop: Core, its io_uring (Ring), Connections, Mesh
//!  signals thread: SIGTERM, SIGINT ─▶ main thread ─▶ all cores drain ─▶ the end
//!  admin thread:   HTTP; asks the cores how they are, which they say with their next tick (admin)
//! ```
//!
//! Beside the end the main thread is told of `CONFIG SET` of what the process is, and does it (`settings`).
//!
//! What always holds: a core is touched by its own thread only; the runtime decides nothing about data, so it needs no
//! simulation.

mod admin;
mod bus;
mod certificates;
mod checkpoint;
pub mod clock;
mod connection;
mod core_loop;
pub mod device;
pub mod doctor;
pub mod folders;
mod host;
mod listener;
mod listening;
pub mod mesh;
pub mod placement;
mod pools;
pub mod preflight;
pub mod published;
mod reshard;
mod ring;
mod settings;
pub mod signal;
mod storage;
mod supervisor;
mod tls;
pub mod topology;

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    ops::RangeInclusive,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use eagle_pmem::{Domain, MapMode};
use eagle_shard::shard::{Shard, ShardConfig};
use glommio::{LocalExecutorBuilder, Placement};

pub(crate) use self::pools::{checkpoint_path, found_in as pools_in, share as share_folder};
pub use self::signal::hold_back as hold_signals_back;
use self::{
    admin::{Admin, Inquiry, Source},
    checkpoint::CheckpointFile,
    clock::Clock,
    core_loop::{Ending, Parts},
    device::Device,
    listener::Wanted,
    listening::Listening,
    mesh::{Alarm, Mesh},
    placement::Cpus,
    pools::{Fresh, Pool, Pools},
    published::Published,
    settings::{Settings, Wish},
    supervisor::Supervisor,
};
pub use self::{listener::Address, preflight::StartError};
use crate::{
    acl,
    config::{Config, PoolMode},
    core::{Core, CoreConfig, event::CoreId, gate::CommitMode, message::Message, outbox::MESSAGE_BYTES_MAX},
    loading::Loading,
    pulse::Pulse,
    shared::{Host, Shared},
};

/// Bytes of registered buffers of an executor; its default of 10 MiB is for much direct I/O.
const EXECUTOR_IO_BYTES: usize = 64 << 10;
/// How long an executor lets a task run before it asks it to yield. Shorter ones lose wake-ups (see [`core_loop`]).
const PREEMPT: Duration = Duration::from_millis(100);
/// How often the main thread refreshes the memory figure.
const LOOK: Duration = Duration::from_secs(1);
/// Questions of ordinary commands that a core may have under way to each other core.
const CREDIT: u32 = 4096;
/// Bytes that a shard's log may grow to: addresses, not memory, and beyond the memory of a core's share of any machine.
const SHARD_BYTES_MAX: u64 = 256 << 30;
/// Bytes of an extent of a shard's log, at most and at least.
const EXTENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 20;
/// Extents of a shard's part of `maxmemory`, at least: some are open or kept for the next use, and do not count.
const EXTENTS_OF_LIMIT: u64 = 256;

/// Serves until a signal or `SHUTDOWN` asks for the end, and all that had arrived is answered.
///
/// # Errors
/// What is missing to start, or what broke a core.
pub fn run(config: Config) -> Result<(), StartError> {
    let (tell, told) = mpsc::channel();
    let teller = tell.clone();
    let on_signal = move |asked: signal::Asked| {
        tracing::warn!("Received {} scheduling shutdown...", asked.name());
        // Nobody listens only when the process ends anyway.
        let _ = teller.send(Notice::End);
    };
    signal::watch(on_signal).map_err(|error| StartError::System { what: "start a thread", error })?;
    bus::watch().map_err(|error| StartError::System { what: "handle SIGBUS", error })?;
    Node::begin(config, tell, told)?.wait()
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    addresses: Vec<Address>,
    listening: Arc<Published<Arc<Listening>>>,
    shared: Arc<Shared>,
    ending: Arc<Ending>,
    alarm: Alarm,
    tell: Sender<Notice>,
    told: Receiver<Notice>,
    /// How many cores were started, each on a thread of its own.
    cores: usize,
    /// Metrics and health.
    admin: Option<Admin>,
    /// The locks on the pools, held to the end.
    _pools: Option<Pools>,
    /// It was said that the node serves.
    told_ready: bool,
    supervisor: Supervisor,
}

/// What the main thread is told.
#[derive(Debug)]
enum Notice {
    /// The node is asked to end.
    End,
    /// A core wishes to change settings of the process.
    Wish(Wish),
    /// A core serves.
    Serving,
    /// A core has its data.
    Loaded,
    /// A core has ended, or could not start.
    Ended(Result<(), StartError>),
}

impl Node {
    /// Starts a node without looking at signals. A port of 0 is any free one.
    ///
    /// # Errors
    /// What is missing to start.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let (tell, told) = mpsc::channel();
        Self::begin(config, tell, told)
    }

    /// Where it listened when it had started.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Asks for the end, from any thread.
    pub fn ask_end(&self) -> impl Fn() + Send + use<> {
        let tell = self.tell.clone();
        move || {
            // Nobody listens only when the node has ended.
            let _ = tell.send(Notice::End);
        }
    }

    /// Waits until the node was asked to end and has, at most `shutdown-timeout` after that.
    ///
    /// # Errors
    /// What broke a core.
    pub fn wait(mut self) -> Result<(), StartError> {
        let mut deadline: Option<Instant> = None;
        let mut ended = 0;
        while ended < self.cores {
            let look = LOOK.min(self.supervisor.patience());
            let left = deadline.map_or(look, |deadline| deadline.saturating_duration_since(Instant::now()).min(look));
            match self.told.recv_timeout(left) {
                Ok(Notice::End) if deadline.is_none() => {
                    let (_, config) = self.shared.config();
                    let most = Duration::from_secs(u64::from(config.shutdown_timeout_s));
                    deadline = Some(Instant::now() + most);
                    self.supervisor.stopping(most);
                    tracing::warn!("User requested shutdown...");
                    self.ending.draining.store(true, Ordering::Release);
                    self.alarm.ring();
                }
                Ok(Notice::Wish(wish)) => self.grant(&wish),
                Ok(Notice::End | Notice::Serving) => {}
                Ok(Notice::Loaded) => self.tell_ready(),
                Ok(Notice::Ended(Ok(()))) => ended += 1,
                Ok(Notice::Ended(Err(error))) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {
                    host::refresh(&self.shared);
                    self.tell_progress();
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this thread has a sender"),
            }
            self.supervisor.ping(&self.shared.pulse);
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) && ended < self.cores {
                tracing::warn!("Not all requests were answered within shutdown-timeout, exiting anyway");
                break;
            }
        }
        self.remove_unix_sockets();
        tracing::warn!("EagleDB is now ready to exit, bye bye...");
        Ok(())
    }

    fn begin(mut config: Config, tell: Sender<Notice>, told: Receiver<Notice>) -> Result<Self, StartError> {
        let supervisor = Supervisor::find(config.supervised);
        preflight::enter_directory(&config.dir)?;
        if let Ok(path) = std::env::current_dir() {
            config.dir = path.display().to_string();
        }
        let admin = Admin::start(&config)?;
        if !config.aclfile.is_empty() {
            config = acl::file::load(&config).map_err(StartError::Users)?;
        }
        let cpus = Cpus::of_this_process()?;
        let mut folders = Pools::take(&config)?;
        if let Some(folders) = &folders
            && let Some(shards) = folders.shards(config.shards)?
        {
            config.shards = shards;
        }
        if config.shards == 0 {
            config.shards = cpus.default_shards(placement::cpu_quota());
        }
        let cores = config.shards;
        preflight::rings(cores)?;
        config.maxclients = preflight::clients_possible(config.maxclients, cores, 2 * config.bind.len() + 1)?;
        let acceptor = certificates::read(&config).map_err(StartError::Tls)?;
        let listening = Listening::new(&Wanted::from(&config), acceptor, cores)?;
        let meshes = mesh::mesh(cores).map_err(|error| StartError::System { what: "make an eventfd", error })?;
        let ending = Arc::new(Ending::default());
        let clock = Clock::start();
        let now = clock.now();
        let extent_bytes = extent_bytes(config.maxmemory, config.shards);
        let fresh = Fresh { hash_seed: entropy(), pool_id: entropy(), extent_bytes };
        let nodes: Vec<Option<usize>> = (0..cores).map(|core| cpus.node_of_core(core)).collect();
        if let Some(folders) = &mut folders {
            let shard = core_config(CoreId(0), &config, fresh, None).shard;
            folders.deal_out(&nodes, fresh, &shard, config.accept_damage)?;
        }
        let mut pools: Vec<Option<Pool>> = match &folders {
            Some(folders) => folders.open(&nodes, fresh)?.into_iter().map(Some).collect(),
            None => (0..cores).map(|_| None).collect(),
        };
        log_pools(&config);
        let mut shared = Shared::new(config, entropy(), now.unix.0, now.mono_us);
        shared.host = Host { supervisor: supervisor.name(), ..host::read() };
        shared.pulse = Pulse::of(cores);
        // A new pool too: a moment passes until it is ready.
        let loads: Vec<bool> = pools.iter().map(Option::is_some).collect();
        shared.loading = Loading::begin(&loads, now.unix.0);
        let shared = Arc::new(shared);
        let alarm = meshes[0].alarm();
        let addresses = listening.addresses();
        let listening = Arc::new(Published::new(Arc::new(listening)));
        let (_pools, told_ready) = (folders, false);
        let mut node = Self {
            addresses,
            listening,
            shared,
            ending,
            alarm,
            tell,
            told,
            cores: 0,
            admin,
            _pools,
            told_ready,
            supervisor,
        };
        if let Some(admin) = &node.admin {
            admin.know(Source::new(node.shared.clone(), node.ending.clone(), clock, cores));
        }
        for ((core, mesh), pool) in (0..cores).zip(meshes).zip(&mut pools) {
            let config = core_config(CoreId(core), &node.shared.config().1, fresh, pool.as_ref());
            let (listening, pool) = (node.listening.clone(), pool.take());
            let inquiry = node.admin.as_ref().map(Admin::inquiry);
            let start = Start { config, cores, mesh, listening, clock, cpus: cpus.clone(), pool, inquiry };
            node.spawn(start).map_err(|error| StartError::System { what: "start a thread", error })?;
            node.cores += 1;
        }
        node.until_serving()?;
        host::refresh(&node.shared);
        // Nothing is loaded yet: this is the program.
        let program_bytes = node.shared.rss_bytes.load(Ordering::Relaxed) + u64::from(cores) * ring::INPUT_BYTES;
        node.shared.program_bytes.store(program_bytes, Ordering::Relaxed);
        node.tell_ready();
        Ok(node)
    }

    /// Says that the node serves, once it does.
    fn tell_ready(&mut self) {
        let loading = &self.shared.loading;
        if self.told_ready || loading.is_on() {
            return;
        }
        self.told_ready = true;
        if loading.started_unix_ms() > 0 {
            let took_ms = loading.took_ms();
            tracing::info!("DB loaded from disk: {}.{:03} seconds", took_ms / 1000, took_ms % 1000);
        }
        for address in &self.addresses {
            tracing::info!("Ready to accept connections {address}");
        }
        self.supervisor.ready();
    }

    /// Says how far loading is, while it goes on.
    fn tell_progress(&self) {
        let bytes = self.shared.loading.bytes();
        if self.shared.loading.is_on() && bytes.bytes_total > 0 {
            let percent = 100.0 * bytes.bytes_done as f64 / bytes.bytes_total as f64;
            let far = format!("Loading: {percent:.1} % of {} MB", bytes.bytes_total >> 20);
            tracing::info!("{far}");
            self.supervisor.status(&far);
        }
    }

    /// Starts a core's thread. Nobody joins it: what it says last is that it has ended, and its memory goes with the
    /// process.
    fn spawn(&self, start: Start) -> io::Result<()> {
        let (shared, ending, tell) = (self.shared.clone(), self.ending.clone(), self.tell.clone());
        let name = format!("core-{}", start.config.id.0);
        let thread = thread::Builder::new().name(name).spawn(move || {
            let (result, core) = match start.serve(shared, ending, &tell) {
                Ok(core) => (Ok(()), Some(core)),
                Err(error) => (Err(error), None),
            };
            // Nobody listens only when the process ends anyway.
            let _ = tell.send(Notice::Ended(result));
            drop(core);
        });
        thread.map(drop)
    }

    /// Waits until all cores serve. If one cannot, the others end as well.
    fn until_serving(&self) -> Result<(), StartError> {
        let mut serving = 0;
        while serving < self.cores {
            match self.told.recv().expect("this thread has a sender") {
                Notice::Serving => serving += 1,
                Notice::Loaded => {}
                Notice::Ended(Err(error)) => {
                    self.ending.draining.store(true, Ordering::Release);
                    self.ending.drained.store(usize::MAX, Ordering::Release);
                    self.alarm.ring();
                    return Err(error);
                }
                Notice::End => self.ask_end()(),
                Notice::Wish(wish) => self.grant(&wish),
                Notice::Ended(Ok(())) => unreachable!("no core ends before it was told to"),
            }
        }
        Ok(())
    }

    fn grant(&self, wish: &Wish) {
        let cores = u16::try_from(self.cores).expect("as many as were started");
        Settings { shared: &self.shared, listening: &self.listening, alarm: &self.alarm, cores }.grant(wish);
    }

    fn remove_unix_sockets(&self) {
        for address in &self.addresses {
            if let Address::Unix(path) = address
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!("Could not remove the unix socket file {}: {error}", path.display());
            }
        }
    }
}

/// What a core's thread starts with.
struct Start {
    config: CoreConfig,
    cores: u16,
    mesh: Mesh<Box<Message>>,
    listening: Arc<Published<Arc<Listening>>>,
    clock: Clock,
    cpus: Cpus,
    pool: Option<Pool>,
    inquiry: Option<Inquiry>,
}

impl Start {
    /// Makes the executor and the core on this thread, drives it until the end, and hands it back.
    fn serve(self, shared: Arc<Shared>, ending: Arc<Ending>, tell: &Sender<Notice>) -> Result<Core, StartError> {
        let Self { config, cores, mesh, listening, clock, cpus, pool, inquiry } = self;
        let core = config.id.0;
        if let Err(error) = cpus.bind_memory(core) {
            tracing::warn!("Core {core} cannot say that its memory is to be of its NUMA node: {error}");
        }
        let cpu = cpus.of_core(core);
        let cannot = |why: String| StartError::Core { core, why };
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu.0))
            .io_memory(EXECUTOR_IO_BYTES)
            .preempt_timer(PREEMPT)
            .make()
            .map_err(|error| cannot(error.to_string()))?;
        executor.run(async {
            let accept_damage = shared.config().1.accept_damage;
            let opened = match pool {
                Some(pool) => {
                    pool.into_shard(&config.shard, accept_damage).map(|(shard, growth_file)| (shard, Some(growth_file)))
                }
                None => Shard::new(config.shard.clone()).map(|shard| (shard, None)),
            };
            let (shard, growth_file) = opened.map_err(|error| cannot(error.to_string()))?;
            let file = shard.pool_file().map(|file| file.as_fd().try_clone_to_owned()).transpose();
            let file = file.map_err(|error| cannot(error.to_string()))?;
            let checkpoint = shard.pool_file().map(|file| CheckpointFile::new(&pools::checkpoint_path(file.path())));
            let checkpoint = checkpoint.transpose().map_err(|error| cannot(error.to_string()))?;
            let at_once = shard.commits_at_once();
            let commit = if at_once { CommitMode::Immediate } else { CommitMode::Reported };
            log_pool(core, &shard);
            let core = Core::with_shard(&CoreConfig { commit, ..config }, shared, shard);
            let teller = tell.clone();
            let ask_end = Box::new(move || {
                // Nobody listens only when the process ends anyway.
                let _ = teller.send(Notice::End);
            });
            let teller = tell.clone();
            let loaded = Box::new(move || {
                // As above.
                let _ = teller.send(Notice::Loaded);
            });
            let teller = tell.clone();
            let wish = Box::new(move |wish| {
                // As above.
                let _ = teller.send(Notice::Wish(wish));
            });
            let pool = file.zip(growth_file).zip(checkpoint);
            let pool = pool.map(|((file, growth_file), checkpoint)| (file, growth_file, checkpoint));
            let parts = Parts { core, listening, mesh, cores, clock, ending, ask_end, loaded, pool, wish, inquiry };
            let serving = || {
                // As above.
                let _ = tell.send(Notice::Serving);
            };
            let core = core_loop::run(parts, serving).await.map_err(|error| cannot(error.to_string()))?;
            if core.is_settled() && !core.has_failed() && !core.is_opening() {
                pools::write_checkpoint(core.shard());
            }
            Ok(core)
        })
    }
}

fn core_config(id: CoreId, config: &Config, fresh: Fresh, pool: Option<&Pool>) -> CoreConfig {
    let superblock = pool.map(|pool| pool.file.superblock());
    let capacity_max = match config.pool_size_max {
        0 => SHARD_BYTES_MAX,
        bytes => SHARD_BYTES_MAX.min(bytes / u64::from(config.shards)),
    };
    let shard = ShardConfig {
        index: id.0,
        count: config.shards,
        seed: superblock.map_or(fresh.hash_seed, |superblock| superblock.hash_seed),
        databases: config.databases,
        extent_size: superblock.map_or(fresh.extent_bytes, |superblock| superblock.extent_bytes),
        capacity_max,
        in_place: pool.is_none(),
        string_len_max: usize::try_from(config.proto_max_bulk_len).unwrap_or(usize::MAX),
        huge_pages: !config.disable_thp,
        growth_bytes_min: eagle_pmem::GROWTH_BYTES_MIN,
        packed_hash: config.packed_hash(),
        pool_id: superblock.map_or(fresh.pool_id, |superblock| superblock.pool_id),
        map: match config.pool {
            PoolMode::Dax => MapMode::Dax,
            PoolMode::File => MapMode::File,
            PoolMode::Auto | PoolMode::None => MapMode::Auto,
        },
    };
    CoreConfig {
        id,
        cores: config.shards,
        shard,
        commit: if pool.is_some() { CommitMode::Reported } else { CommitMode::Immediate },
        credit: CREDIT,
        message_bytes_max: MESSAGE_BYTES_MAX,
        seed: entropy(),
        watch: clock::stopwatch(),
    }
}

/// Says what is kept, and when.
fn log_pools(config: &Config) {
    match config.pool {
        PoolMode::None => tracing::info!("Pools: none, nothing is kept"),
        _ => tracing::info!("Pools: of {} shards, sync {}", config.shards, config.sync().name()),
    }
}

/// Says where a core's pool lies.
fn log_pool(core: u16, shard: &Shard) {
    let Some(file) = shard.pool_file() else {
        return;
    };
    let path = file.path();
    let node = Device::of(path).node.map_or_else(String::new, |node| format!(", NUMA node {node}"));
    match shard.domain() {
        Domain::Dax(write_back) => tracing::info!(
            "Pool of core {core}: {}, persistent memory (DAX, {}){node}: every commit is durable at once",
            path.display(),
            write_back.name()
        ),
        _ => tracing::info!("Pool of core {core}: {}, an ordinary file{node}", path.display()),
    }
}

/// Bytes of an extent: less where memory is limited to little. A limit that is set later does not change it.
fn extent_bytes(maxmemory: u64, shards: u16) -> usize {
    let fit = if maxmemory == 0 { u64::MAX } else { maxmemory / u64::from(shards) / EXTENTS_OF_LIMIT };
    let fit = fit.clamp(*EXTENT_BYTES.start(), *EXTENT_BYTES.end());
    1 << fit.ilog2()
}

/// A number that nobody can guess, from the system.
fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl<'a> From<&'a Config> for Wanted<'a> {
    fn from(config: &'a Config) -> Self {
        Self {
            bind: &config.bind,
            port: (config.port != 0).then_some(config.port),
            tls_port: (config.tls.port != 0).then_some(config.tls.port),
            unix: &config.unixsocket,
            unix_mode: config.unixsocketperm,
            backlog: config.tcp_backlog,
            keepalive_s: config.tcp_keepalive_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_small_where_memory_is() {
        // A 256th of a shard's part, a power of two, between 64 KiB and 1 MiB; without a limit the largest.
        let sizes = [(0, 1), (1 << 30, 1), (1 << 30, 2), (300 << 20, 4), (64 << 20, 1), (1 << 20, 2), (1, 1)];
        let sizes = sizes.map(|(maxmemory, shards)| extent_bytes(maxmemory, shards) >> 10);
        assert_eq!(sizes, [1024, 1024, 1024, 256, 256, 64, 64]);
    }
}
