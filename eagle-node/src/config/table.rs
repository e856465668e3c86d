//! The table has one row a directive: its names, grammar, default, place in [`Config`] and a line of documentation.
//!
//! Rows come in three kinds. `live` and `fixed` ones act, the latter only at start. `kept` ones are Redis'
//! directives without effect here: valid values are kept and echoed, and the log says at start that they do nothing.
//! `only` ones would promise what EagleDB does not have yet and take but the value that asks for nothing. Nothing
//! about a directive is written anywhere else.

use super::{
    Allowed, Config, EvictionPolicy, LogLevel, PoolMode, Supervision, SyncMode,
    form::{Form, OutputClass, Value, Wrong},
    grammar::Grammar,
};

/// Everything about one directive.
#[derive(Debug)]
pub struct Directive {
    /// As in `redis.conf`, lower case.
    pub name: &'static str,
    /// An older name that still works.
    pub alias: Option<&'static str>,
    /// What its value may be.
    pub form: Form,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// Where the value goes.
    pub place: Place,
    /// Whether `CONFIG SET` can change it.
    pub live: bool,
    /// Whether that is allowed to those only whom `enable-protected-configs` names.
    pub protected: bool,
    /// Whether patterns of `CONFIG GET` pass it over, as Redis does with its developers' directives.
    pub hidden: bool,
    /// Whether `CONFIG SET` has the runtime act on it before the value is published (`runtime::settings`).
    pub by_runtime: bool,
    /// One line for the help.
    pub doc: &'static str,
}

type At<T> = fn(&mut Config) -> &mut T;

/// Where a directive's value goes.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A field of [`Config`].
    Flag(At<bool>),
    /// A field of [`Config`].
    U8(At<u8>),
    /// A field of [`Config`].
    U16(At<u16>),
    /// A field of [`Config`].
    U32(At<u32>),
    /// A field of [`Config`].
    U64(At<u64>),
    /// A field of [`Config`].
    I64(At<i64>),
    /// A field of [`Config`], UTF-8.
    Text(At<String>),
    /// The password.
    Secret,
    /// A field of [`Config`].
    Words(At<Vec<String>>),
    /// A field of [`Config`]: which of the form's words.
    Choice(At<u8>),
    /// The level of the log.
    LogLevel,
    /// The policy of eviction.
    Policy,
    /// Where pools lie.
    Pool,
    /// Who watches over the process.
    Supervision,
    /// When commits are synced.
    Sync,
    /// Redis' name for having a log at all.
    AppendOnly,
    /// A field of [`Config`].
    Allowed(At<Allowed>),
    /// The bounds of unread replies.
    OutputLimits,
    /// [`Config::kept`]: without effect.
    Kept,
    /// Nowhere: it is always the default. The text says why and what to do.
    Only(&'static str),
}

/// A directive that acts, and can be changed while serving.
const fn live(name: &'static str, form: Form, default: &'static str, place: Place, doc: &'static str) -> Directive {
    Directive {
        name,
        alias: None,
        form,
        default,
        place,
        live: true,
        protected: false,
        hidden: false,
        by_runtime: false,
        doc,
    }
}

/// A directive that acts at start.
const fn fixed(name: &'static str, form: Form, default: &'static str, place: Place, doc: &'static str) -> Directive {
    Directive {
        name,
        alias: None,
        form,
        default,
        place,
        live: false,
        protected: false,
        hidden: false,
        by_runtime: false,
        doc,
    }
}

/// A directive without effect.
const fn kept(name: &'static str, form: Form, default: &'static str) -> Directive {
    Directive {
        name,
        alias: None,
        form,
        default,
        place: Place::Kept,
        live: true,
        protected: false,
        hidden: false,
        by_runtime: false,
        doc: "",
    }
}

/// A directive whose other values ask for something that is not available.
const fn only(name: &'static str, form: Form, default: &'static str, why: &'static str) -> Directive {
    Directive {
        name,
        alias: None,
        form,
        default,
        place: Place::Only(why),
        live: true,
        protected: false,
        hidden: false,
        by_runtime: false,
        doc: "",
    }
}

