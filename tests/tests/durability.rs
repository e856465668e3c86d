//! What replies promise of the media, in the simulator: each test runs many seeds; `EAGLE_SEED=n` runs the one that a failure
//! printed.
//!
//! Values are tokens that occur once. A reply that acknowledges or shows one promises that its bytes are on the medium: in every
//! image after the end of the process, and for those who asked for it in every image after power loss.

use std::collections::HashMap;

use eagle_node::{
    config::{Config, SyncMode},
    core::event::{ConnId, Event, Stored},
};
use eagle_resp::Value;
use eagle_tests::{
    seeds,
    sim::{Plan, Sim},
    wire::encode,
};
use memchr::memmem;

type At = (usize, ConnId);

fn node(seed: u64, cores: u16, sync: SyncMode, delay_max: u64) -> Sim {
    let plan = Plan { seed, cores, credit: 1000, ring: 4, commits: true, delay_max };
    Sim::with_config(plan, Config { sync: Some(sync), ..Config::default() })
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// Whether a token is on some core's medium, in each of a few images.
fn is_kept(sim: &Sim, token: &[u8], after_power_loss: bool) -> bool {
    let find = memmem::Finder::new(token);
    (0..2).all(|nth| {
        let mut rng = fastrand::Rng::with_seed(sim.turn * 2 + nth);
        (0..sim.cores.len()).any(|core| {
            let image =
                if after_power_loss { sim.crash_image(core, &mut rng) } else { sim.process_image(core, &mut rng) };
            find.find(&image).is_some()
        })
    })
}

/// A client that sets and reads tokens, and what it has asked for and not yet heard of.
struct Asker {
    at: At,
    mode: SyncMode,
    waiting: Vec<Vec<u8>>,
    heard: usize,
}

impl Asker {
    /// Takes the replies that have come; returns the tokens that they promise.
    fn promised(&mut self, sim: &Sim) -> Vec<Vec<u8>> {
        let mut tokens = Vec::new();
        while let Some((reply, len)) =
            Value::parse(&sim.connection(self.at).received[self.heard..]).expect("well-formed")
        {
            self.heard += len;
            let set = self.waiting.remove(0);
            match reply {
                Value::Simple(_) => tokens.push(set),
                Value::Bulk(shown) => tokens.push(shown),
                Value::Null => {}
                other => panic!("seed {}: {other:?}", sim.plan.seed),
            }
        }
        tokens
    }
}

#[test]
fn replies_leave_when_what_they_promise_is_on_the_medium() {
    // Connections of all modes on nodes of all modes, on several cores, write and read each other's keys while writes and syncs
    // end late.
    for seed in seeds(0..16) {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xd0);
        let modes = [SyncMode::Always, SyncMode::EverySec, SyncMode::No];
        let (configured, delay) = (modes[rng.usize(0..3)], rng.u64(0..=30));
        let mut sim = node(seed, rng.u16(1..=3), configured, delay);
        let mut askers: Vec<Asker> = Vec::new();
        for nth in 0..5 {
            let at = sim.connect(nth % sim.cores.len());
            let mode =
                rng.choice([Some(SyncMode::Always), Some(SyncMode::EverySec), Some(SyncMode::No), None]).flatten();
            if let Some(mode) = mode {
                assert_eq!(sim.ask(at, &["CLIENT", "DURABILITY", mode.name()]), ok());
            }
            let heard = sim.connection(at).received.len();
            askers.push(Asker { at, mode: mode.unwrap_or(configured), waiting: Vec::new(), heard });
        }
        let mut checked: HashMap<Vec<u8>, bool> = HashMap::new();
        for turn in 0..1_500 {
            for (nth, asker) in askers.iter_mut().enumerate() {
                if turn < 800 && rng.u8(0..10) == 0 {
                    let key = format!("key{}", rng.u8(0..20));
                    let token = format!("token-{nth}-{turn}-{}", rng.u64(..)).into_bytes();
                    let is_read = rng.bool();
                    let command: &[&[u8]] =
                        if is_read { &[b"GET", key.as_bytes()] } else { &[b"SET", key.as_bytes(), &token] };
                    sim.send(asker.at, &encode(command));
                    asker.waiting.push(token);
                }
            }
            sim.step();
            for asker in &mut askers {
                let synced = asker.mode == SyncMode::Always;
                for token in asker.promised(&sim) {
                    let seen = checked.entry(token.clone()).or_default();
                    if synced && !*seen || checked.len().is_multiple_of(8) {
                        let text = String::from_utf8_lossy(&token);
                        assert!(is_kept(&sim, &token, synced), "seed {seed}: {text} is not there at turn {turn}");
                        checked.insert(token, synced);
                    }
                }
            }
        }
        for asker in &askers {
            assert!(asker.waiting.is_empty(), "seed {seed}: {} replies are missing", asker.waiting.len());
        }
    }
}

