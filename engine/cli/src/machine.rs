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

/// Whether this machine's clock is synchronised and how far it is off, as far as one of the usual daemons tells. The one
/// that tells most is asked first.
pub(crate) fn clock_state() -> ClockState {
    let state = |source: &str, synchronised, offset_us| ClockState { source: source.into(), synchronised, offset_us };
    // Leap status is the last field of chrony's line of values; `Not synchronised` is one of them.
    if let Some(text) = said("chronyc", &["-c", "tracking"]) {
        let fields: Vec<&str> = text.trim().split(',').collect();
        let offset_us = fields.get(4).and_then(|field| field.parse::<f64>().ok()).map(|seconds| (seconds * 1e6) as i64);
        let synchronised = fields.last().map(|leap| *leap != "Not synchronised");
        return state("chrony", synchronised, offset_us);
    }
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        let offset_us = said("timedatectl", &["timesync-status"]).and_then(|text| timesync_offset_us(&text));
        return state("systemd-timesyncd", Some(true), offset_us);
    }
    if Path::new("/run/systemd/system").exists()
        && let Some(text) = said("timedatectl", &["show", "--property=NTPSynchronized", "--value"])
        && let Some(synchronised) = match text.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    {
        return state("timedatectl", Some(synchronised), None);
    }
    state("", None, None)
}

/// The offset in what `timedatectl timesync-status` prints: `Offset: -1.146ms`, in units that systemd writes.
fn timesync_offset_us(text: &str) -> Option<i64> {
    let offset = text.lines().find_map(|line| line.trim_start().strip_prefix("Offset:"))?.trim();
    let (sign, spans) = match offset.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, offset.strip_prefix('+').unwrap_or(offset)),
    };
    let mut us = 0.0;
    let mut any = false;
    for span in spans.split_whitespace() {
        let at = span.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(span.len());
        let (number, unit) = span.split_at(at);
        let unit_us = match unit {
            "us" | "μs" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" => 6e7,
            "h" => 3.6e9,
            "d" => 8.64e10,
            _ => return None,
        };
        us += number.parse::<f64>().ok()? * unit_us;
        any = true;
    }
    any.then_some((sign * us) as i64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_systemd_writes_them() {
        let status = |offset: &str| format!("       Server: 192.0.2.1\n       Offset: {offset}\n        Delay: 20ms\n");
        for (said, us) in [
            ("+38us", Some(38)),
            ("-1.146ms", Some(-1_146)),
            ("+1min 2.500000s", Some(62_500_000)),
            ("-2d 1h", Some(-176_400_000_000)),
            ("n/a", None),
            ("", None),
            ("+3 parsecs", None),
        ] {
            assert_eq!(timesync_offset_us(&status(said)), us, "{said}");
        }
        assert_eq!(timesync_offset_us("Server: n/a\n"), None);
    }
}
