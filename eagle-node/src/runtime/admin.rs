//! The admin port: a thread of its own that answers HTTP with what [`crate::admin`] makes of the cores' figures.
//!
//! ```text
//!  client ─▶ GET /metrics ─▶ admin thread ──── asked: round 7 ────▶ every core looks at it with its tick (ten times a second)
//!                               ▲   └─ waits, at most ANSWER_MAX         │
//!                               └──────── figures, round 7 ◀─────────────┘
//! ```
//!
//! A core is not woken, interrupted or waited upon: it sends its figures with the tick that comes anyway, and only if somebody asked since
//! its last one. The thread is not pinned and gives way to others (a nice value), hyper speaks HTTP on it. One connection is one
//! request; it gets [`CONNECTION_MAX`] for all of it and [`HEADER_BYTES_MAX`] for its head, and beyond [`CONNECTIONS_MAX`] of them
//! the next is closed at once: so who is slow or hangs holds nothing but his own place.
//!
//! What always holds: who asks gets figures of all cores; of one that does not answer in time its last ones, with their age. While
//! a round of answers is younger than a tick, the next who asks gets the same.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::{
    Mutex, Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{
    clock::Clock,
    core_loop::Ending,
    listener::{bind_alone, is_no_such_family, is_not_ours, resolve},
    preflight::StartError,
};
use crate::{
    admin::{self, Answer, CoreView, View},
    config::Config,
    core::{
        Core,
        event::{CoreId, Now},
        stats::Figures,
    },
    shared::Shared,
};

/// How long the cores get to say how they are: some ticks.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Age up to which figures are given out again: about a tick.
const FRESH: Duration = Duration::from_millis(100);
/// How long a connection may take for everything.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's head.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Length of the queue of connections that are not accepted yet.
const BACKLOG: i32 = 64;
/// How long nothing is accepted when that failed, mostly for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// By how much the thread gives way to the cores.
const NICE: i32 = 10;

