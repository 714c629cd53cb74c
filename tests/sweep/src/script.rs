//! The runbook that is swept: ten steps, each of which can be counted on its host, with outputs of known bytes.
//!
//! Every step does three things: it prints the first half of its output, it calls `/srv/sweep/do` with its own id, and it
//! prints the second half. `do` stops at a gate when the test has put one there, and then adds the id to
//! `/srv/sweep/effects` on the host's own disk: what happened, how often, and in which order, told by nobody but the host.

use runbook_model::Sha256;

/// The execute steps in their order.
pub const STEPS: [&str; 10] =
    ["small", "binary", "large", "chained", "slow", "sshd", "network", "file", "retried", "last"];

/// The runbook. Parameter `spoilt` names the host on which the verification fails.
pub const RUNBOOK: &str = r#"schema: runbook/v1
name: sweep
parameters:
  spoilt: {type: string, default: nobody}
targets: {select: fs01 | fs02, failure_budget: 2}
prechecks:
  - {id: look, run: cat /srv/sweep/binary.bin}
execute:
  - id: small
    run: "printf 'first '; /srv/sweep/do small; printf 'second\n'"
    undo: {run: /srv/sweep/do small.undo}
  - id: binary
    run: "head -c 1500 /srv/sweep/binary.bin; head -c 700 /srv/sweep/binary.bin >&2; /srv/sweep/do binary;
      tail -c +1501 /srv/sweep/binary.bin; tail -c +701 /srv/sweep/binary.bin >&2"
    undo: {run: /srv/sweep/do binary.undo}
  - id: large
    run: head -c 500000 /srv/sweep/large.bin; /srv/sweep/do large; tail -c +500001 /srv/sweep/large.bin
    undo: {run: /srv/sweep/do large.undo}
  - id: chained
    run: "/srv/sweep/do chained; printf '<%s>' {{steps.small.stdout}}"
    undo: {run: /srv/sweep/do chained.undo}
  - id: slow
    run: "echo one; sleep 0.4; /srv/sweep/do slow; echo two; sleep 0.4; echo three"
    undo: {run: /srv/sweep/do slow.undo}
  - id: sshd
    as: root
    run: echo before; /srv/sweep/do sshd; /srv/sweep/restart-sshd; echo after
    undo: {run: /srv/sweep/do sshd.undo}
  - id: network
    as: root
    run: echo before; /srv/sweep/do network; ip link set front0 down; sleep 0.3; ip link set front0 up; echo after
    undo: {run: /srv/sweep/do network.undo}
  - id: file
    unless: test -e /srv/sweep/conf
    run: /srv/sweep/do file; echo new >/srv/sweep/conf
    changes: [/srv/sweep/conf]
    undo: {run: rm -f /srv/sweep/conf; /srv/sweep/do file.undo}
  - id: retried
    run: "/srv/sweep/do retried; [ -e /srv/sweep/tried ] || { : >/srv/sweep/tried; echo once more; exit 3; }; echo done"
    retry: {attempts: 2, delay: 100ms, on: [exit]}
    undo: {run: /srv/sweep/do retried.undo}
  - id: last
    run: [/srv/sweep/do, last]
    undo: {run: /srv/sweep/do last.undo}
verify:
  - {id: proof, run: "cat /srv/sweep/effects; test {{host.name}} != {{param.spoilt}}"}
rollback: {budget: 3m}
finally:
  - {id: tidy, run: /srv/sweep/do tidy}
"#;

/// `/srv/sweep/do`.
pub const DO: &str = r#"#!/bin/sh
set -eu
cd /srv/sweep
if [ -p "gate.$1.arrived" ]; then
  echo came >"gate.$1.arrived"
  cat "gate.$1.open" >/dev/null
fi
echo "$1" >>effects
if [ -p "gate.$1.passed" ]; then
  echo passed >"gate.$1.passed"
fi
"#;

/// `/srv/sweep/restart-sshd`: as a package of sshd does, but without mercy for open connections. A connection that comes in
/// while all are killed may hold the port for a moment; so it is tried again until sshd has it.
pub const RESTART_SSHD: &str = r#"#!/bin/sh
rm -f /run/sshd.pid
until [ -s /run/sshd.pid ]; do
  for folder in /proc/[0-9]*; do
    read -r name <"$folder/comm" || continue
    [ "$name" != sshd ] || kill -KILL "${folder#/proc/}"
  done 2>/dev/null
  # It goes into the background before it listens, and writes its pid after that. Of two families it would be content with
  # the one that nobody uses.
  /usr/sbin/sshd -4 -E /var/log/sshd.log </dev/null >/dev/null 2>&1
  tries=0
  until [ -s /run/sshd.pid ] || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.02
  done
done
"#;

/// Every value that a byte can have, sixteen times: what no terminal, shell or parser may touch.
pub fn binary() -> Vec<u8> {
    (0..4096_u32).map(|n| (n % 256) as u8).collect()
}

/// One MiB that cannot be compressed and has no two equal blocks.
pub fn large() -> Vec<u8> {
    (0..(1_u32 << 20) / 32).flat_map(|n| Sha256::of(&n.to_be_bytes()).0).collect()
}

/// What an attempt of a step that ended with this exit code prints when nothing is lost: standard output and standard
/// error. `None` where it depends on what the host did before.
pub fn printed(step: &str, exit_code: Option<i64>) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = |text: &str| Some((text.as_bytes().to_vec(), Vec::new()));
    match (step, exit_code) {
        ("look" | "look.again", _) => Some((binary(), Vec::new())),
        ("small", _) => text("first second\n"),
        ("binary", _) => Some((binary(), binary())),
        ("large", _) => Some((large(), Vec::new())),
        ("chained", _) => text("<first second>"),
        ("slow", _) => text("one\ntwo\nthree\n"),
        ("sshd" | "network", _) => text("before\nafter\n"),
        ("retried", Some(3)) => text("once more\n"),
        ("retried", Some(0)) => text("done\n"),
        ("file" | "last" | "tidy", _) => text(""),
        (undo, _) if undo.ends_with(".undo") => text(""),
        _ => None,
    }
}

/// The ids in the order in which `effects` can have them: forward, back, tidied.
pub fn order() -> Vec<String> {
    let forward = STEPS.iter().map(ToString::to_string);
    let back = STEPS.iter().rev().map(|step| format!("{step}.undo"));
    forward.chain(back).chain(["tidy".to_owned()]).collect()
}
