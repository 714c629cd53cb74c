//! How long a program takes, and how much of the processor it and all that it starts use.
//!
//! The bench starts itself once more for each measurement (`meter RESULT COMMAND…`). That process takes in every process
//! that the measured one leaves behind (`PR_SET_CHILD_SUBREAPER`), ends it, and waits for it: so the processor time of
//! daemons such as ssh's masters counts as well, without any rights and without control groups. Exact to 10 ms.

#![allow(clippy::disallowed_methods, reason = "time is what is measured")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::Result;

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From the start of the program to its end, in seconds.
    pub(crate) wall_s: f64,
    /// User and system time of all its processes, in seconds.
    pub(crate) cpu_s: f64,
}

/// Runs `command` in `folder` and measures it. What it prints goes into `log` there.
pub(crate) fn cost(folder: &Path, command: &[&OsStr]) -> Result<Cost> {
    let result = folder.join("cost");
    let log = folder.join("log");
    let out = std::fs::File::create(&log)?;
    let status = Command::new(std::env::current_exe()?)
        .arg("meter")
        .arg(&result)
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .status()?;
    if !status.success() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(format!("{} failed ({status}):\n{}", command[0].display(), tail.join("\n")).into());
    }
    let numbers = std::fs::read_to_string(&result)?;
    let (wall, cpu) = numbers.trim().split_once(' ').ok_or("the meter wrote no numbers")?;
    Ok(Cost { wall_s: wall.parse()?, cpu_s: cpu.parse()? })
}

/// The process that measures: `RESULT COMMAND…`.
pub(crate) fn serve(mut words: impl Iterator<Item = String>) -> Result<()> {
    let result = words.next().ok_or("meter wants a file for its result")?;
    let program = words.next().ok_or("meter wants a command")?;
    set_child_subreaper(Some(getpid()))?;
    let begun = Instant::now();
    let mut child = Command::new(program).args(words).spawn()?;
    let status = child.wait()?;
    let wall_s = begun.elapsed().as_secs_f64();
    loop {
        for pid in children()? {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        match wait(WaitOptions::empty()) {
            Ok(_) => {}
            Err(rustix::io::Errno::CHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if !status.success() {
        return Err(format!("it ended with {status}").into());
    }
    std::fs::write(result, format!("{wall_s} {}", children_cpu_s()?))?;
    Ok(())
}

/// Our children, those taken in included.
fn children() -> Result<Vec<Pid>> {
    let list = std::fs::read_to_string("/proc/thread-self/children")?;
    Ok(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect())
}

/// User and system time of all children that were waited for.
fn children_cpu_s() -> Result<f64> {
    // Before `getconf` below becomes one of them.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything, come the state (field 3) and the rest; cutime is 16, cstime 17.
    let rest = stat.rsplit_once(')').ok_or("/proc/self/stat is odd")?.1;
    let field = |at: usize| -> Result<f64> { Ok(rest.split_whitespace().nth(at - 3).ok_or("too short")?.parse()?) };
    let ticks = field(16)? + field(17)?;
    let per_second = Command::new("getconf").arg("CLK_TCK").output()?.stdout;
    Ok(ticks / String::from_utf8(per_second)?.trim().parse::<f64>()?)
}

/// How long it takes to start `command` and see it end, its output thrown away.
pub(crate) fn spawn_time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let taken = begun.elapsed();
    if !status.success() {
        return Err(format!("{} ended with {status}", command.get_program().display()).into());
    }
    Ok(taken)
}
