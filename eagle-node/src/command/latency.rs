//! LATENCY: what took long on any core, by event ([`crate::core::spikes`]), and how long the calls of commands take.
//!
//! Replies and the graph are those of Redis (`src/latency.c`, `src/sparkline.c`); the doctor has the same bedside manner and advice of our own.

use std::fmt::Write as _;

use eagle_resp::Reply;
use eagle_shard::{
    error::Error,
    spec::{Flags, Group, Run, Spec},
};

use super::{Asked, Begin, NodeRun, Row, all_rows, find_named, help as write_help, info};
use crate::core::{
    Core, MergeCall, NodeCall,
    latency::Histogram,
    spikes::{Event, Sample, Series, Spikes},
    stats::{CoreReport, Figures, Part},
};

/// Columns of a graph, and lines of its bars.
const COLUMNS: usize = 80;
const LINES: usize = 4;

const LATENCY: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    group: Group::Server,
    since: "2.8.13",
    complexity: "O(1)",
    ..Spec::BLANK
};

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "latency",
    arity: -2,
    flags: Flags::empty(),
    tips: &[],
    complexity: "Depends on subcommand.",
    summary: "A container for latency diagnostics commands.",
    subcommands: SUBCOMMANDS,
    run: Run::Container,
    ..LATENCY
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec { name: "latency|doctor", summary: "Returns a human-readable latency analysis report.", ..LATENCY },
    Spec {
        name: "latency|graph",
        syntax: "event:string",
        arity: 3,
        summary: "Returns a latency graph for an event.",
        ..LATENCY
    },
    Spec {
        name: "latency|help",
        flags: Flags::LOADING.union(Flags::STALE),
        tips: &[],
        summary: "Returns helpful text about the different subcommands.",
        ..LATENCY
    },
    Spec {
        name: "latency|histogram",
        syntax: "[command:string...]",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        summary: "Returns the cumulative distribution of latencies of a subset or all commands.",
        ..LATENCY
    },
    Spec {
        name: "latency|history",
        syntax: "event:string",
        arity: 3,
        summary: "Returns timestamp-latency samples for an event.",
        ..LATENCY
    },
    Spec { name: "latency|latest", summary: "Returns the latest latency samples for all events.", ..LATENCY },
    Spec {
        name: "latency|reset",
        syntax: "[event:string...]",
        arity: -2,
        tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
        summary: "Resets the latency data for one or more events.",
        ..LATENCY
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("latency|doctor", NodeRun::Every { begin, each, merge: doctor }),
    ("latency|graph", NodeRun::Every { begin, each, merge: graph }),
    ("latency|help", NodeRun::Here(help)),
    ("latency|histogram", NodeRun::Every { begin, each: info::each, merge: histogram }),
    ("latency|history", NodeRun::Every { begin, each, merge: history }),
    ("latency|latest", NodeRun::Every { begin, each, merge: latest }),
    ("latency|reset", NodeRun::Every { begin, each: reset_each, merge: reset }),
];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("LATENCY", HELP, &mut call.reply);
    Ok(())
}

fn begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

fn each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    CoreReport { core: core.id(), part: Part::Spikes(Box::new(core.spikes().clone())) }
}

/// The spikes of all cores, by event, of those that had any.
fn together(reports: Vec<CoreReport>) -> Vec<(Event, Series)> {
    let spikes = reports.into_iter().map(|report| match report.part {
        Part::Spikes(spikes) => *spikes,
        other => unreachable!("LATENCY is made of spikes, not {other:?}"),
    });
    let spikes: Vec<Spikes> = spikes.collect();
    let of = |event: Event| {
        let all: Vec<Series> = spikes.iter().filter_map(|spikes| spikes.of(event).cloned()).collect();
        (!all.is_empty()).then(|| (event, Series::together(&all)))
    };
    Event::ALL.into_iter().filter_map(of).collect()
}

/// The spikes of all cores of the event that the command names.
fn asked_for(call: &MergeCall<'_>, reports: Vec<CoreReport>) -> Option<Series> {
    let wanted = Event::named(&call.args[2])?;
    together(reports).into_iter().find(|(event, _)| *event == wanted).map(|(_, series)| series)
}

