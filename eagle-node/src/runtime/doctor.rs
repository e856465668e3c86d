//! `eagle-node doctor [--json] [FILE] [--DIRECTIVE VALUE...]...`: looks at this machine, as this user, for a node of these options, and says
//! what to change.
//!
//! | code | it found |
//! | --- | --- |
//! | 0 | nothing to change |
//! | 1 | what makes a node slower, smaller or less durable than it could be here |
//! | 2 | what keeps a node from starting |
//!
//! It asks what a start asks ([`super::preflight`]), and beside that what a start puts up with (`machine`, `storage`). Nothing is changed
//! but the limits of its own process. Limits are those of whoever runs it: for the packaged service, run it as the service's user under
//! the service's limits (`deploy/README.md`).

mod machine;
mod storage;

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;

use super::{
    StartError,
    placement::{self, Cpus},
    pools, preflight,
};
use crate::config::{Config, PoolMode, Start};

/// How much a finding matters; the code is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good = 0,
    /// A node serves, and would do better.
    Advice = 1,
    /// A node does not start.
    Failure = 2,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn advice(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Advice, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn failure(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failure, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// What a start would say: its remedy is behind the last colon.
    fn refusal(check: &'static str, error: &StartError) -> Self {
        let text = error.to_string();
        match text.rsplit_once(": ") {
            Some((found, remedy)) => Self::failure(check, found, remedy),
            None => Self::failure(check, text, "see the words of the system"),
        }
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    verdict: Verdict,
    findings: Vec<Finding>,
}

/// Runs the subcommand with the words behind its name. Returns what to print, and the exit code.
#[must_use]
pub fn run(words: &[String], environment: &[(String, String)]) -> (String, u8) {
    let is_json = words.iter().any(|word| word == "--json");
    let options: Vec<String> = words.iter().filter(|word| *word != "--json").cloned().collect();
    let findings = match Config::from_args(&options, environment) {
        Ok(Start::Serve { config, .. }) => examine(&config),
        Ok(Start::Topology(config)) => examine(&config),
        Ok(Start::Print(text)) => return (text, 0),
        Err(error) => {
            let mut findings = vec![Finding::failure("configuration", error.to_string(), "correct it as it says")];
            findings.extend(examine(&Config::default()));
            findings
        }
    };
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    let report = Report { verdict, findings };
    (if is_json { to_json(&report) } else { to_text(&report) }, verdict as u8)
}

fn to_json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report).expect("strings are JSON");
    text + "\n"
}

fn to_text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::Good => "good   ",
            Verdict::Advice => "advice ",
            Verdict::Failure => "FAILURE",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{verdict}  {:<13}  {}", finding.check, finding.found);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "{:24}-> {remedy}", "");
        }
    }
    let count = |verdict| report.findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (advice, failures) = (count(Verdict::Advice), count(Verdict::Failure));
    text + &match (advice, failures) {
        (0, 0) => "Nothing to change.\n".to_owned(),
        (advice, 0) => format!("A node would start; {advice} to improve.\n"),
        (advice, failures) => format!("A node would not start: {failures} to correct, {advice} to improve.\n"),
    }
}

fn examine(config: &Config) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let mut findings = vec![machine::kernel(&read)];
    let cpus = match Cpus::of_this_process() {
        Ok(cpus) => Some(cpus),
        Err(error) => {
            findings.push(Finding::refusal("cpus", &error));
            None
        }
    };
    let quota = placement::cpu_quota();
    let shards = shards(config, cpus.as_ref(), quota);
    findings.push(rings(shards));
    if let Some(cpus) = &cpus {
        findings.push(machine::cpus(shards, cpus.count(), cpus.physical(), quota));
    }
    findings.push(files(config, shards));
    findings.push(machine::memory(config.maxmemory, placement::memory_limit(), &read));
    findings.push(machine::huge_pages(config.disable_thp, &read));
    findings.push(machine::numa(&read));
    findings.push(machine::clock(&read));
    findings.push(machine::backlog(config.tcp_backlog, &read));
    if config.pool != PoolMode::None {
        findings.extend(storage::folders(config, cpus.as_ref(), shards));
    }
    findings
}

