//! Users that change while nodes of several cores serve them, in the simulator; `EAGLE_SEED=n` runs the one that a failure printed.

use eagle_node::core::event::ConnId;
use eagle_resp::Value;
use eagle_tests::{
    seeds,
    sim::{Plan, Sim},
};

type At = (usize, ConnId);

fn plan(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xac1);
    Plan {
        seed,
        cores: rng.u16(1..=4),
        credit: if rng.bool() { 1 } else { rng.u32(1..=64) },
        ring: if rng.bool() { 1 } else { 16 },
        commits: rng.bool(),
        delay_max: rng.u64(0..=20),
    }
}

/// A client of a core who has logged in.
fn log_in(sim: &mut Sim, core: usize, name: &str) -> At {
    let at = sim.connect(core);
    assert_eq!(sim.ask(at, &["AUTH", name, "pw"]), Value::Simple(b"OK".to_vec()));
    at
}

fn is_denied(value: &Value) -> bool {
    matches!(value, Value::Error(line) if line.starts_with(b"NOPERM"))
}

#[test]
fn what_a_user_may_do_holds_on_all_cores_when_it_is_acknowledged() {
    // One administrator changes what clients of all cores may do; from its reply on each of them may do just that, and who is deleted
    // is gone everywhere, another of the same name being another.
    for seed in seeds(0..150) {
        let mut sim = Sim::new(plan(seed));
        let cores = sim.cores.len();
        let admin_core = sim.rng.usize(..cores);
        let admin = sim.connect(admin_core);
        for round in 0..3 {
            assert_eq!(
                sim.ask(admin, &["ACL", "SETUSER", "u", "on", ">pw", "~*", "+get"]),
                Value::Simple(b"OK".into())
            );
            let clients: Vec<At> = (0..cores).map(|core| log_in(&mut sim, core, "u")).collect();
            for _ in 0..6 {
                let (rule, may_get, may_x) = [
                    ("-get", false, false),
                    ("+get", true, true),
                    ("resetkeys", true, false),
                    ("~x", true, true),
                    ("~y", true, false),
                ][sim.rng.usize(..5)];
                sim.ask(admin, &["ACL", "SETUSER", "u", "resetkeys", "+get"]);
                let keys = if rule == "-get" || rule == "+get" { "~*" } else { "resetkeys" };
                assert_eq!(sim.ask(admin, &["ACL", "SETUSER", "u", keys, rule]), Value::Simple(b"OK".into()));
                for at in &clients {
                    let denied = is_denied(&sim.ask(*at, &["GET", "x"]));
                    assert_eq!(denied, !(may_get && may_x), "seed {seed} round {round}: {rule}");
                }
            }
            assert_eq!(sim.ask(admin, &["ACL", "DELUSER", "u", "nobody"]), Value::Integer(1), "seed {seed}");
            sim.ask(admin, &["ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all"]);
            let closed = |sim: &Sim| clients.iter().all(|at| sim.connection(*at).closed);
            assert!(sim.run_until(1000, closed), "seed {seed} round {round}: the deleted user's clients are closed");
            sim.ask(admin, &["ACL", "DELUSER", "u"]);
        }
    }
}

#[test]
fn administrators_do_not_undo_each_other() {
    // Several at once, each with users of their own and with one of all: nothing that was acknowledged is lost.
    for seed in seeds(0..150) {
        let mut sim = Sim::new(plan(seed));
        let cores = sim.cores.len();
        let admins: Vec<At> = (0..cores).map(|core| sim.connect(core)).collect();
        let before: Vec<usize> = admins.iter().map(|at| sim.connection(*at).received.len()).collect();
        for round in 0..10 {
            for (number, at) in admins.iter().enumerate() {
                let lines = format!("ACL SETUSER u{number}-{round} on\r\nACL SETUSER all ~{number}:{round}\r\n");
                sim.send(*at, lines.as_bytes());
            }
        }
        let wanted = b"+OK\r\n".repeat(20);
        let done = |sim: &Sim| {
            admins.iter().zip(&before).all(|(at, before)| sim.connection(*at).received[*before..] == wanted)
        };
        assert!(sim.run_until(50_000, done), "seed {seed}: all are acknowledged");
        let Value::Array(users) = sim.ask(admins[0], &["ACL", "USERS"]) else { panic!("seed {seed}") };
        assert_eq!(users.len(), 2 + 10 * cores, "seed {seed}");
        let all = format!("{:?}", sim.ask(admins[0], &["ACL", "GETUSER", "all"]));
        let Value::Array(facts) = sim.ask(admins[0], &["ACL", "GETUSER", "all"]) else { panic!("seed {seed}: {all}") };
        let Value::Bulk(keys) = &facts[7] else { panic!("seed {seed}: {all}") };
        assert_eq!(keys.split(|byte| *byte == b' ').count(), 10 * cores, "seed {seed}");
    }
}

#[test]
fn who_deletes_itself_is_told_so() {
    // The reply comes before the end of the connection, on whichever core it is and whatever is in between.
    for seed in seeds(0..100) {
        let mut sim = Sim::new(plan(seed));
        let core = sim.rng.usize(..sim.cores.len());
        let admin = sim.connect(core);
        sim.ask(admin, &["ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all"]);
        let me = log_in(&mut sim, core, "me");
        assert_eq!(sim.ask(me, &["ACL", "DELUSER", "me"]), Value::Integer(1), "seed {seed}");
        assert!(sim.run_until(1000, |sim| sim.connection(me).closed), "seed {seed}: and is closed");
    }
}