fn latest(_: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let all = together(reports);
    reply.array(all.len());
    for (event, series) in all {
        let last = series.samples.back().expect("a series has samples");
        reply.array(4);
        reply.bulk(event.name().as_bytes());
        [last.unix_s, last.ms, series.max_ms].into_iter().for_each(|number| reply.integer(number as i64));
    }
}

fn history(_: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let series = asked_for(call, reports).unwrap_or_default();
    reply.array(series.samples.len());
    for sample in series.samples {
        reply.array(2);
        reply.integer(sample.unix_s as i64);
        reply.integer(sample.ms as i64);
    }
}

/// What the command names, or all.
fn named(asked: &Asked<'_>) -> Vec<Event> {
    match asked.args.len() {
        2 => Event::ALL.to_vec(),
        _ => asked.args.iter().skip(2).filter_map(Event::named).collect(),
    }
}

fn reset_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let mut gone = Spikes::default();
    for event in named(asked) {
        if core.spikes_mut().reset(event).is_some() {
            gone.note(event, 0, 0);
        }
    }
    CoreReport { core: core.id(), part: Part::Spikes(Box::new(gone)) }
}

fn reset(_: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.integer(together(reports).len() as i64);
}

fn graph(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    match asked_for(call, reports) {
        Some(series) => {
            let text = drawn(&call.args[2], &series, call.now.unix.0 / 1000);
            reply.verbatim("txt", &text);
        }
        None => {
            let line = [b"ERR No samples available for event '", &call.args[2], b"'"].concat();
            core.stats_mut().failed_call(super::row(call.spec));
            core.stats_mut().error(Some(super::row(call.spec)), &line);
            reply.error_bytes(&line);
        }
    }
}

/// A graph: bars from the shortest to the longest, and below each how long ago it was.
fn drawn(event: &[u8], series: &Series, now_s: u64) -> Vec<u8> {
    let times = || series.samples.iter().map(|sample| sample.ms);
    let (low, high) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let mut text = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        String::from_utf8_lossy(event),
        series.max_ms,
        "-".repeat(COLUMNS)
    );
    let samples: Vec<Sample> = series.samples.iter().copied().collect();
    for (at, row) in samples.chunks(COLUMNS).enumerate() {
        if at > 0 {
            text.push('\n');
        }
        draw_row(row, (low, high), now_s, &mut text);
    }
    text.into_bytes()
}

/// One row of bars with their labels.
fn draw_row(samples: &[Sample], (low, high): (u64, u64), now_s: u64, text: &mut String) {
    const LEVELS: [char; 3] = ['_', 'o', '#'];
    let steps = (LEVELS.len() * LINES) as u64;
    let span = (high - low).max(1);
    let step = |sample: &Sample| ((sample.ms - low) * steps / span).min(steps - 1) as usize;
    for line in 0..LINES {
        let below = (LINES - line - 1) * LEVELS.len();
        text.extend(samples.iter().map(|sample| match step(sample).checked_sub(below) {
            None => ' ',
            Some(level) => LEVELS.get(level).copied().unwrap_or('|'),
        }));
        text.push('\n');
    }
    let labels: Vec<String> = samples.iter().map(|sample| age(now_s.saturating_sub(sample.unix_s))).collect();
    text.extend(std::iter::repeat_n(' ', samples.len()));
    text.push('\n');
    let longest = labels.iter().map(String::len).max().unwrap_or(0);
    for at in 0..longest {
        text.extend(labels.iter().map(|label| label.as_bytes().get(at).map_or(' ', |byte| char::from(*byte))));
        text.push('\n');
    }
}