/// As many as a start would take.
fn shards(config: &Config, cpus: Option<&Cpus>, quota: Option<f64>) -> u16 {
    let in_pools = || {
        let found = pools::find(config).ok()?;
        let file = eagle_pmem::PoolFile::open(&found.first()?.1).ok()?;
        Some(file.superblock().shards)
    };
    match config.shards {
        0 if config.pool != PoolMode::None && Path::new(&config.dir).is_dir() => in_pools(),
        0 => None,
        asked => Some(asked),
    }
    .or_else(|| Some(cpus?.default_shards(quota)))
    .unwrap_or(1)
}

fn rings(shards: u16) -> Finding {
    match preflight::rings(shards) {
        Ok(()) => {
            let need_kib = preflight::locked_bytes(shards).div_ceil(1024);
            Finding::good("io_uring", format!("allowed, and so are the {need_kib} KiB that its rings lock"))
        }
        Err(error) => Finding::refusal("io_uring", &error),
    }
}

fn files(config: &Config, shards: u16) -> Finding {
    match preflight::clients_possible(config.maxclients, shards, 2 * config.bind.len() + 1) {
        Ok(clients) if clients == config.maxclients => {
            Finding::good("open files", format!("enough for {clients} clients"))
        }
        Ok(clients) => Finding::advice(
            "open files",
            format!("enough for {clients} clients, not for the {} of maxclients", config.maxclients),
            "raise `ulimit -n`, set LimitNOFILE= in the unit, or lower --maxclients",
        ),
        Err(error) => Finding::refusal("open files", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_to_do_and_counts_it() {
        // As text and as JSON; a refusal of a start is split into what was found and the remedy.
        let findings = vec![
            Finding::good("kernel", "Linux 6.18"),
            Finding::advice("numa", "balancing is on", "switch it off"),
            Finding::refusal("io_uring", &StartError::RingsDisabled(2)),
        ];
        let report = Report { verdict: Verdict::Failure, findings };
        let text = to_text(&report);
        assert!(text.contains("FAILURE  io_uring       io_uring is switched off"), "{text}");
        assert!(text.contains("-> run `sysctl kernel.io_uring_disabled=0` as root."), "{text}");
        assert!(text.ends_with("A node would not start: 1 to correct, 1 to improve.\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&to_json(&report)).unwrap();
        assert_eq!((&json["verdict"], &json["findings"][1]["remedy"]), (&"failure".into(), &"switch it off".into()));
        assert!(json["findings"][0].get("remedy").is_none());
    }

    #[test]
    fn this_machine_is_examined_and_a_wrong_configuration_is_a_failure() {
        // Everything is looked at once; each finding that is not good has a remedy; the code is the worst of all.
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let dir = std::env::temp_dir().join(format!("eagle-doctor-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (text, code) = run(&words(&["--json", "--shards", "1", "--dir", dir.to_str().unwrap()]), &[]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let findings = json["findings"].as_array().unwrap();
        let checks: Vec<&str> = findings.iter().map(|one| one["check"].as_str().unwrap()).collect();
        for check in
            ["kernel", "io_uring", "cpus", "open files", "memory", "huge pages", "numa", "clock", "backlog", "folder"]
        {
            assert_eq!(checks.iter().filter(|one| **one == check).count(), 1, "{check}: {text}");
        }
        for one in findings {
            assert_eq!(one["verdict"] == "good", one.get("remedy").is_none(), "{one}");
        }
        assert!(code < 2, "tests run where a node starts: {text}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is left there");
        std::fs::remove_dir(&dir).unwrap();
        let (text, code) = run(&words(&["--port", "x"]), &[]);
        assert!(code == 2 && text.contains("'port'"), "{text}");
        let (text, code) = run(&words(&["--dir", "/nowhere/at/all"]), &[]);
        assert!(code == 2 && text.contains("/nowhere/at/all"), "{text}");
    }
}
