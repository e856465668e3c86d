//! EagleDB is a Redis-compatible key-value server in which every pinned core owns one shard, shared with nobody, so
//! that no lock stands on the hot path. This page is the map.
//!
//! ```text
//!          bench   tests                 drive everything; nothing depends on them
//!            └───┬───┘
//!                ▼
//!           eagle-node                   cores, connections, configuration. Only `runtime` knows glommio, io_uring,
//!                │                       sockets, clocks, threads.
//!                ▼
//!           eagle-shard                  data: Dash table, data types, commands. Synchronous, no I/O, no clock.
//!            │        │
//!            ▼        ▼
//!      eagle-resp   eagle-pmem           bytes: on the wire, on the medium. Neither knows the other.
//! ```
//!
//! # The one way of a request
//!
//! ```text
//! socket bytes ─▶ resp::Decoder ─▶ batch of Args ─▶ command::find ─▶ gate (arity, auth, ACL)   core::dispatch
//!                                                        │
//!           ┌────────────────────────────────────────────┘
//!           ▼
//!      Route: home │ the key's shard │ split by key │ every shard │ several steps             core::{dispatch,gather,steps}
//!           ▼
//!      Shard::execute(call)   pure, synchronous, never waits                                   eagle_shard
//!           ▼
//!      Shard::commit          once a turn; Gate says what is durable                           core::gate
//!           ▼
//!      Replies                in request order, each only when what it promises holds          core::replies
//!           ▼
//!      socket bytes
//! ```
//!
//! # Where to find what
//!
//! | module | noun |
//! | --- | --- |
//! | [`admin`] | metrics, health and the status page: what a GET is answered, from the figures of all cores |
//! | [`check`] | `eagle-node check`: pools verified offline |
//! | [`generate`] | configuration, man page and completions, made of the table |
//! | [`core`] | one core's state machine: events in, actions out; sessions, routing, conversations between cores |
//! | [`acl`] | users and what each may do |
//! | [`attempts`] | failed logins, by address |
//! | [`budget`] | what all cores take together of the memory that the node may |
//! | [`command`] | the table of all commands, and the node's own (PING, CLIENT, CONFIG, INFO, ...) |
//! | [`log`] | tracing set-up: where the log goes, its level at run time |
//! | [`pulse`] | whether the cores live, for who watches over the node |
//! | [`config`] | one declarative table behind file, flags, CONFIG and help |
//! | [`runtime`] | the rim: executors, rings, sockets, clocks, signals; decides nothing |
//! | [`shared`] | what the cores of a node share: a few counters and the published configuration |
//!
//! # What is deliberately absent
//!
//! - A core never waits: not for a lock, not for another core, not for a disk. What cannot go on lies in a table until
//!   an event takes it up.
//! - `core` has no clock, no socket, no thread; the simulator in `tests` runs whole nodes of it from one seed.
//! - No data is shared between cores but by messages; the exceptions are counted in [`shared`].
//!
//! # Where it differs from Redis
//!
//! - Commands of one pipeline on keys of different shards may take effect in either order for other clients; the
//!   pipeline's own replies are in order, and on one shard so are its effects.
//! - MSET, DEL and other commands over keys of several shards are not atomic between the shards (each shard's part is).
//!   RENAME, RENAMENX, COPY, MSETNX and LCS hold their keys on all shards while they are at work, so others see them
//!   whole; FLUSHALL, FLUSHDB and SWAPDB hold all keys, so each comes before or after any of them; a crash in the middle of a RENAME may leave both keys, never neither.

pub mod acl;
pub mod admin;
pub mod attempts;
pub mod budget;
pub mod check;
pub mod command;
pub mod config;
pub mod core;
pub mod crowd;
pub mod faults;
pub mod generate;
pub mod loading;
pub mod log;
pub mod pulse;
pub mod runtime;
pub mod shared;

/// The version of Redis that this server answers as.
pub const REDIS_VERSION: &str = "7.2.4";