/// The admin port, as long as it is there.
#[derive(Debug)]
pub(super) struct Admin {
    asked: Arc<AtomicU64>,
    answers: UnboundedSender<Report>,
    source: Arc<OnceLock<Source>>,
    /// Dropped, it ends the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the figures come from.
#[derive(Debug)]
pub(super) struct Source {
    shared: Arc<Shared>,
    ending: Arc<Ending>,
    clock: Clock,
    cores: u16,
}

impl Source {
    /// Of a node of so many cores.
    pub(super) fn new(shared: Arc<Shared>, ending: Arc<Ending>, clock: Clock, cores: u16) -> Self {
        Self { shared, ending, clock, cores }
    }
}

/// A core's side: it looks here with each tick.
#[derive(Debug)]
pub(super) struct Inquiry {
    asked: Arc<AtomicU64>,
    answered: u64,
    answers: UnboundedSender<Report>,
}

/// A core's answer.
#[derive(Debug)]
struct Report {
    core: CoreId,
    round: u64,
    taken_us: u64,
    figures: Box<Figures>,
}

impl Inquiry {
    /// Says how the core is, if that was asked since it last did.
    pub(super) fn answer(&mut self, core: &Core, now: Now) {
        let round = self.asked.load(Ordering::Acquire);
        if round != self.answered {
            self.answered = round;
            let figures = Box::new(core.figures(now));
            // Nobody listens only when the process ends.
            let _ = self.answers.send(Report { core: core.id(), round, taken_us: now.mono_us, figures });
        }
    }
}

impl Admin {
    /// Listens on the admin port, if there is to be one, and answers from now on: at first, that the node starts.
    ///
    /// # Errors
    /// The port cannot be had.
    pub(super) fn start(config: &Config) -> Result<Option<Self>, StartError> {
        if config.admin_port == 0 {
            return Ok(None);
        }
        let listeners = listen(config)?;
        let system = |error| StartError::System { what: "start the admin port's thread", error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let (answers, reports) = unbounded_channel();
        let (end, ended) = oneshot::channel();
        let (asked, source) = (Arc::default(), Arc::new(OnceLock::new()));
        let collector = Collector::new(Arc::clone(&asked), Arc::clone(&source), reports);
        let serve = move || {
            // SAFETY: two numbers are passed; who 0 is the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
            let collector = Arc::new(Mutex::new(collector));
            let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            for listener in listeners {
                runtime.spawn(accept(listener, Arc::clone(&collector), Arc::clone(&places)));
            }
            // An error is the sender dropped: the end as well.
            let _ = runtime.block_on(ended);
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(system)?;
        Ok(Some(Self { asked, answers, source, end: Some(end), thread: Some(thread) }))
    }

    /// The node is there: what is answered from now on is how it is.
    pub(super) fn know(&self, source: Source) {
        assert!(self.source.set(source).is_ok(), "a node is known once");
    }

    /// A core's side.
    pub(super) fn inquiry(&self) -> Inquiry {
        Inquiry { asked: Arc::clone(&self.asked), answered: 0, answers: self.answers.clone() }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It only panics if this program is wrong, and then it has said so.
            let _ = thread.join();
        }
    }
}

/// Listens on all addresses of the admin port that this machine has.
fn listen(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    for word in &config.admin_bind {
        let (name, is_optional) = word.strip_prefix('-').map_or((word.as_str(), false), |name| (name, true));
        let address = match resolve(name, config.admin_port) {
            Ok(address) => address,
            Err(StartError::Listen { address, error }) => return Err(StartError::AdminListen { address, error }),
            Err(other) => return Err(other),
        };
        match listen_at(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_optional && (is_no_such_family(&error) || is_not_ours(&error)) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(StartError::AdminPortTaken(address));
            }
            Err(error) => return Err(StartError::AdminListen { address: address.to_string(), error }),
        }
        tracing::info!("Status page, metrics and health: http://{address}/");
        if !address.ip().is_loopback() {
            tracing::warn!("Whoever reaches http://{address}/ may read them: they ask for no password");
        }
    }
    if listeners.is_empty() {
        let address = format!("port {}", config.admin_port);
        return Err(StartError::AdminListen { address, error: io::ErrorKind::AddrNotAvailable.into() });
    }
    Ok(listeners)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind_alone(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts for ever.
async fn accept(listener: TcpListener, collector: Arc<Mutex<Collector>>, places: Arc<Semaphore>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("The admin port cannot be served: {error}"),
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accepting on the admin port");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Without a place it is closed.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let collector = Arc::clone(&collector);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &collector));
            let connection = http1::Builder::new()
                .keep_alive(false)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEADER_BYTES_MAX)
                // The whole connection has a time.
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever broke off or was too slow knows.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, collector: &Mutex<Collector>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let answer = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        Answer::not_allowed()
    } else if admin::is_about_the_node(path) {
        let mut collector = collector.lock().await;
        collector.collect().await;
        admin::respond(path, collector.view())
    } else {
        admin::respond(path, None)
    };
    let mut response = Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, answer.content_type)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, admin::CONTENT_SECURITY_POLICY);
    if answer.status == 405 {
        response = response.header(header::ALLOW, "GET, HEAD");
    }
    Ok(response.body(Full::new(answer.body)).expect("a status and headers that are well formed"))
}

/// Asks the cores, and keeps what they said last.
struct Collector {
    asked: Arc<AtomicU64>,
    source: Arc<OnceLock<Source>>,
    reports: UnboundedReceiver<Report>,
    round: u64,
    /// When all were asked last.
    asked_at: Option<Instant>,
    /// By core: since when it owes an answer.
    owing: Vec<Option<Instant>>,
    view: Option<View>,
}

impl Collector {
    fn new(asked: Arc<AtomicU64>, source: Arc<OnceLock<Source>>, reports: UnboundedReceiver<Report>) -> Self {
        Self { asked, source, reports, round: 0, asked_at: None, owing: Vec::new(), view: None }
    }