#[test]
fn what_is_only_written_may_be_lost_with_the_power() {
    // The canary of the test above: the images tell the levels apart. An acknowledged write of an everysec node survives the
    // process, and at first, before its sync, not the loss of power.
    let mut sim = node(4, 1, SyncMode::EverySec, 3);
    let at = sim.connect(0);
    sim.syncs_stalled[0] = true;
    let lost = (0..50).filter(|nth| {
        let token = format!("token-{nth}-of-the-canary");
        assert_eq!(sim.ask(at, &["SET", "key", &token]), ok());
        assert!(is_kept(&sim, token.as_bytes(), false), "{token}");
        !is_kept(&sim, token.as_bytes(), true)
    });
    assert!(lost.count() > 0);
}

#[test]
fn only_who_asked_for_a_sync_waits_for_one() {
    // Syncs never end. On a node of each mode: default, everysec, no and always connections; each that waits only for writes is
    // answered, time after time, and the others are not.
    for (seed, configured) in (0..).zip([SyncMode::Always, SyncMode::EverySec, SyncMode::No]) {
        let mut sim = node(seed, 2, configured, 3);
        sim.syncs_stalled = vec![true; 2];
        for mode in [None, Some(SyncMode::Always), Some(SyncMode::EverySec), Some(SyncMode::No)] {
            let at = sim.connect(seed as usize % 2);
            if let Some(mode) = mode {
                assert_eq!(sim.ask(at, &["CLIENT", "DURABILITY", mode.name()]), ok());
            }
            let before = sim.connection(at).received.len();
            for key in 0..20 {
                sim.send(at, &encode(&[b"SET", format!("{mode:?}{key}").as_bytes(), b"v"]));
            }
            let answered = |sim: &Sim| sim.connection(at).received.len() - before == 20 * b"+OK\r\n".len();
            let waits = mode.unwrap_or(configured) == SyncMode::Always;
            assert_eq!(sim.run_until(3_000, answered), !waits, "{mode:?} on {configured:?}");
            assert!(!waits || sim.connection(at).received.len() == before);
        }
    }
}

#[test]
fn a_reader_who_wants_it_synced_waits_for_what_others_only_wrote() {
    // On an everysec node: the key is written and acknowledged, not synced. The reader's wish begins the sync; until it ends, the
    // key is not shown, another key that was synced before is.
    let mut sim = node(5, 1, SyncMode::EverySec, 1);
    let (writer, reader) = (sim.connect(0), sim.connect(0));
    assert_eq!(sim.ask(reader, &["CLIENT", "DURABILITY", "ALWAYS"]), ok());
    assert_eq!(sim.ask(writer, &["SET", "old", "1"]), ok());
    assert!(sim.run_until(3_000, |sim| sim.syncs[0] > 0 && sim.cores[0].is_settled()));
    sim.syncs_stalled[0] = true;
    let before = sim.syncs[0];
    assert_eq!(sim.ask(writer, &["SET", "new", "2"]), ok());
    sim.send(reader, &encode(&[b"GET", b"old"]));
    sim.send(reader, &encode(&[b"GET", b"new"]));
    let seen = |sim: &Sim, text: &[u8]| sim.connection(reader).received.ends_with(text);
    assert!(sim.run_until(50, |sim| seen(sim, b"$1\r\n1\r\n")));
    assert!(!sim.run_until(200, |sim| seen(sim, b"$1\r\n2\r\n")));
    assert_eq!(sim.syncs[0], before + 1, "a sync was begun for it");
    sim.syncs_stalled[0] = false;
    assert!(sim.run_until(50, |sim| seen(sim, b"$1\r\n2\r\n")));
}

#[test]
fn everysec_syncs_about_once_a_second() {
    // Ten simulated seconds of writes, then quiet: some ten syncs, and none when nothing is left to be synced.
    let mut sim = node(6, 1, SyncMode::EverySec, 2);
    let at = sim.connect(0);
    for key in 0..10_000 {
        sim.send(at, &encode(&[b"SET", format!("key{key}").as_bytes(), b"v"]));
        sim.step();
    }
    assert!((9..=12).contains(&sim.syncs[0]), "{} syncs", sim.syncs[0]);
    assert!(sim.run_until(3_000, |sim| sim.cores[0].is_settled()));
    let before = sim.syncs[0];
    (0..5_000).for_each(|_| sim.step());
    assert_eq!(sim.syncs[0], before, "nothing is to be synced");
}

