//! What can go wrong with a host, on purpose.

use super::command::must;
use super::{Error, LabHost, keys};

impl LabHost {
    /// Cuts its network cable. Packets are lost without a word.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn cut_link(&self) -> Result<(), Error> {
        must("ip", ["link", "set", self.cable(), "down"]).map(drop)
    }

    /// Mends the cable.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn mend_link(&self) -> Result<(), Error> {
        must("ip", ["link", "set", self.cable(), "up"]).map(drop)
    }

    /// Stops every sshd process: connections are accepted by the kernel, and nobody answers.
    pub fn freeze_sshd(&self) {
        self.signal_sshd("STOP");
    }

    /// Lets them go on.
    pub fn thaw_sshd(&self) {
        self.signal_sshd("CONT");
    }

    /// Ends sshd and all its connections. What runs detached on the host goes on.
    pub fn kill_sshd(&self) {
        self.signal_sshd("KILL");
    }

    /// Ends the connections that are open now; sshd takes new ones.
    pub fn kill_connections(&self) {
        self.sh(&format!(
            "listener=$(cat /run/sshd.pid); {}",
            for_each_sshd("[ $pid = $listener ] || kill -KILL $pid || :")
        ));
    }

    /// Ends the connections from this machine to it with a reset, at both ends, whatever was under way.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn reset_connections(&self) -> Result<(), Error> {
        must("ss", ["--kill", "--no-header", "--tcp", "dst", self.address()]).map(drop)
    }

    /// Stops every process of it but the first: the whole machine stands still, as when it is migrated.
    pub fn pause(&self) {
        self.sh("kill -STOP -1");
    }

    /// Lets them go on.
    pub fn go_on(&self) {
        self.sh("kill -CONT -1");
    }

    /// Steps its clock: what runs for a login believes that it is so many seconds later (or earlier) than it is. The kernel
    /// has one clock for all hosts, so programs are told another time by `libfaketime`; sshd itself and what runs through
    /// sudo are not. The first step ends all connections.
    pub fn step_clock(&self, seconds: i64) {
        self.sh(&format!("echo '{seconds:+}' >/etc/faketimerc.new; mv /etc/faketimerc.new /etc/faketimerc"));
        let library = self.sh("ls /usr/lib/*/faketime/libfaketime.so.1");
        let line = format!("SetEnv LD_PRELOAD={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1", library.trim());
        if !self.sh("cat /etc/ssh/sshd_config").contains(&line) {
            self.sh(&format!("echo '{line}' >>/etc/ssh/sshd_config"));
            self.kill_sshd();
            self.start_sshd();
        }
    }

    /// Its clock is the kernel's again. Ends all connections.
    pub fn right_clock(&self) {
        self.sh("sed -i /faketime/d /etc/ssh/sshd_config; rm -f /etc/faketimerc");
        self.kill_sshd();
        self.start_sshd();
    }

    /// Starts sshd again after [`LabHost::kill_sshd`].
    pub fn start_sshd(&self) {
        // It goes into the background before it listens, and writes its pid after that.
        self.sh("rm -f /run/sshd.pid; /usr/sbin/sshd -E /var/log/sshd.log </dev/null >/dev/null 2>&1; \
             timeout 20 sh -c 'until [ -s /run/sshd.pid ]; do sleep 0.02; done'");
    }

    fn signal_sshd(&self, signal: &str) {
        self.sh(&for_each_sshd(&format!("kill -{signal} $pid || :")));
    }

    /// Writes until there is no room on its disk, for root neither.
    pub fn fill_disk(&self) {
        self.sh("for size in 4M 64k 4k; do dd if=/dev/zero of=/var/tmp/fill.$size bs=$size status=none || :; done; sync -f /var/tmp || :");
    }

    /// Makes room again.
    pub fn empty_disk(&self) {
        self.sh("rm -f /var/tmp/fill.*; sync -f /var/tmp");
    }

    /// Gives it another host key. Who knew it sees a stranger at its address, until
    /// [`Lab::write_ssh_files`](super::Lab::write_ssh_files).
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn change_host_key(&self) -> Result<(), Error> {
        let key = self.folder().join("host_key");
        keys::generate(&key)?;
        for (from, to) in [("host_key", ""), ("host_key.pub", ".pub")] {
            let to = self.path(&format!("/etc/ssh/ssh_host_ed25519_key{to}"));
            std::fs::copy(self.folder().join(from), &to).map_err(Error::io(format!("writing {}", to.display())))?;
        }
        self.kill_sshd();
        self.start_sshd();
        Ok(())
    }

    /// It accepts no login any more, neither by key nor by certificate.
    pub fn refuse_logins(&self) {
        self.sh(": >/home/maint/.ssh/authorized_keys; : >/etc/ssh/lab_ca.pub");
    }

    /// The login user may not become another.
    pub fn forbid_sudo(&self) {
        self.sh("mv /etc/sudoers.d/maint /root/sudoers-maint");
    }

    /// It may again.
    pub fn allow_sudo(&self) {
        self.sh("mv /root/sudoers-maint /etc/sudoers.d/maint");
    }

    /// At most so many sessions in one connection (`MaxSessions`).
    pub fn limit_sessions(&self, sessions: u32) {
        self.sh(&format!(
            "sed -i '/^MaxSessions/d' /etc/ssh/sshd_config; echo 'MaxSessions {sessions}' >>/etc/ssh/sshd_config"
        ));
        self.kill_sshd();
        self.start_sshd();
    }
}

// The host has its own process tree: no other sshd is in sight.
fn for_each_sshd(action: &str) -> String {
    format!(
        "for folder in /proc/[0-9]*; do
             pid=${{folder#/proc/}}
             read -r name <$folder/comm 2>/dev/null || continue
             [ \"$name\" = sshd ] || continue
             {action}
         done 2>/dev/null"
    )
}
