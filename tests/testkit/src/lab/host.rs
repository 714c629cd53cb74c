//! One host of a lab.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::command::{self, Output, must};
use super::keys::{self, Keys};
use super::slot::{self, Slot};
use super::{Error, HostSpec, cgroup, network};

/// A real host: its own network, processes, users, file system and sshd. Ends with the value.
pub struct LabHost {
    spec: HostSpec,
    address: String,
    folder: PathBuf,
    cable: String,
    supervisor: Child,
    switch: Option<ChildStdin>,
    news: BufReader<ChildStdout>,
    // The first process; `None` while the host is off.
    init: Option<u32>,
    boots: u32,
}

impl LabHost {
    /// Makes the host and switches it on; [`LabHost::wait_until_up`] waits for it.
    pub(super) fn start(slot: &Slot, keys: &Keys, spec: &HostSpec, place: usize, is_jump: bool) -> Result<Self, Error> {
        let folder = slot.folder().join(&spec.name);
        std::fs::create_dir(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        for (name, text) in [
            ("supervisor.sh", include_str!("supervisor.sh")),
            ("init.sh", include_str!("init.sh")),
            ("start.sh", include_str!("start.sh")),
            ("sshd_config", include_str!("sshd_config")),
        ] {
            super::write(&folder.join(name), text)?;
        }
        for (from, to) in [(&keys.identity, "authorized_keys"), (&keys.authority, "ca.pub")] {
            let from = from.with_extension("pub");
            std::fs::copy(&from, folder.join(to)).map_err(Error::io(format!("copying {}", from.display())))?;
        }
        keys::generate(&folder.join("host_key"))?;
        make_disk(&folder.join("disk.img"), spec.disk_mib)?;

        let group = if spec.systemd { cgroup::of(slot.number(), &spec.name) } else { None };
        let log = File::create(folder.join("log")).map_err(Error::io("making the host's log"))?;
        let mut supervisor = Command::new("unshare")
            .arg("--net")
            .args(["sh".as_ref(), folder.join("supervisor.sh").as_os_str(), folder.as_os_str()])
            .arg(&spec.name)
            .arg(group.unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Error::io("starting unshare"))?;
        let switch = supervisor.stdin.take();
        let news = BufReader::new(supervisor.stdout.take().expect("its standard output is a pipe"));
        let mut host = Self {
            spec: spec.clone(),
            address: String::new(),
            cable: network::cable(slot.number(), place, spec.jump.is_some()),
            supervisor,
            switch,
            news,
            init: None,
            boots: 0,
            folder,
        };
        slot::record(&host.record(), host.supervisor.id())?;
        host.expect_news("ready")?;
        host.address = network::plug(slot.number(), place, spec.jump.is_some(), host.supervisor.id())?;
        if is_jump {
            network::plug(slot.number(), place, true, host.supervisor.id())?;
        }
        host.press_switch()?;
        Ok(host)
    }

    fn record(&self) -> PathBuf {
        self.folder.with_extension("processes")
    }

    fn press_switch(&mut self) -> Result<(), Error> {
        let switch = self.switch.as_mut().expect("open until the host is dropped");
        switch.write_all(b"on\n").map_err(Error::io(format!("switching {} on", self.spec.name)))
    }

    fn expect_news(&mut self, wanted: &str) -> Result<String, Error> {
        let mut line = String::new();
        self.news.read_line(&mut line).map_err(Error::io(format!("listening to {}", self.spec.name)))?;
        if line.starts_with(wanted) {
            return Ok(line.trim_end().to_owned());
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let detail = format!("expected `{wanted}`, heard `{}`; its log: {log}", line.trim_end());
        Err(Error::Host { host: self.spec.name.clone(), detail })
    }

    /// Waits until the host has booted (once more): its sshd listens.
    ///
    /// # Errors
    /// When it went down instead.
    pub fn wait_until_up(&mut self) -> Result<(), Error> {
        self.expect_news("up")?;
        self.boots += 1;
        // supervisor → unshare → process 1 of the host.
        let init =
            slot::children(self.supervisor.id()).into_iter().find_map(|pid| slot::children(pid).first().copied());
        let Some(init) = init else {
            return Err(Error::Host { host: self.spec.name.clone(), detail: "its first process was not found".into() });
        };
        slot::record(&self.record(), init)?;
        self.init = Some(init);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its IPv4 address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether its first process is systemd.
    pub fn has_systemd(&self) -> bool {
        self.spec.systemd
    }

    /// The jump host that it is behind.
    pub fn jump(&self) -> Option<&str> {
        self.spec.jump.as_deref()
    }

    /// How often it has come up.
    pub fn boots(&self) -> u32 {
        self.boots
    }

    pub(super) fn inventory_keys(&self) -> &str {
        &self.spec.inventory
    }

    pub(super) fn cable(&self) -> &str {
        &self.cable
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its first process, by the machine's number.
    ///
    /// # Panics
    /// While it is off.
    pub fn init(&self) -> u32 {
        self.init.expect("the host is on")
    }

    /// Its public host key (`ssh-ed25519 AAAA…`).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn host_key(&self) -> Result<String, Error> {
        let path = self.folder.join("host_key.pub");
        let text = std::fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
        Ok(text.trim_end().to_owned())
    }

    /// Where the host's file `path` (absolute) is for a process of this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init()))
    }

    /// Runs a shell text as root on the host, not over the network.
    ///
    /// # Errors
    /// When it could not be started. That it failed is in the output.
    pub fn try_sh(&self, text: &str) -> Result<Output, Error> {
        let pid = self.init().to_string();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command::run(
            "nsenter",
            [
                "-t",
                &pid,
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                // Its view of the control groups; that of a host without systemd is the machine's.
                "-C",
                "--root",
                "--wdns=/",
                "--",
                "env",
                "-i",
                path,
                "HOME=/root",
                "LANG=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive",
                "sh",
                "-euc",
                text,
            ],
        )
    }

    /// The same for a text that has to succeed; gives its standard output.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn sh(&self, text: &str) -> String {
        match self.try_sh(text) {
            Ok(output) if output.ok() => output.stdout,
            Ok(output) => panic!("on {}: {text}\n{output:?}", self.spec.name),
            Err(error) => panic!("on {}: {text}\n{error}", self.spec.name),
        }
    }

    /// Everything there is to know of the files under `paths`, one line each and sorted: kind, mode, owner, group, size,
    /// SHA-256, link target, access control list. Two equal texts are equal trees, byte for byte. Times are left out.
    ///
    /// # Panics
    /// When a path cannot be read.
    pub fn fingerprint(&self, paths: &[&str]) -> String {
        let list = paths.iter().map(|path| runbook_model::shell::quote_posix(path)).collect::<Vec<_>>().join(" ");
        self.sh(&format!(
            "export LC_ALL=C
             for path in {list}; do
                 [ -e \"$path\" ] || [ -L \"$path\" ] || {{ printf 'absent %s\\n' \"$path\"; continue; }}
                 find \"$path\" -type d -printf 'folder %p %m %U:%G\\n' -o -printf '%y %p %m %U:%G %s %l\\n' | sort
                 find \"$path\" -type f -print0 | sort -z | xargs -0r sha256sum
                 find \"$path\" ! -type l -print0 | sort -z | xargs -0r getfacl --absolute-names --numeric --skip-base
             done"
        ))
    }

    /// The installed packages with their versions and states, sorted.
    ///
    /// # Panics
    /// When dpkg cannot be asked.
    pub fn packages(&self) -> String {
        self.sh("dpkg-query -W -f '${Package}:${Architecture} ${Version} ${Status}\\n' | LC_ALL=C sort")
    }

    /// Asks the host to reboot and waits until it is up again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn reboot(&mut self) -> Result<(), Error> {
        // The shell that asks ends with everything else.
        self.try_sh("reboot")?;
        self.wait_until_up()
    }

    /// Pulls the plug. What was not written is lost.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn power_off(&mut self) -> Result<(), Error> {
        must("kill", ["-KILL", &self.init().to_string()])?;
        self.expect_news("down")?;
        self.init = None;
        Ok(())
    }

    /// Switches it on again and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on(&mut self) -> Result<(), Error> {
        self.press_switch()?;
        self.wait_until_up()
    }
}

impl Drop for LabHost {
    fn drop(&mut self) {
        // The end of its standard input ends the host, even one that is frozen: process 1 is not.
        drop(self.switch.take());
        // Nobody listens to why it might not have ended.
        let _ = self.supervisor.wait();
    }
}

fn make_disk(path: &Path, size_mib: u64) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::io(format!("making {}", path.display())))?;
    file.set_len(size_mib * 1024 * 1024).map_err(Error::io(format!("making {}", path.display())))?;
    let arguments = ["-q", "--mixed"].map(AsRef::as_ref);
    must("mkfs.btrfs", arguments.into_iter().chain([path.as_os_str()]))?;
    Ok(())
}
