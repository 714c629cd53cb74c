//! What this machine says of itself, for the opening of a run.

use std::fs;
use std::path::Path;
use std::process::Command;

use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_model::event::ClockState;

/// The digest of this program's own file.
pub(crate) fn engine_digest() -> std::io::Result<Sha256> {
    let mut file = fs::File::open("/proc/self/exe").or_else(|_| fs::File::open(std::env::current_exe()?))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// This machine's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Changes with every boot; empty when the system does not tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Whether this machine's clock is synchronised, as far as one of the usual daemons tells.
pub(crate) fn clock_state() -> ClockState {
    let state = |source: &str, synchronised| ClockState { source: source.into(), synchronised, offset_us: None };
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return state("systemd-timesyncd", Some(true));
    }
    if Path::new("/run/systemd/system").exists()
        && let Some(text) = said("timedatectl", &["show", "--property=NTPSynchronized", "--value"])
        && let Some(synchronised) = match text.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    {
        return state("timedatectl", Some(synchronised));
    }
    // Leap status is the last field of chrony's line of values; `Not synchronised` is one of them.
    if let Some(text) = said("chronyc", &["-c", "tracking"]) {
        let fields: Vec<&str> = text.trim().split(',').collect();
        let offset_us = fields.get(4).and_then(|field| field.parse::<f64>().ok()).map(|seconds| (seconds * 1e6) as i64);
        let synchronised = fields.last().map(|leap| *leap != "Not synchronised");
        return ClockState { source: "chrony".into(), synchronised, offset_us };
    }
    state("", None)
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Whether the process is stopped: alive, and doing nothing until it is continued.
pub(crate) fn is_stopped(pid: u32) -> bool {
    // The name, in brackets, may hold anything; the state stands behind the last bracket.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Whether this process was begun with SIGHUP ignored.
pub(crate) fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1, the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
