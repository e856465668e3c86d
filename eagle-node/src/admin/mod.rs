//! What the admin port answers: metrics, health and the status page, made of the figures that all cores gave.
//!
//! ```text
//!  GET /          the status page, which asks for /health once a second      page.html
//!  GET /metrics   for Prometheus, in its text format                         redis_metrics, eagle_metrics
//!  GET /health    all of it as JSON; 200 also while nothing is served        health
//!  GET /ready     200 if commands are served and writes taken, else 503      state
//!  GET /live      200 unless a core has been silent for a minute             state
//! ```
//!
//! Pure: a path and a [`View`] in, an [`Answer`] out. Sockets, threads and how cores are asked are `runtime::admin`'s. Every number
//! is one that `INFO` shows or is made of ([`crate::core::stats::Figures`]); nothing is counted here.
//! `/healthz`, `/readyz` and `/livez` are the same by the names that Kubernetes' own components use.

mod eagle_metrics;
mod exposition;
mod health;
mod redis_metrics;
mod state;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    config::Config,
    core::{event::Now, stats::Figures},
    shared::Shared,
};

/// What a browser may load for the page: nothing but the page and its figures.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("page.html");
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A node as its cores said that it is.
#[derive(Debug)]
pub struct View {
    /// What its cores share.
    pub shared: Arc<Shared>,
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its cores, in order.
    pub cores: Vec<CoreView>,
    /// It was asked to end.
    pub is_draining: bool,
    /// Times that a sleeping core was found with work to do.
    pub rescues: u64,
    /// The time.
    pub now: Now,
    /// How often it was looked at.
    pub collected: u64,
    /// How long the cores took to say how they are.
    pub collecting: Duration,
}

/// A core as it said that it is.
#[derive(Debug, Default)]
pub struct CoreView {
    /// What it said last, if it ever did.
    pub figures: Option<Figures>,
    /// When it said so, monotonic microseconds.
    pub taken_us: u64,
    /// How long it has owed an answer.
    pub silent: Duration,
}

impl View {
    /// Of a node whose cores have not said anything.
    #[must_use]
    pub fn new(shared: Arc<Shared>, cores: u16) -> Self {
        let config = shared.config().1;
        let cores = (0..cores).map(|_| CoreView::default()).collect();
        let (now, collecting) = (Now::default(), Duration::ZERO);
        Self { shared, config, cores, is_draining: false, rescues: 0, now, collected: 0, collecting }
    }

    /// The figures of all cores added up; `None` while one has not said anything yet.
    #[must_use]
    pub fn whole(&self) -> Option<Figures> {
        let mut cores = self.cores.iter().map(|core| core.figures.as_ref());
        let mut whole = cores.next()??.clone();
        for figures in cores {
            whole.add(figures?);
        }
        Some(whole)
    }
}

/// What a GET is answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// The body's type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into() }
    }

    /// To another method than GET and HEAD.
    #[must_use]
    pub fn not_allowed() -> Self {
        Self::new(405, TEXT, "Only GET and HEAD are answered here.\n")
    }
}

/// Whether the answer says how the node is: whoever answers is to ask the cores first.
#[must_use]
pub fn is_about_the_node(path: &str) -> bool {
    !matches!(path, "/") && what(path).is_some()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Page,
    Metrics,
    Health,
    Ready,
    Live,
}

fn what(path: &str) -> Option<What> {
    Some(match path {
        "/" => What::Page,
        "/metrics" => What::Metrics,
        "/health" | "/healthz" => What::Health,
        "/ready" | "/readyz" => What::Ready,
        "/live" | "/livez" => What::Live,
        _ => return None,
    })
}