    /// What was said; `None` while the node is not there yet.
    fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// Asks all cores, unless that was done just now, and waits for those that answer in time.
    async fn collect(&mut self) {
        let source = Arc::clone(&self.source);
        let Some(source) = source.get() else { return };
        let begun = Instant::now();
        if self.asked_at.is_none_or(|at| begun.duration_since(at) >= FRESH) {
            self.asked_at = Some(begun);
            self.round += 1;
            self.asked.store(self.round, Ordering::Release);
            self.owing.resize(usize::from(source.cores), None);
            for since in &mut self.owing {
                since.get_or_insert(begun);
            }
            self.hear(source).await;
        }
        let view = self.view.get_or_insert_with(|| View::new(source.shared.clone(), source.cores));
        view.now = source.clock.now();
        view.config = source.shared.config().1;
        view.is_draining = source.ending.draining.load(Ordering::Acquire);
        view.rescues = source.ending.rescues.load(Ordering::Relaxed);
        view.collected += 1;
        view.collecting = begun.elapsed();
        for (core, since) in view.cores.iter_mut().zip(&self.owing) {
            core.silent = since.map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// Takes answers until no core owes one, but those that have owed it for too long.
    async fn hear(&mut self, source: &Source) {
        loop {
            while let Ok(report) = self.reports.try_recv() {
                self.take(source, report);
            }
            let patience = |since: &Instant| ANSWER_MAX.checked_sub(since.elapsed());
            let Some(left) = self.owing.iter().flatten().filter_map(patience).max() else { return };
            if let Ok(Some(report)) = tokio::time::timeout(left, self.reports.recv()).await {
                self.take(source, report);
            }
        }
    }

    fn take(&mut self, source: &Source, report: Report) {
        let view = self.view.get_or_insert_with(|| View::new(source.shared.clone(), source.cores));
        if report.round == self.round {
            self.owing[report.core.index()] = None;
        }
        view.cores[report.core.index()] =
            CoreView { figures: Some(*report.figures), taken_us: report.taken_us, silent: Duration::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use eagle_shard::shard::ShardConfig;

    use super::*;
    use crate::core::{CoreConfig, gate::CommitMode, laps::Stopwatch};

    #[test]
    fn who_asks_waits_once_for_a_core_that_is_silent() {
        // Two cores, of which the second says nothing at first: what the first says is there all the same, and with it how long the second
        // has been silent. When it speaks again, it is silent no more.
        let (answers, reports) = unbounded_channel();
        let (asked, source) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()));
        let shared = Arc::new(Shared::new(Config::default(), 1, 0, 0));
        source.set(Source::new(Arc::clone(&shared), Arc::default(), Clock::start(), 2)).expect("set once");
        let mut collector = Collector::new(Arc::clone(&asked), source, reports);
        let (second_speaks, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let speak = |index: u16| {
            let mut inquiry = Inquiry { asked: Arc::clone(&asked), answered: 0, answers: answers.clone() };
            let shard = ShardConfig { index, count: 2, extent_size: 1 << 18, ..ShardConfig::default() };
            let (commit, id) = (CommitMode::Immediate, CoreId(index));
            let watch = Stopwatch::STOPPED;
            let config = CoreConfig { id, cores: 2, shard, commit, credit: 1, message_bytes_max: 100, seed: 1, watch };
            let core = Core::new(&config, Arc::clone(&shared)).expect("memory for a shard");
            while !stop.load(Ordering::Relaxed) {
                if index == 0 || second_speaks.load(Ordering::Relaxed) {
                    inquiry.answer(&core, Now::default());
                }
                thread::sleep(Duration::from_millis(1));
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| speak(0));
            scope.spawn(|| speak(1));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async {
                let has = |collector: &Collector, core: usize| {
                    collector.view().is_some_and(|view| view.cores[core].figures.is_some())
                };
                while !has(&collector, 0) {
                    collector.collect().await;
                }
                assert!(!has(&collector, 1));
                assert!(collector.view().is_some_and(|view| view.cores[1].silent >= ANSWER_MAX));
                second_speaks.store(true, Ordering::Relaxed);
                while !collector.view().is_some_and(|view| view.cores[1].silent.is_zero()) {
                    collector.collect().await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                assert!(has(&collector, 1));
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
}
