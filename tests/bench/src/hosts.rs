//! A few short steps on many ssh hosts, against OpenSSH itself and against other tools.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use crate::fleet::Fleet;
use crate::page::circumstances;
use crate::peers::{self, Peer};
use crate::table::{Row, table};
use crate::{Options, Result, meter};

/// Rounds, when the command line does not say.
const ROUNDS: usize = 5;
/// Steps on each host.
pub(crate) const STEPS: usize = 10;

/// The case, with so many hosts.
pub(crate) fn measure(options: &Options, count: usize) -> Result<String> {
    let mut text = format!(
        "## {STEPS} steps on {count} ssh hosts\n\n{}\n\nEach step prints one line. The hosts are real sshd on loopback \
         addresses, one each, and share the machine with who is measured (their processor time is not counted). New \
         connections each time, all hosts at once. Everybody uses the key exchange `curve25519-sha256`; runbook gets it \
         by `[ssh] config`. runbook's steps are steps of `execute`, with all records; nobody else keeps any. Wanted: \
         less wall time than pyinfra, and less than a tenth of Ansible's.\n",
        circumstances()
    );
    let fleet = Fleet::start(count)?;
    let mut peers = vec![Peer::Runbook, Peer::OpenSsh];
    for (peer, program) in [(Peer::Asyncssh, "python"), (Peer::Pyinfra, "pyinfra"), (Peer::Ansible, "ansible-playbook")]
    {
        if peer == Peer::Ansible && !options.ansible {
            continue;
        }
        if options.peers.join("bin").join(program).is_file() {
            peers.push(peer);
        } else {
            writeln!(text, "\nNot measured: {} (tests/bench/peers.sh installs it).", peer.name())?;
        }
    }
    let mut rows: Vec<Row> = peers.iter().map(|peer| Row::new(peer.name())).collect();
    for round in 0..options.rounds.unwrap_or(ROUNDS) {
        for (row, &peer) in rows.iter_mut().zip(&peers) {
            // Minutes each on many hosts: once has to do.
            if peer == Peer::Ansible && round > 0 && count > 20 {
                continue;
            }
            let folder = tempfile::tempdir()?;
            let command = peers::prepare(peer, folder.path(), &fleet, options)?;
            let command: Vec<&OsStr> = command.iter().map(|word| word.as_os_str()).collect();
            let cost = meter::cost(folder.path(), &command)?;
            check(peer, folder.path(), count)?;
            eprintln!(
                "hosts {count}, round {}: {:.2} s wall, {:.2} s CPU: {}",
                round + 1,
                cost.wall_s,
                cost.cpu_s,
                row.name
            );
            row.costs.push(cost);
        }
    }
    writeln!(text, "\n{}", table(&rows, (count * STEPS) as f64, "step").trim_end())?;
    Ok(text)
}

/// Everybody's every step must have been done: a fast failure is no measurement.
fn check(peer: Peer, folder: &Path, hosts: usize) -> Result<()> {
    let log = std::fs::read_to_string(folder.join("log"))?;
    let done = match peer {
        Peer::Runbook => log.contains("done and verified on every host"),
        Peer::OpenSsh | Peer::Asyncssh => log.lines().filter(|line| line.starts_with("line ")).count() == hosts * STEPS,
        Peer::Pyinfra => log.matches("Success").count() >= hosts * STEPS,
        Peer::Ansible => log.matches("ok=10 ").count() == hosts && !log.contains("failed=1"),
    };
    if done {
        return Ok(());
    }
    let kept = std::env::temp_dir().join("runbook-bench-failed.log");
    std::fs::write(&kept, &log)?;
    Err(format!("{} did not do all steps: see {}", peer.name(), kept.display()).into())
}