#[test]
fn many_waiting_for_syncs_share_them() {
    // Under sync always twenty connections ask one command after the other: what comes during a sync leaves with the next.
    let mut sim = node(7, 1, SyncMode::Always, 10);
    let clients: Vec<At> = (0..20).map(|_| sim.connect(0)).collect();
    let mut sent = vec![0; clients.len()];
    let received = |sim: &Sim, at: At| sim.connection(at).received.len() / b"+OK\r\n".len();
    while sent.iter().any(|sent| *sent < 50) {
        for (sent, at) in sent.iter_mut().zip(&clients) {
            if *sent < 50 && received(&sim, *at) == *sent {
                sim.deliver(*at, &encode(&[b"SET", format!("{sent}{at:?}").as_bytes(), b"v"]));
                *sent += 1;
            }
        }
        sim.step();
        assert!(sim.turn < 100_000);
    }
    assert!(sim.syncs[0] < 200, "{} syncs of 1000 commands", sim.syncs[0]);
}

/// A node whose writers have replies outstanding: the settled client, the writers.
fn busy(sync: SyncMode) -> (Sim, At, [At; 2]) {
    let mut sim = node(8, 2, sync, 1);
    let settled = sim.connect(0);
    for key in 0..8 {
        assert_eq!(sim.ask(settled, &["SET", &format!("old{key}"), "1"]), ok());
    }
    // Under `no` this alone has it synced.
    assert!(matches!(sim.ask(settled, &["WAITAOF", "1", "0", "0"]), Value::Array(_)));
    let writers = [sim.connect(0), sim.connect(1)];
    (sim, settled, writers)
}

fn write(sim: &mut Sim, writers: [At; 2], name: &str) {
    for (index, at) in writers.into_iter().enumerate() {
        for key in 0..8 {
            sim.send(at, &encode(&[b"SET", format!("{name}{index}{key}").as_bytes(), b"v"]));
        }
    }
}

/// After a failure on all cores: writers are refused, what was settled is read, for good.
fn check_failed(sim: &mut Sim) {
    let later = sim.connect(1);
    for _ in 0..2 {
        for key in 0..8 {
            assert_eq!(sim.ask(later, &["GET", &format!("old{key}")]), Value::Bulk(b"1".to_vec()));
            let reply = sim.ask(later, &["SET", &format!("old{key}"), "2"]);
            assert!(matches!(&reply, Value::Error(line) if line.starts_with(b"MISCONF")), "{reply:?}");
        }
        (0..2_000).for_each(|_| sim.step());
    }
    assert!(sim.cores.iter().all(|core| core.has_failed()));
}

#[test]
fn a_failed_write_is_final_under_every_mode() {
    // Whose replies waited are closed without them; the keys are neither read nor written any more.
    for mode in [SyncMode::Always, SyncMode::EverySec, SyncMode::No] {
        let (mut sim, _, writers) = busy(mode);
        sim.stalled = vec![true; 2];
        write(&mut sim, writers, "new");
        (0..400).for_each(|_| sim.step());
        assert!((0..2).all(|core| sim.fail(core, Stored::Write, 5)), "{mode:?}: writes were under way");
        sim.stalled = vec![false; 2];
        assert!(sim.run_until(400, |sim| writers.iter().all(|at| sim.connection(*at).closed)));
        assert!(writers.iter().all(|at| sim.connection(*at).received.is_empty()), "nothing was acknowledged");
        check_failed(&mut sim);
        let later = sim.connect(0);
        let reply = sim.ask(later, &["GET", "new00"]);
        assert!(matches!(&reply, Value::Error(line) if line.starts_with(b"MISCONF")), "{mode:?}: {reply:?}");
    }
}

