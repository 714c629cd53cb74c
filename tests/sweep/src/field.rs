//! Two hosts on which points are tried, one after the other.

use std::collections::BTreeSet;

use runbook_testkit::lab::{Lab, LabHost};

use crate::{Error, script};

/// The hosts, by name. What goes wrong goes wrong on the first.
pub const HOSTS: [&str; 2] = ["fs01", "fs02"];

// Nothing on a host takes so long; a hung trial shall end all the same.
const PATIENCE_SECONDS: u32 = 120;

// A process of a run that is left for longer than this is left for good.
const ENDING_SECONDS: u32 = 20;

/// What is not ours on a host: processes that were there before.
pub type Before = Vec<BTreeSet<u32>>;

/// Two hosts with the files of the runbook.
pub struct Field {
    lab: Lab,
}

impl Field {
    /// Makes the hosts.
    ///
    /// # Errors
    /// When the lab cannot be made.
    pub fn new() -> Result<Self, Error> {
        let lab = Lab::with_hosts(&HOSTS)?;
        for host in lab.hosts() {
            host.sh("mkdir -m 777 /srv/sweep");
            for (name, bytes) in [
                ("do", script::DO.as_bytes().to_vec()),
                ("restart-sshd", script::RESTART_SSHD.as_bytes().to_vec()),
                ("binary.bin", script::binary()),
                ("large.bin", script::large()),
            ] {
                let path = host.path(&format!("/srv/sweep/{name}"));
                std::fs::write(&path, bytes).map_err(Error::io(format!("writing {}", path.display())))?;
            }
            host.sh("chmod 755 /srv/sweep/do /srv/sweep/restart-sshd");
        }
        Ok(Self { lab })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The host to which things happen.
    pub fn first(&self) -> &LabHost {
        self.lab.host(HOSTS[0])
    }

    /// Restarts the host to which things happen.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn reboot_first(&mut self) -> Result<(), Error> {
        Ok(self.lab.host_mut(HOSTS[0]).reboot()?)
    }

    /// Makes the hosts as they were before the first trial, and says which processes are there.
    pub fn reset(&self) -> Before {
        self.lab
            .hosts()
            .map(|host| {
                host.sh("cd /srv/sweep; rm -f effects conf tried gate.*; : >effects; chmod 666 effects
                         rm -rf /home/maint/.local/state/runbook /root/.local/state/runbook /var/tmp/.runbook-*");
                self.processes(host).into_iter().map(|(pid, _)| pid).collect()
            })
            .collect()
    }

    /// Puts a gate where `step` is about to have its effect on the first host.
    pub fn close_gate(&self, step: &str) {
        self.first().sh(&format!(
            "cd /srv/sweep; for end in arrived open passed; do mkfifo gate.{step}.$end; chmod 666 gate.{step}.$end; done"
        ));
    }

    /// Waits until the step stands at the gate.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_at_gate(&self, step: &str) -> Result<(), Error> {
        self.hear(step, "arrived")
    }

    /// Lets the step go on to its effect.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open_gate(&self, step: &str) -> Result<(), Error> {
        let done =
            self.first().try_sh(&format!("timeout {PATIENCE_SECONDS} sh -c 'echo go >/srv/sweep/gate.{step}.open'"))?;
        if done.ok() { Ok(()) } else { Err(Error::Course(format!("nobody stands at the gate of {step}"))) }
    }

    /// Waits until the step has had its effect.
    ///
    /// # Errors
    /// When it has not.
    pub fn wait_behind_gate(&self, step: &str) -> Result<(), Error> {
        self.hear(step, "passed")
    }

    /// Nobody stops there any more.
    pub fn remove_gate(&self, step: &str) {
        self.first().sh(&format!("rm -f /srv/sweep/gate.{step}.*"));
    }

    fn hear(&self, step: &str, what: &str) -> Result<(), Error> {
        let heard = self.first().try_sh(&format!("timeout {PATIENCE_SECONDS} cat /srv/sweep/gate.{step}.{what}"))?;
        if heard.ok() && !heard.stdout.is_empty() {
            return Ok(());
        }
        Err(Error::Course(format!("{step} has not {what} at its gate in {PATIENCE_SECONDS} s")))
    }

    /// What the host says that happened, in order.
    pub fn effects(&self, host: &str) -> Vec<String> {
        self.lab.host(host).sh("cat /srv/sweep/effects").lines().map(str::to_owned).collect()
    }

    /// Files of claims that are left on the host.
    pub fn claims(&self, host: &str) -> Vec<String> {
        let found = self.lab.host(host).sh(
            "for folder in /home/maint/.local/state/runbook /root/.local/state/runbook /var/tmp/.runbook-*; do
                 [ ! -e \"$folder\" ] || find \"$folder\" -type f
             done",
        );
        found.lines().map(str::to_owned).collect()
    }

    /// Processes on the host that were not there before and are not a connection's: those end with it. What ran attached
    /// to a connection that is gone gets its grace of ten seconds before it is ended, so they are waited for.
    pub fn strangers(&self, place: usize, before: &Before) -> Vec<String> {
        let host = self.lab.host(HOSTS[place]);
        let mut now = Vec::new();
        // Whoever is waited for may have started others meanwhile.
        for _ in 0..3 {
            now = self.processes(host);
            now.retain(|(pid, _)| !before[place].contains(pid));
            if now.is_empty() {
                break;
            }
            for (pid, _) in &now {
                host.sh(&format!("timeout {ENDING_SECONDS} tail --pid={pid} -f /dev/null || :"));
            }
        }
        now.into_iter().map(|(_, text)| text).collect()
    }

    // Every process but what looks for them, the host's first two, sshd's own, and what an sshd is an ancestor of.
    fn processes(&self, host: &LabHost) -> Vec<(u32, String)> {
        let listed = host.sh(
            "set +eu
             read -r second rest </proc/1/task/1/children
             for folder in /proc/[0-9]*; do
                 pid=${folder#/proc/}
                 [ \"$pid\" != \"$second\" ] || continue
                 of=$pid
                 while [ \"$of\" -gt 1 ]; do
                     read -r line <\"/proc/$of/stat\" || { of=0; break; }
                     name=${line#*\\(}; name=${name%\\)*}
                     [ \"$name\" != sshd ] || { of=0; break; }
                     rest=${line##*\\) }
                     set -- $rest
                     [ \"$1\" != Z ] || { of=0; break; }
                     of=$2
                 done
                 [ \"$of\" -ne 1 ] || [ \"$pid\" -eq 1 ] || printf '%s %s\\n' \"$pid\" \"$(tr '\\0' ' ' <$folder/cmdline)\"
             done 2>/dev/null
             exit 0",
        );
        listed
            .lines()
            .filter_map(|line| {
                let (pid, _) = line.split_once(' ')?;
                Some((pid.parse().ok()?, line.to_owned()))
            })
            .collect()
    }
}