/// So many seconds, in few letters.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Calls of a command and how many of them took at most so many microseconds.
fn histogram(_: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let figures = Figures::together(reports);
    let rows: Vec<&Row> = match call.args.len() {
        2 => all_rows().collect(),
        _ => call
            .args
            .iter()
            .skip(2)
            .filter_map(find_named)
            .flat_map(|row| std::iter::once(row).chain(&row.rows))
            .collect(),
    };
    let found: Vec<(&Row, &Histogram)> =
        rows.into_iter().filter_map(|row| Some((row, figures.latency(row)?))).collect();
    reply.map(found.len());
    for (row, latency) in found {
        reply.bulk(row.spec.name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(latency.total() as i64);
        reply.bulk(b"histogram_usec");
        let mut before = 0;
        let steps: Vec<(u64, u64)> =
            latency.below().filter(|(_, count)| std::mem::replace(&mut before, *count) < *count).collect();
        reply.map(steps.len());
        for (bound_ns, count) in steps {
            // As HdrHistogram of two digits rounds it.
            reply.integer(((bound_ns + bound_ns / 128 - 1) / 1000) as i64);
            reply.integer(count as i64);
        }
    }
}

/// What the doctor says of a series.
struct Finding {
    average_ms: u64,
    mean_deviation_ms: u64,
    period_s: f64,
}

impl Finding {
    fn of(series: &Series, now_s: u64) -> Self {
        let count = series.samples.len() as u64;
        let times = || series.samples.iter().map(|sample| sample.ms);
        let average_ms = times().sum::<u64>() / count;
        let mean_deviation_ms = times().map(|ms| ms.abs_diff(average_ms)).sum::<u64>() / count;
        let first = series.samples.front().map_or(now_s, |sample| sample.unix_s);
        Self { average_ms, mean_deviation_ms, period_s: now_s.saturating_sub(first).max(1) as f64 / count as f64 }
    }
}

fn doctor(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    const OFF: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
        \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space mission \
        I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n";
    const NONE: &str = "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest bit. \
        I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n";
    const SOME: &str = "Dave, I have observed latency spikes in this Redis instance. You don't mind talking about it, do you \
        Dave?\n\n";
    let all = together(reports);
    if all.is_empty() {
        let text = if core.config().latency_threshold_ms == 0 { OFF } else { NONE };
        return reply.verbatim("txt", text.as_bytes());
    }
    let mut text = SOME.to_owned();
    for (number, (event, series)) in (1..).zip(&all) {
        let finding = Finding::of(series, call.now.unix.0 / 1000);
        let _ = writeln!(
            text,
            "{number}. {}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all time event {}ms.",
            event.name(),
            series.samples.len(),
            finding.average_ms,
            finding.mean_deviation_ms,
            finding.period_s,
            series.max_ms
        );
    }
    text.push_str("\nI have a few advices for you:\n\n");
    for advice in advices(core, &all) {
        let _ = writeln!(text, "- {advice}");
    }
    reply.verbatim("txt", text.as_bytes());
}

/// What may help.
fn advices(core: &Core, all: &[(Event, Series)]) -> Vec<String> {
    let config = core.config();
    let had = |events: &[Event]| all.iter().any(|(event, _)| events.contains(event));
    let mut advices = Vec::new();
    if had(&[Event::Command]) {
        let wanted_us = config.latency_threshold_ms.saturating_mul(1000);
        match u64::try_from(config.slowlog_slower_than_us) {
            Err(_) => advices.push(format!(
                "There are latency issues with potentially slow commands you are using. Try to enable the Slow Log Redis feature using \
                 the command 'CONFIG SET slowlog-log-slower-than {wanted_us}'. If the Slow log is disabled Redis is not able to log slow \
                 commands execution for you."
            )),
            Ok(logged_us) if logged_us > wanted_us => advices.push(format!(
                "Your current Slow Log configuration only logs events that are slower than your configured latency monitor threshold. \
                 Please use 'CONFIG SET slowlog-log-slower-than {wanted_us}'."
            )),
            Ok(_) => {}
        }
        advices.push(
            "Check your Slow Log to understand what are the commands you are running which are too slow to execute. Please check \
             https://redis.io/commands/slowlog for more information."
                .to_owned(),
        );
    }
    if had(&[Event::FastCommand, Event::ExpireCycle, Event::Background]) {
        advices.push(
            "What is fast by its nature took long: other processes may take the processors that the cores are pinned to (see 'steal' of \
             vmstat), or memory is short and pages are read back from the disk. Give every shard a processor of its own, and do not let the \
             system swap."
                .to_owned(),
        );
    }
    if had(&[Event::EvictionCycle]) {
        advices.push(
            "Sudden changes of 'maxmemory' via 'CONFIG SET', or large values, make commands wait until enough keys are evicted for \
             them. Lower 'maxmemory' in steps, and split large values."
                .to_owned(),
        );
    }
    if had(&[Event::Commit, Event::Sync]) {
        advices.push(
            "The disk of the pools takes long. Replies wait for a sync with 'sync always' only: 'CONFIG SET sync everysec' if the last \
             second may be lost with the power, or put the pools on a device of their own ('pool-dirs')."
                .to_owned(),
        );
    }
    advices
}

#[cfg(test)]
mod tests {
    use super::{super::trial::Trial, *};
    use crate::config::Config;

    #[test]
    fn spikes_of_all_cores_are_one_history() {
        // One on each core, of one second; the names that Redis has; forgotten once, by all.
        let config = Config { latency_threshold_ms: 5, slowlog_slower_than_us: -1, ..Config::default() };
        let mut trial = Trial::new(2, config);
        let (one, other) = (trial.connect(0), trial.connect(1));
        assert!(trial.ask(one, "LATENCY DOCTOR").contains("no latency spike was observed"));
        trial.laps_take(7000);
        trial.ask(one, "CLIENT GETNAME");
        trial.laps_take(9000);
        trial.ask(other, "CLIENT GETNAME");
        trial.ask(other, "PING");
        trial.laps_take(0);
        assert_eq!(
            trial.ask(other, "LATENCY LATEST"),
            "*2\r\n*4\r\n$7\r\ncommand\r\n:1700000000\r\n:9\r\n:9\r\n*4\r\n$12\r\nfast-command\r\n:1700000000\r\n:9\r\n:9\r\n"
        );
        assert_eq!(trial.ask(one, "LATENCY HISTORY command"), "*1\r\n*2\r\n:1700000000\r\n:9\r\n");
        assert_eq!(trial.ask(one, "LATENCY HISTORY Command"), "*0\r\n");
        trial.advance(61_000);
        let graph = trial.ask(one, "LATENCY GRAPH command");
        assert!(
            graph.contains("command - high 9 ms, low 9 ms (all time high 9 ms)\n----")
                && graph.contains("\n_\n \n1\nm\n")
        );
        let report = trial.ask(other, "LATENCY DOCTOR");
        assert!(
            report.contains("1. command: 1 latency spikes (average 9ms, mean deviation 0ms, period 61.00 sec)."),
            "{report}"
        );
        assert!(report.contains("CONFIG SET slowlog-log-slower-than 5000"), "{report}");
        assert_eq!(trial.ask(one, "LATENCY RESET command nothing"), ":1\r\n");
        assert_eq!(trial.ask(one, "LATENCY RESET"), ":1\r\n");
        assert_eq!(trial.ask(one, "LATENCY LATEST"), "*0\r\n");
        assert_eq!(trial.ask(one, "LATENCY GRAPH command"), "-ERR No samples available for event 'command'\r\n");
    }

    #[test]
    fn a_graph_is_drawn_as_redis_draws_it() {
        // Bars of twelve steps, filled below; a label under each.
        let times = [(1, 10), (2, 22), (3, 16), (65, 34)];
        let samples = times.iter().map(|(unix_s, ms)| Sample { unix_s: *unix_s, ms: *ms }).collect();
        let text = String::from_utf8(drawn(b"command", &Series { samples, max_ms: 99 }, 70)).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines, ["   #", " _ |", " |_|", "_|||", "    ", "1115", "mmms"]);
        assert!(text.starts_with("command - high 34 ms, low 10 ms (all time high 99 ms)\n"));
    }

    #[test]
    fn histograms_are_those_of_all_cores() {
        // By name, of a container its subcommands, of nothing nothing.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        for client in [one, other] {
            trial.ask(client, "PING");
            trial.ask(client, "CLIENT ID");
            trial.turn_takes(3000);
        }
        let pings = "$4\r\nping\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n*2\r\n:2\r\n:2\r\n";
        assert_eq!(trial.ask(one, "LATENCY HISTOGRAM ping nosuch"), format!("*2\r\n{pings}"));
        assert!(trial.ask(one, "LATENCY HISTOGRAM client").starts_with("*2\r\n$9\r\nclient|id\r\n"));
        assert!(trial.ask(one, "LATENCY HISTOGRAM").contains(pings));
    }
}