#[test]
fn a_failed_sync_is_final_under_every_mode() {
    // Under always what waited for it is never acknowledged. Under everysec what was acknowledged stays readable, and nothing is
    // acknowledged afterwards; a client that wants it synced is not shown it.
    let (mut sim, _, writers) = busy(SyncMode::Always);
    sim.syncs_stalled = vec![true; 2];
    write(&mut sim, writers, "new");
    (0..400).for_each(|_| sim.step());
    assert!((0..2).all(|core| sim.fail(core, Stored::Sync, 5)));
    assert!(sim.run_until(400, |sim| writers.iter().all(|at| sim.connection(*at).closed)));
    assert!(writers.iter().all(|at| sim.connection(*at).received.is_empty()));
    check_failed(&mut sim);

    let (mut sim, settled, writers) = busy(SyncMode::EverySec);
    sim.syncs_stalled = vec![true; 2];
    write(&mut sim, writers, "new");
    let answered = |sim: &Sim, at: At| sim.connection(at).received.len() == 8 * b"+OK\r\n".len();
    assert!(sim.run_until(3_000, |sim| writers.iter().all(|at| answered(sim, *at))));
    (0..3_000).for_each(|_| sim.step());
    // A write is under way when the sync fails.
    sim.stalled = vec![true; 2];
    write(&mut sim, writers, "more");
    (0..400).for_each(|_| sim.step());
    assert!((0..2).all(|core| sim.fail(core, Stored::Sync, 5)));
    sim.stalled = vec![false; 2];
    assert!(sim.run_until(400, |sim| writers.iter().all(|at| sim.connection(*at).closed)));
    assert!(writers.iter().all(|at| answered(&sim, *at)), "nothing was acknowledged after it");
    check_failed(&mut sim);
    assert_eq!(sim.ask(settled, &["GET", "new00"]), Value::Bulk(b"v".to_vec()));
    assert_eq!(sim.ask(settled, &["CLIENT", "DURABILITY", "ALWAYS"]), ok());
    let reply = sim.ask(settled, &["GET", "new00"]);
    assert!(matches!(&reply, Value::Error(line) if line.starts_with(b"MISCONF")), "{reply:?}");
}

#[test]
fn waitaof_tells_when_what_came_before_is_synced() {
    // Whatever the mode, on all cores, and not before: then the value is in every image after power loss. With syncs that never
    // end it tells so when its time is over; without a timeout it waits.
    for (seed, mode) in (0..).zip([SyncMode::Always, SyncMode::EverySec, SyncMode::No]) {
        let mut sim = node(seed, 3, mode, 20);
        let at = sim.connect(0);
        for key in 0..12 {
            let token = format!("token-{key}-{mode:?}");
            assert_eq!(sim.ask(at, &["SET", &format!("key{key}"), &token]), ok());
            let one = Value::Array(vec![Value::Integer(1), Value::Integer(0)]);
            assert_eq!(sim.ask(at, &["WAITAOF", "1", "0", "0"]), one);
            assert!(is_kept(&sim, token.as_bytes(), true), "{token}");
            assert_eq!(sim.ask(at, &["WAITAOF", "0", "0", "0"]), one, "nothing was written since");
        }
        sim.syncs_stalled = vec![true; 3];
        assert_eq!(sim.ask(at, &["CLIENT", "DURABILITY", "no"]), ok());
        assert_eq!(sim.ask(at, &["SET", "key", "v"]), ok());
        let none = Value::Array(vec![Value::Integer(0), Value::Integer(0)]);
        let before = sim.turn;
        assert_eq!(sim.ask(at, &["WAITAOF", "1", "0", "500"]), none);
        assert!(sim.turn >= before + 500);
        let len = sim.connection(at).received.len();
        sim.send(at, &encode(&[b"WAITAOF", b"1", b"0", b"0"]));
        assert!(!sim.run_until(2_000, |sim| sim.connection(at).received.len() > len));
        sim.syncs_stalled = vec![false; 3];
        assert!(sim.run_until(2_000, |sim| sim.connection(at).received.len() > len));
    }
}

#[test]
fn at_the_end_everything_is_synced() {
    // Under every mode: when the cores have drained and settled, nothing is lost by power loss.
    for (seed, mode) in (0..).zip([SyncMode::Always, SyncMode::EverySec, SyncMode::No]) {
        let mut sim = node(seed, 2, mode, 10);
        let at = sim.connect(0);
        let tokens: Vec<String> = (0..20).map(|key| format!("token-{key}-{mode:?}")).collect();
        for (key, token) in tokens.iter().enumerate() {
            assert_eq!(sim.ask(at, &["SET", &format!("key{key}"), token]), ok());
        }
        sim.tell_all(|| Event::Drain);
        let ended = |sim: &Sim| sim.cores.iter().all(|core| core.drained() && core.is_settled());
        assert!(sim.run_until(2_000, ended), "{mode:?}");
        assert!(tokens.iter().all(|token| is_kept(&sim, token.as_bytes(), true)), "{mode:?}");
    }
}