impl Directive {
    const fn or(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn at_start(mut self) -> Self {
        self.live = false;
        self
    }

    const fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    const fn by_runtime(mut self) -> Self {
        self.by_runtime = true;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Whether it does anything.
    #[must_use]
    pub fn acts(&self) -> bool {
        !matches!(self.place, Place::Kept | Place::Only(_))
    }

    /// Parses `text` and puts it into its place.
    ///
    /// # Errors
    ///
    /// If the text does not have the directive's form; the configuration is unchanged then.
    pub fn set(&self, config: &mut Config, text: &[u8]) -> Result<(), Wrong> {
        let value = self.form.parse(text)?;
        match (self.place, value) {
            (Place::Flag(at), Value::Flag(flag)) => *at(config) = flag,
            (Place::U8(at), Value::Number(number)) => *at(config) = narrow(number),
            (Place::U16(at), Value::Number(number)) => *at(config) = narrow(number),
            (Place::U32(at), Value::Number(number)) => *at(config) = narrow(number),
            (Place::U64(at), Value::Number(number)) => *at(config) = narrow(number),
            (Place::I64(at), Value::Number(number)) => *at(config) = number,
            (Place::Text(at), Value::Text(text)) => {
                *at(config) = String::from_utf8(text).map_err(|_| Wrong::NotUtf8)?;
            }
            (Place::Secret, Value::Text(text)) => {
                config.acl = config.acl.with_password(&text).into();
                config.requirepass.0 = text;
            }
            (Place::Choice(at), Value::Choice(index)) => *at(config) = narrow(index),
            (Place::Words(at), Value::Words(words)) => *at(config) = words,
            (Place::LogLevel, Value::Choice(index)) => config.loglevel = LogLevel::ALL[index],
            (Place::Policy, Value::Choice(index)) => {
                config.maxmemory_policy = EvictionPolicy::ALL[index];
            }
            (Place::Pool, Value::Choice(index)) => config.pool = PoolMode::ALL[index],
            (Place::Supervision, Value::Choice(index)) => config.supervised = Supervision::ALL[index],
            (Place::Sync, Value::Choice(index)) => config.sync = Some(SyncMode::ALL[index]),
            (Place::AppendOnly, Value::Flag(flag)) => config.appendonly = Some(flag),
            (Place::Allowed(at), Value::Choice(index)) => *at(config) = Allowed::ALL[index],
            (Place::OutputLimits, Value::OutputLimits(limits)) => {
                for (class, limit) in limits {
                    *class.of(&mut config.client_output_buffer_limit) = limit;
                }
            }
            (Place::Kept, value) => self.keep(config, &value)?,
            (Place::Only(why), value) => {
                if self.form.print(&value) != self.default.as_bytes() {
                    return Err(Wrong::NotAvailable(why));
                }
            }
            (place, value) => unreachable!("{}: {place:?} cannot hold {value:?}", self.name),
        }
        Ok(())
    }

    fn keep(&self, config: &mut Config, value: &Value) -> Result<(), Wrong> {
        let text = String::from_utf8(self.form.print(value)).map_err(|_| Wrong::NotUtf8)?;
        if self.form.parse(self.default.as_bytes()).as_ref() == Ok(value) {
            config.kept.remove(self.name);
        } else {
            config.kept.insert(self.name, text);
        }
        Ok(())
    }

    /// The value as `CONFIG GET` shows it. `config` is only read: fields are named by one accessor, which is mutable.
    #[must_use]
    pub fn get(&self, config: &mut Config) -> Vec<u8> {
        let value = match self.place {
            Place::Flag(at) => Value::Flag(*at(config)),
            Place::U8(at) => Value::Number(i64::from(*at(config))),
            Place::U16(at) => Value::Number(i64::from(*at(config))),
            Place::U32(at) => Value::Number(i64::from(*at(config))),
            Place::U64(at) => Value::Number(narrow(*at(config))),
            Place::I64(at) => Value::Number(*at(config)),
            Place::Text(at) => Value::Text(at(config).as_bytes().to_vec()),
            Place::Secret => Value::Text(config.requirepass.0.clone()),
            Place::Words(at) => Value::Words(at(config).clone()),
            Place::Choice(at) => Value::Choice(usize::from(*at(config))),
            Place::LogLevel => Value::Choice(config.loglevel as usize),
            Place::Policy => Value::Choice(config.maxmemory_policy as usize),
            Place::Pool => Value::Choice(config.pool as usize),
            Place::Supervision => Value::Choice(config.supervised as usize),
            Place::Sync => Value::Choice(config.sync() as usize),
            Place::AppendOnly => Value::Flag(config.appendonly()),
            Place::Allowed(at) => Value::Choice(*at(config) as usize),
            Place::OutputLimits => {
                let classes = [OutputClass::Normal, OutputClass::Replica, OutputClass::PubSub];
                let limits = &mut config.client_output_buffer_limit;
                Value::OutputLimits(classes.map(|class| (class, *class.of(limits))).to_vec())
            }
            Place::Kept => match config.kept.get(self.name) {
                Some(text) => return text.as_bytes().to_vec(),
                None => self.default(),
            },
            Place::Only(_) => self.default(),
        };
        self.form.print(&value)
    }

    fn default(&self) -> Value {
        self.form.parse(self.default.as_bytes()).unwrap_or_else(|wrong| panic!("default of {}: {wrong}", self.name))
    }
}

/// To the field's width; the row's bounds are within it (a test over the table says so).
fn narrow<N, T: TryFrom<N>>(number: N) -> T
where
    T::Error: std::fmt::Debug,
{
    number.try_into().expect("the row's bounds fit its field")
}

/// The row of this name or alias, in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Directive> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    TABLE.iter().find(|row| is(row.name) || row.alias.is_some_and(is))
}

const I32: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;
const MAX: i64 = i64::MAX;
const MB: i64 = 1 << 20;

const NO_REPLICATION: &str = "replication is not available yet, so the only value is \"\"";
const NO_REPLICA: &str = "replication is not available yet, so the value cannot be changed; remove the directive";
const NO_REPLICAS: &str = "replication is not available yet, so the only value is 0";
const NO_CLUSTER: &str = "the cluster is not available yet, so the only value is 'no'";
const NO_TLS_USER: &str = "clients' certificates do not name their users yet, so the only value is 'off'";
const NO_TLS_RELOAD: &str = "certificates are read again by CONFIG SET tls-cert-file, so the only value is 0";
const NO_TLS_CIPHERS: &str =
    "ciphers and key exchange are chosen by rustls, so the value cannot be changed; remove the directive";
const NO_TLS_OUT: &str = "replication is not available yet, so the value cannot be changed; remove the directive";
const NO_TLS_PASS: &str =
    "keys with a passphrase are not supported; write the key without, into a file that nobody else can read";

/// All directives: those that act first, then those that wait for a part of EagleDB, then those without effect.
#[rustfmt::skip]
pub const TABLE: &[Directive] = &[
    live("port", Form::Integer(0, 65535), "6379", Place::U16(|c| &mut c.port), "TCP port, 0 for none").by_runtime(),
    live("tls-port", Form::Integer(0, 65535), "0", Place::U16(|c| &mut c.tls.port), "TCP port on which TLS is spoken, 0 for none").by_runtime(),
    live("tls-cert-file", Form::Text, "", Place::Text(|c| &mut c.tls.cert_file), "its certificate and those behind it, PEM; set again, it is read again").by_runtime(),
    live("tls-key-file", Form::Text, "", Place::Text(|c| &mut c.tls.key_file), "the certificate's key, PEM, without a passphrase").by_runtime(),
    live("tls-ca-cert-file", Form::Text, "", Place::Text(|c| &mut c.tls.ca_cert_file), "authorities of clients' certificates, PEM").by_runtime(),
    live("tls-ca-cert-dir", Form::Text, "", Place::Text(|c| &mut c.tls.ca_cert_dir), "folder of such authorities").by_runtime(),
    live("tls-auth-clients", Form::Choice(&["no", "yes", "optional"]), "yes", Place::Choice(|c| &mut c.tls.auth_clients), "whether clients need a certificate").by_runtime(),
    live("tls-protocols", Form::Text, "", Place::Text(|c| &mut c.tls.protocols), "versions of TLS: \"TLSv1.2 TLSv1.3\", \"\" for both").by_runtime(),
    live("tls-prefer-server-ciphers", Form::Flag, "no", Place::Flag(|c| &mut c.tls.prefers_server_ciphers), "choose the cipher as the server prefers").by_runtime(),
    live("tls-session-caching", Form::Flag, "yes", Place::Flag(|c| &mut c.tls.session_caching), "let clients that come again go on with their session").by_runtime(),
    live("bind", Form::Addresses, "* -::*", Place::Words(|c| &mut c.bind), "addresses to listen on; '* -::*' are all").by_runtime(),
    fixed("admin-port", Form::Integer(0, 65535), "9121", Place::U16(|c| &mut c.admin_port), "TCP port of status page, metrics (/metrics) and health (/health, /ready, /live), 0 for none"),
    fixed("admin-bind", Form::Addresses, "127.0.0.1 -::1", Place::Words(|c| &mut c.admin_bind), "addresses on which these are, without a password: only where all who reach them may read them"),
    fixed("unixsocket", Form::Text, "", Place::Text(|c| &mut c.unixsocket), "path of a Unix socket, \"\" for none"),
    fixed("unixsocketperm", Form::Octal(0o777), "0", Place::U32(|c| &mut c.unixsocketperm), "its mode, 0 as created"),
    live("dir", Form::Text, ".", Place::Text(|c| &mut c.dir), "working directory; pools stay where they were opened").protected().by_runtime(),
    fixed("shards", Form::Integer(0, 1024), "0", Place::U16(|c| &mut c.shards), "cores to use, each with its shard; 0: one a physical core"),
    fixed("pool", Form::Choice(PoolMode::NAMES), "auto", Place::Pool, "where each shard's pool lies: 'file' in 'dir', 'dax' there on persistent memory, 'none' for a cache that keeps nothing; 'auto': dax where the folder grants it, else file"),
    live("sync", Form::Choice(SyncMode::NAMES), "everysec", Place::Sync, "what a reply promises of a pool in a file: 'always' that it survives power loss; 'everysec' the end of the process, and power loss but for the last second; 'no' the end of the process; with 'appendonly no' the default is 'no'").or("appendfsync"),
    live("appendonly", Form::Flag, "yes", Place::AppendOnly, "whether that is asked for: 'yes' needs a pool, 'no' means 'sync no' unless 'sync' is set too (the pool is written all the same), and it is 'no' without a pool"),
    fixed("pool-dirs", Form::Words, "", Place::Words(|c| &mut c.pool_dirs), "folders in which new pools are made, each shard's where the device is attached to its core's NUMA node, else in turn; without any, 'dir'").protected(),
    fixed("pool-size-max", Form::Memory(0, MAX), "0", Place::U64(|c| &mut c.pool_size_max), "bytes that all pools together may take, 0 for no bound"),
    live("checkpoint-bytes", Form::Memory(0, MAX), "48mb", Place::U64(|c| &mut c.checkpoint_bytes), "bytes appended to a pool after which its index is written out anew, so that a start after a crash reads only what came since; as many as the index has at least; 0: only at an orderly end"),
    fixed("accept-damage", Form::Flag, "no", Place::Flag(|c| &mut c.accept_damage), "open a pool although records that were durable are damaged, without them"),
    live("scrub-mb-per-second", Form::Integer(0, 100_000), "4", Place::U32(|c| &mut c.scrub_mb_per_second), "records read again in the background to see whether they are whole, in MB a second and shard; 0: none"),
    live("spin-us", Form::Integer(0, 1000), "100", Place::U32(|c| &mut c.spin_us), "microseconds that a core waits for more work awake where it comes as often; 0 where CPU time is short"),
    fixed("databases", Form::Integer(1, 255), "16", Place::U8(|c| &mut c.databases), "number of databases"),
    live("maxclients", Form::Integer(1, U32), "10000", Place::U32(|c| &mut c.maxclients), "connections at most"),
    live("timeout", Form::Integer(0, I32), "300", Place::U32(|c| &mut c.timeout), "seconds until an idle connection is closed, 0 for never"),
    fixed("tcp-backlog", Form::Integer(0, I32), "511", Place::U32(|c| &mut c.tcp_backlog), "length of the listening queue"),
    live("tcp-keepalive", Form::Integer(0, I32), "300", Place::U32(|c| &mut c.tcp_keepalive_s), "seconds between keep-alives, 0 for none").by_runtime(),
    live("disable-thp", Form::Flag, "yes", Place::Flag(|c| &mut c.disable_thp), "keep records in small pages").at_start(),
    live("protected-mode", Form::Flag, "yes", Place::Flag(|c| &mut c.protected_mode), "without a password, serve this host only"),
    live("requirepass", Form::Text, "", Place::Secret, "password of the default user, \"\" for none"),
    fixed("aclfile", Form::Text, "", Place::Text(|c| &mut c.aclfile), "file of the users and what they may do, \"\" for none"),
    live("acl-pubsub-default", Form::Choice(&["allchannels", "resetchannels"]), "resetchannels", Place::Choice(|c| &mut c.acl_pubsub_default), "what new users may do with channels"),
    live("auth-failures-per-minute", Form::Integer(0, 1_000_000), "60", Place::U32(|c| &mut c.auth_failures_per_minute), "failed logins that an address may have a minute before it is not listened to, 0 for any number"),
    live("acllog-max-len", Form::Integer(0, MAX), "128", Place::U64(|c| &mut c.acllog_max_len), "entries of ACL LOG"),
    live("loglevel", Form::Choice(LogLevel::NAMES), "notice", Place::LogLevel, "how much is logged").or("log-level"),
    fixed("logfile", Form::Text, "", Place::Text(|c| &mut c.logfile), "path of the log, \"\" for standard output").or("log-file"),
    fixed("log-json", Form::Flag, "no", Place::Flag(|c| &mut c.log_json), "lines of JSON in the log"),
    fixed("supervised", Form::Choice(Supervision::NAMES), "no", Place::Supervision, "who is told that the node serves, lives and ends: systemd (Type=notify, WatchdogSec), upstart (expect stop), or whichever the environment tells of"),
    live("hash-max-listpack-entries", Form::Integer(0, MAX), "512", Place::U64(|c| &mut c.hash_max_listpack_entries), "fields of a packed hash").or("hash-max-ziplist-entries"),
    live("hash-max-listpack-value", Form::Memory(0, MAX), "64", Place::U64(|c| &mut c.hash_max_listpack_value), "longest field or value of a packed hash").or("hash-max-ziplist-value"),
    live("proto-max-bulk-len", Form::Memory(MB, MAX), "512mb", Place::U64(|c| &mut c.proto_max_bulk_len), "longest argument and string"),
    live("client-query-buffer-limit", Form::Memory(MB, MAX), "1gb", Place::U64(|c| &mut c.client_query_buffer_limit), "unparsed request bytes of a connection"),
    live("client-output-buffer-limit", Form::OutputLimits, "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", Place::OutputLimits, "unread reply bytes of a connection"),
    live("maxmemory", Form::Memory(0, MAX), "0", Place::U64(|c| &mut c.maxmemory), "bytes that data may take, with up to a hundredth for the program itself; 0 for no bound"),
    live("maxmemory-clients", Form::MemoryOrPercent, "0", Place::I64(|c| &mut c.maxmemory_clients), "bytes that clients may take, or a percentage of maxmemory; 0 for no bound"),
    live("maxmemory-policy", Form::Choice(EvictionPolicy::NAMES), "noeviction", Place::Policy, "what is evicted at that bound"),
    live("maxmemory-samples", Form::Integer(1, 64), "5", Place::U32(|c| &mut c.maxmemory_samples), "keys looked at for one that is evicted, at least"),
    live("lfu-log-factor", Form::Integer(0, I32), "10", Place::U32(|c| &mut c.lfu_log_factor), "how slowly counts of uses grow"),
    live("lfu-decay-time", Form::Integer(0, I32), "1", Place::U32(|c| &mut c.lfu_decay_time), "minutes after which counts of uses lose one, 0 for never"),
    live("shutdown-timeout", Form::Integer(0, I32), "10", Place::U32(|c| &mut c.shutdown_timeout_s), "seconds for requests in flight at the end"),
    live("latency-tracking", Form::Flag, "yes", Place::Flag(|c| &mut c.latency_tracking), "count how long calls of commands take"),
    live("latency-tracking-info-percentiles", Form::Grammar(Grammar::Percentiles), "50 99 99.9", Place::Text(|c| &mut c.latency_percentiles), "what INFO latencystats shows of it"),
    live("latency-monitor-threshold", Form::Integer(0, MAX), "0", Place::U64(|c| &mut c.latency_threshold_ms), "milliseconds from which on LATENCY knows of what took them, 0 for none"),
    live("slowlog-log-slower-than", Form::Integer(-1, MAX), "10000", Place::I64(|c| &mut c.slowlog_slower_than_us), "microseconds from which on a command is in the slow log, -1 for none").or("commandlog-execution-slower-than"),
    live("slowlog-max-len", Form::Integer(0, MAX), "128", Place::U64(|c| &mut c.slowlog_max_len), "entries of the slow log").or("commandlog-slow-execution-max-len"),
    fixed("enable-debug-command", Form::Choice(Allowed::NAMES), "no", Place::Allowed(|c| &mut c.enable_debug_command), "who may use DEBUG"),
    fixed("enable-protected-configs", Form::Choice(Allowed::NAMES), "no", Place::Allowed(|c| &mut c.enable_protected_configs), "who may set directives that name files"),

    only("replicaof", Form::Words, "", NO_REPLICATION).or("slaveof").at_start(),
    only("min-replicas-to-write", Form::Integer(0, I32), "0", NO_REPLICAS).or("min-slaves-to-write"),
    only("masterauth", Form::Text, "", NO_REPLICA).or("primaryauth"),
    only("masteruser", Form::Text, "", NO_REPLICA).or("primaryuser"),
    only("cluster-enabled", Form::Flag, "no", NO_CLUSTER).at_start(),
    only("tls-auth-clients-user", Form::Choice(&["CN", "URI", "off"]), "off", NO_TLS_USER),
    only("tls-auto-reload-interval", Form::Integer(0, I32), "0", NO_TLS_RELOAD),
    only("tls-ciphers", Form::Text, "", NO_TLS_CIPHERS),
    only("tls-ciphersuites", Form::Text, "", NO_TLS_CIPHERS),
    only("tls-client-cert-file", Form::Text, "", NO_TLS_OUT),
    only("tls-client-key-file", Form::Text, "", NO_TLS_OUT),
    only("tls-client-key-file-pass", Form::Text, "", NO_TLS_OUT),
    only("tls-cluster", Form::Flag, "no", NO_CLUSTER),
    only("tls-dh-params-file", Form::Text, "", NO_TLS_CIPHERS),
    only("tls-key-file-pass", Form::Text, "", NO_TLS_PASS),
    only("tls-replication", Form::Flag, "no", NO_TLS_OUT),

    kept("active-defrag-cycle-max", Form::Integer(1, 99), "25"),
    kept("active-defrag-cycle-min", Form::Integer(1, 99), "1"),
    kept("active-defrag-cycle-us", Form::Integer(0, 100_000), "500"),
    kept("active-defrag-ignore-bytes", Form::Memory(1, MAX), "100mb"),
    kept("active-defrag-max-scan-fields", Form::Integer(1, MAX), "1000"),
    kept("active-defrag-threshold-lower", Form::Integer(0, 1000), "10"),
    kept("active-defrag-threshold-upper", Form::Integer(0, 1000), "100"),
    kept("active-expire-effort", Form::Integer(1, 10), "1"),
    kept("activedefrag", Form::Flag, "no"),
    kept("activerehashing", Form::Flag, "yes"),
    kept("always-show-logo", Form::Flag, "no").at_start(),
    kept("save", Form::Grammar(Grammar::SavePoints), ""),
    kept("aof-disable-auto-gc", Form::Flag, "no"),
    kept("aof-load-truncated", Form::Flag, "yes"),
    kept("aof-rewrite-incremental-fsync", Form::Flag, "yes"),
    kept("aof-timestamp-enabled", Form::Flag, "no"),
    kept("aof-use-rdb-preamble", Form::Flag, "yes"),
    kept("aof_rewrite_cpulist", Form::Text, "").or("aof-rewrite-cpulist").at_start(),
    kept("appenddirname", Form::Text, "appendonlydir").at_start(),
    kept("appendfilename", Form::Text, "appendonly.aof").at_start(),
    kept("auto-aof-rewrite-min-size", Form::Memory(0, MAX), "64mb"),
    kept("auto-aof-rewrite-percentage", Form::Integer(0, I32), "100"),
    kept("availability-zone", Form::Text, ""),
    kept("bgsave_cpulist", Form::Text, "").or("bgsave-cpulist").at_start(),
    kept("bind-source-addr", Form::Text, ""),
    kept("bio_cpulist", Form::Text, "").or("bio-cpulist").at_start(),
    kept("busy-reply-threshold", Form::Integer(0, MAX), "5000").or("lua-time-limit"),
    kept("cluster-allow-pubsubshard-when-down", Form::Flag, "yes"),
    kept("cluster-allow-reads-when-down", Form::Flag, "no"),
    kept("cluster-allow-replica-migration", Form::Flag, "yes"),
    kept("cluster-announce-bus-port", Form::Integer(0, 65535), "0"),
    kept("cluster-announce-client-ipv4", Form::Grammar(Grammar::Ipv4), ""),
    kept("cluster-announce-client-ipv6", Form::Grammar(Grammar::Ipv6), ""),
    kept("cluster-announce-client-port", Form::Integer(0, 65535), "0"),
    kept("cluster-announce-client-tls-port", Form::Integer(0, 65535), "0"),
    kept("cluster-announce-hostname", Form::Grammar(Grammar::Hostname), ""),
    kept("cluster-announce-human-nodename", Form::Grammar(Grammar::NodeName), ""),
    kept("cluster-announce-ip", Form::Text, ""),
    kept("cluster-announce-port", Form::Integer(0, 65535), "0"),
    kept("cluster-announce-tls-port", Form::Integer(0, 65535), "0"),
    kept("cluster-blacklist-ttl", Form::Integer(0, MAX), "60"),
    kept("cluster-config-file", Form::Text, "nodes.conf").at_start(),
    kept("cluster-config-save-behavior", Form::Choice(&["sync", "best-effort"]), "sync"),
    kept("cluster-databases", Form::Integer(1, I32), "1").at_start(),
    kept("cluster-link-sendbuf-limit", Form::Memory(0, MAX), "0"),
    kept("cluster-manual-failover-timeout", Form::Integer(1, I32), "5000"),
    kept("cluster-message-gossip-perc", Form::Integer(1, 100), "10").hidden(),
    kept("cluster-migration-barrier", Form::Integer(0, I32), "1"),
    kept("cluster-node-timeout", Form::Integer(0, MAX), "15000"),
    kept("cluster-ping-interval", Form::Integer(0, MAX), "1000").hidden(),
    kept("cluster-port", Form::Integer(0, 65535), "0").at_start(),
    kept("cluster-preferred-endpoint-type", Form::Choice(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    kept("cluster-replica-no-failover", Form::Flag, "no").or("cluster-slave-no-failover"),
    kept("cluster-replica-validity-factor", Form::Integer(0, I32), "10").or("cluster-slave-validity-factor"),
    kept("cluster-require-full-coverage", Form::Flag, "yes"),
    kept("cluster-slot-migration-log-max-len", Form::Integer(0, MAX), "1000"),
    kept("cluster-slot-stats-enabled", Form::Flag, "no"),
    kept("commandlog-large-reply-max-len", Form::Integer(0, MAX), "128"),
    kept("commandlog-large-request-max-len", Form::Integer(0, MAX), "128"),
    kept("commandlog-reply-larger-than", Form::Integer(-1, MAX), "1048576"),
    kept("commandlog-request-larger-than", Form::Integer(-1, MAX), "1048576"),
    kept("crash-log-enabled", Form::Flag, "yes"),
    kept("crash-memcheck-enabled", Form::Flag, "yes"),
    kept("daemonize", Form::Flag, "no").at_start(),
    kept("dbfilename", Form::Text, "dump.rdb").protected(),
    kept("debug-context", Form::Text, "").hidden(),
    kept("dual-channel-replication-enabled", Form::Flag, "no"),
    kept("dynamic-hz", Form::Flag, "yes"),
    kept("enable-debug-assert", Form::Flag, "no").at_start().hidden(),
    kept("enable-module-command", Form::Choice(&["no", "yes", "local"]), "no").at_start(),
    kept("events-per-io-thread", Form::Integer(0, I32), "2").hidden(),
    kept("extended-redis-compatibility", Form::Flag, "no"),
    kept("hash-seed", Form::Text, "").at_start(),
    kept("hide-user-data-from-log", Form::Flag, "yes"),
    kept("hll-sparse-max-bytes", Form::Memory(0, MAX), "3000"),
    kept("hz", Form::Clamped(1, 500), "10"),
    kept("ignore-warnings", Form::Text, ""),
    kept("import-mode", Form::Flag, "no"),
    kept("io-threads", Form::Integer(1, 128), "1").at_start(),
    kept("io-threads-always-active", Form::Flag, "no").hidden(),
    kept("io-threads-do-reads", Form::Flag, "no").at_start(),
    kept("jemalloc-bg-thread", Form::Flag, "yes"),
    kept("key-load-delay", Form::Integer(-I32 - 1, I32), "0").hidden(),
    kept("lazyfree-lazy-eviction", Form::Flag, "no"),
    kept("lazyfree-lazy-expire", Form::Flag, "no"),
    kept("lazyfree-lazy-server-del", Form::Flag, "no"),
    kept("lazyfree-lazy-user-del", Form::Flag, "no"),
    kept("lazyfree-lazy-user-flush", Form::Flag, "no"),
    kept("list-compress-depth", Form::Integer(0, I32), "0"),
    kept("list-max-listpack-size", Form::Integer(-I32 - 1, I32), "-2").or("list-max-ziplist-size"),
    kept("loading-process-events-interval-bytes", Form::Integer(1024, I32), "2097152").hidden(),
    kept("locale-collate", Form::Text, ""),
    kept("log-format", Form::Choice(&["legacy", "logfmt", "json"]), "legacy"),
    kept("log-timestamp-format", Form::Choice(&["legacy", "iso8601", "milliseconds"]), "legacy"),
    kept("lua-enable-deprecated-api", Form::Flag, "no").at_start().hidden(),
    kept("lua-enable-insecure-api", Form::Flag, "no").protected().hidden(),
    kept("max-new-connections-per-cycle", Form::Integer(1, 1000), "10"),
    kept("max-new-tls-connections-per-cycle", Form::Integer(1, 1000), "1"),
    kept("maxmemory-eviction-tenacity", Form::Integer(0, 100), "10"),
    kept("min-io-threads-avoid-copy-reply", Form::Integer(0, I32), "7").hidden(),
    kept("min-replicas-max-lag", Form::Integer(0, I32), "10").or("min-slaves-max-lag"),
    kept("min-string-size-avoid-copy-reply", Form::Integer(0, I32), "16384").hidden(),
    kept("min-string-size-avoid-copy-reply-threaded", Form::Integer(0, I32), "65536").hidden(),
    kept("mptcp", Form::Flag, "no").at_start(),
    kept("no-appendfsync-on-rewrite", Form::Flag, "no"),
    kept("notify-keyspace-events", Form::Grammar(Grammar::Events), ""),
    kept("oom-score-adj", Form::Choice(&["no", "yes", "relative", "absolute"]), "no"),
    kept("oom-score-adj-values", Form::Grammar(Grammar::OomScores), "0 200 800"),
    kept("pidfile", Form::Text, "").at_start(),
    kept("prefetch-batch-max-size", Form::Integer(0, 128), "16"),
    kept("proc-title-template", Form::Grammar(Grammar::Title), "{title} {listen-addr} {server-mode}"),
    kept("propagation-error-behavior", Form::Choice(&["ignore", "panic", "panic-on-replicas"]), "ignore"),
    kept("rdb-del-sync-files", Form::Flag, "no"),
    kept("rdb-key-save-delay", Form::Integer(-I32 - 1, I32), "0").hidden(),
    kept("rdb-save-incremental-fsync", Form::Flag, "yes"),
    kept("rdb-version-check", Form::Choice(&["strict", "relaxed"]), "strict"),
    kept("rdbchecksum", Form::Flag, "yes").at_start(),
    kept("rdbcompression", Form::Flag, "yes"),
    kept("rdma-bind", Form::Words, "").at_start(),
    kept("rdma-completion-vector", Form::Integer(-1, I32), "-1").at_start(),
    kept("rdma-port", Form::Integer(0, 65535), "0").at_start(),
    kept("rdma-rx-size", Form::Integer(65536, 16_777_216), "1048576").at_start(),
    kept("repl-backlog-size", Form::Memory(1, MAX), "1mb"),
    kept("repl-backlog-ttl", Form::Integer(0, MAX), "3600"),
    kept("repl-disable-tcp-nodelay", Form::Flag, "no"),
    kept("repl-diskless-load", Form::Choice(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    kept("repl-diskless-sync", Form::Flag, "yes"),
    kept("repl-diskless-sync-delay", Form::Integer(0, I32), "5"),
    kept("repl-diskless-sync-max-replicas", Form::Integer(0, I32), "0"),
    kept("repl-mptcp", Form::Flag, "no").at_start(),
    kept("repl-ping-replica-period", Form::Integer(1, I32), "10").or("repl-ping-slave-period"),
    kept("repl-timeout", Form::Integer(1, I32), "60"),
    kept("replica-announce-ip", Form::Text, "").or("slave-announce-ip"),
    kept("replica-announce-port", Form::Integer(0, 65535), "0").or("slave-announce-port"),
    kept("replica-announced", Form::Flag, "yes"),
    kept("replica-ignore-disk-write-errors", Form::Flag, "no"),
    kept("replica-ignore-maxmemory", Form::Flag, "yes").or("slave-ignore-maxmemory"),
    kept("replica-lazy-flush", Form::Flag, "no").or("slave-lazy-flush"),
    kept("replica-priority", Form::Integer(0, I32), "100").or("slave-priority"),
    kept("replica-read-only", Form::Flag, "yes").or("slave-read-only"),
    kept("replica-serve-stale-data", Form::Flag, "yes").or("slave-serve-stale-data"),
    kept("sanitize-dump-payload", Form::Choice(&["no", "yes", "clients"]), "no"),
    kept("server_cpulist", Form::Text, "").or("server-cpulist").at_start(),
    kept("set-max-intset-entries", Form::Integer(0, MAX), "512"),
    kept("set-max-listpack-entries", Form::Integer(0, MAX), "128"),
    kept("set-max-listpack-value", Form::Integer(0, MAX), "64"),
    kept("set-proc-title", Form::Flag, "yes").at_start(),
    kept("shutdown-on-sigint", Form::Grammar(Grammar::ShutdownOptions), "default"),
    kept("shutdown-on-sigterm", Form::Grammar(Grammar::ShutdownOptions), "default"),
    kept("slot-migration-max-failover-repl-bytes", Form::Memory(0, MAX), "0"),
    kept("socket-mark-id", Form::Integer(0, U32), "0").at_start(),
    kept("stop-writes-on-bgsave-error", Form::Flag, "yes"),
    kept("stream-node-max-bytes", Form::Memory(0, MAX), "4096"),
    kept("stream-node-max-entries", Form::Integer(0, MAX), "100"),
    kept("syslog-enabled", Form::Flag, "no").at_start(),
    kept("syslog-facility", Form::Text, "local0").at_start(),
    kept("syslog-ident", Form::Text, "redis").at_start(),
    kept("tls-session-cache-size", Form::Integer(0, I32), "20480"),
    kept("tls-session-cache-timeout", Form::Integer(0, I32), "300"),
    kept("tracking-table-max-keys", Form::Integer(0, MAX), "1000000"),
    kept("unixsocketgroup", Form::Text, "").at_start(),
    kept("use-exit-on-panic", Form::Flag, "no").hidden(),
    kept("watchdog-period", Form::Integer(0, I32), "0").hidden(),
    kept("zset-max-listpack-entries", Form::Integer(0, MAX), "128").or("zset-max-ziplist-entries"),
    kept("zset-max-listpack-value", Form::Memory(0, MAX), "64").or("zset-max-ziplist-value"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_aliases_are_unique_and_lower_case() {
        // Lookup is by first match, so a second row of one name would never be found.
        let mut seen = HashSet::new();
        for row in TABLE {
            for name in std::iter::once(row.name).chain(row.alias) {
                assert!(seen.insert(name), "{name} twice");
                assert_eq!(name, name.to_ascii_lowercase());
            }
            assert_eq!(row.doc.is_empty(), !row.acts(), "{}: exactly what acts is documented", row.name);
        }
    }

    #[test]
    fn places_hold_what_their_forms_allow() {
        // Both bounds of each number, each choice and both flags go in and come out the same.
        let mut config = Config::default();
        for row in TABLE.iter().filter(|row| !matches!(row.place, Place::Only(_))) {
            let values = match row.form {
                Form::Flag => vec!["yes".to_owned(), "no".to_owned()],
                Form::Integer(min, max) | Form::Clamped(min, max) | Form::Memory(min, max) => {
                    vec![min.to_string(), max.to_string()]
                }
                Form::MemoryOrPercent => vec!["7%".to_owned(), "1024".to_owned()],
                Form::Octal(max) => vec!["0".to_owned(), format!("{max:o}")],
                Form::Choice(names) => names.iter().map(|&name| name.to_owned()).collect(),
                Form::Text => vec!["some".to_owned()],
                Form::Words | Form::Addresses => vec!["some words".to_owned()],
                Form::OutputLimits => vec!["normal 1 2 3 slave 4 5 6 pubsub 7 8 9".to_owned()],
                Form::Grammar(grammar) => vec![grammar.example().to_owned()],
            };
            for value in values {
                row.set(&mut config, value.as_bytes()).unwrap_or_else(|wrong| panic!("{}: {wrong}", row.name));
                assert_eq!(String::from_utf8(row.get(&mut config)).unwrap(), value, "{}", row.name);
            }
        }
    }

    #[test]
    fn what_would_promise_protection_is_refused() {
        // A value that asks for nothing is taken; anything else names what is missing.
        let mut config = Config::default();
        for (name, nothing, something) in [
            ("replicaof", "", "host 6379"),
            ("min-replicas-to-write", "0", "1"),
            ("primaryauth", "", "secret"),
            ("cluster-enabled", "no", "yes"),
            ("tls-key-file-pass", "", "secret"),
            ("tls-replication", "no", "yes"),
            ("tls-ciphers", "", "ALL"),
        ] {
            let row = find(name.as_bytes()).unwrap();
            row.set(&mut config, nothing.as_bytes()).unwrap();
            assert!(matches!(row.set(&mut config, something.as_bytes()), Err(Wrong::NotAvailable(_))), "{name}");
            assert_eq!(row.get(&mut config), nothing.as_bytes());
        }
    }

    #[test]
    fn kept_values_are_echoed_and_forgotten_at_their_default() {
        // An alias reaches the same value; back at the default nothing is kept.
        let mut config = Config::default();
        let row = find(b"HASH-MAX-ziplist-entries").unwrap();
        assert_eq!(row.get(&mut config), b"512");
        row.set(&mut config, b"7").unwrap();
        assert_eq!(row.get(&mut config), b"7");
        row.set(&mut config, b"512").unwrap();
        assert!(config.kept.is_empty());
    }
}