/// Answers a GET of this path; without a view the node has only begun to start.
#[must_use]
pub fn respond(path: &str, view: Option<&View>) -> Answer {
    let Some(what) = what(path) else {
        return Answer::new(404, TEXT, "Here are /, /metrics, /health, /ready and /live.\n");
    };
    match what {
        What::Page => Answer::new(200, "text/html; charset=utf-8", PAGE),
        What::Metrics => metrics(view),
        What::Health => Answer::new(200, JSON, pretty(&health::health(view))),
        What::Ready => {
            let (state, reasons) = state::state(view);
            let body = serde_json::json!({ "state": state.name(), "reasons": reasons });
            Answer::new(if state == state::State::Ready { 200 } else { 503 }, JSON, pretty(&body))
        }
        What::Live => {
            let silent = view.map(state::silent_cores).unwrap_or_default();
            let body = serde_json::json!({ "live": silent.is_empty(), "silent_cores": silent });
            Answer::new(if silent.is_empty() { 200 } else { 503 }, JSON, pretty(&body))
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn metrics(view: Option<&View>) -> Answer {
    let Some((view, whole)) = view.and_then(|view| Some((view, view.whole()?))) else {
        return Answer::new(503, TEXT, "The cores do not say yet how they are: the node starts.\n");
    };
    let mut exposition = exposition::Exposition::default();
    eagle_metrics::write(view, &whole, &mut exposition);
    redis_metrics::write(view, whole, &mut exposition);
    Answer::new(200, exposition::CONTENT_TYPE, exposition.into_text())
}

#[cfg(test)]
mod tests {
    use eagle_shard::shard::{Shard, ShardConfig};

    use super::*;
    use crate::core::{CoreConfig, event::CoreId, gate::CommitMode, laps::Stopwatch};

    /// A node of so many empty cores that have all said how they are.
    pub(super) fn trial(cores: u16) -> View {
        let shared = Arc::new(Shared::new(Config::default(), 1, 1_700_000_000_000, 1));
        let mut view = View::new(Arc::clone(&shared), cores);
        for (index, core) in (0..cores).zip(&mut view.cores) {
            let shard = ShardConfig { index, count: cores, extent_size: 1 << 18, ..ShardConfig::default() };
            let (commit, id) = (CommitMode::Immediate, CoreId(index));
            let watch = Stopwatch::STOPPED;
            let config = CoreConfig { id, cores, shard, commit, credit: 1, message_bytes_max: 100, seed: 1, watch };
            let shard = Shard::new(config.shard.clone()).expect("memory for a shard");
            core.figures = Some(crate::core::Core::with_shard(&config, Arc::clone(&shared), shard).figures(view.now));
        }
        view
    }

    fn status(path: &str, view: &View) -> u16 {
        respond(path, Some(view)).status
    }

    #[test]
    fn a_node_that_starts_is_alive_and_not_ready() {
        // Before there is anything to ask, and while a core has not answered yet; what there is not at all is said.
        assert_eq!(["/live", "/health", "/"].map(|path| respond(path, None).status), [200; 3]);
        assert_eq!(["/ready", "/metrics"].map(|path| respond(path, None).status), [503; 2]);
        let mut view = trial(2);
        assert_eq!(["/livez", "/healthz", "/readyz", "/metrics"].map(|path| status(path, &view)), [200; 4]);
        view.cores[1].figures = None;
        assert_eq!(["/ready", "/metrics", "/health"].map(|path| status(path, &view)), [503, 503, 200]);
        assert_eq!(["/metrics/", "/healthzz", "", "/page.html"].map(|path| status(path, &view)), [404; 4]);
        let mut loading = trial(1);
        let mut shared = Shared::new(Config::default(), 1, 1_700_000_000_000, 1);
        shared.loading = crate::loading::Loading::begin(&[true], 1_700_000_000_000);
        loading.shared = Arc::new(shared);
        assert_eq!(["/live", "/ready", "/metrics"].map(|path| status(path, &loading)), [200, 503, 200]);
        let body = respond("/readyz", Some(&loading)).body;
        assert!(String::from_utf8_lossy(&body).contains("\"state\": \"loading\""), "{body:?}");
    }

    #[test]
    fn ready_says_why_it_is_not() {
        // What is refused, in words; and that it ends; a silent core alone is no reason, but after a minute it is not alive.
        let reasons = |view: &View| {
            let answer = respond("/ready", Some(view));
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            (answer.status, body["state"].as_str().expect("a text").to_owned(), body["reasons"].to_string())
        };
        let mut view = trial(2);
        assert_eq!(reasons(&view).0, 200);
        view.cores[1].silent = Duration::from_secs(59);
        assert_eq!((reasons(&view).0, status("/live", &view)), (200, 200));
        view.cores[1].silent = Duration::from_secs(61);
        assert_eq!(status("/live", &view), 503);
        view.cores[1].figures.as_mut().expect("it has").lacks_space = true;
        let (code, state, why) = reasons(&view);
        assert_eq!((code, state.as_str()), (503, "refusing_writes"));
        assert!(why.contains("core 1") && why.contains("space"), "{why}");
        view.cores[0].figures.as_mut().expect("it has").has_failed = true;
        let (_, _, why) = reasons(&view);
        assert!(why.contains("core 0") && why.contains("restart"), "{why}");
        view.is_draining = true;
        assert_eq!(reasons(&view).1, "draining");
        assert_eq!(status("/live", &view), 200, "who ends is not to be killed for it");
    }

    #[test]
    fn memory_that_cannot_be_freed_refuses_writes() {
        // More is taken than may be, and nothing can leave; with something that can, it is ready.
        use crate::budget::Part;
        let view = trial(1);
        let (before, part) = (Part::default(), Part { bytes: 2000, can_make_room: false });
        view.shared.budget.replace(before, part);
        assert_eq!(status("/ready", &view), 200);
        let mut view = view;
        view.config = Arc::new(Config { maxmemory: 1000, ..Config::default() });
        let answer = respond("/ready", Some(&view));
        assert!(answer.status == 503 && String::from_utf8_lossy(&answer.body).contains("maxmemory"));
        view.shared.budget.replace(part, Part { can_make_room: true, ..part });
        assert_eq!(status("/ready", &view), 200);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        // No address of another host, no file, no font: what it shows it has in itself or asks this node for.
        for foreign in ["http://", "https://", "src=", "href=", "@import", "url("] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }
}
