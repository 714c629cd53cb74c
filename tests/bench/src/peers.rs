//! How each of those that are compared is told to do the same steps.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use crate::fleet::Fleet;
use crate::hosts::STEPS;
use crate::{Options, Result, write};

/// Who does the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Runbook,
    OpenSsh,
    Asyncssh,
    Pyinfra,
    Ansible,
}

impl Peer {
    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Runbook => "**runbook**",
            Peer::OpenSsh => "OpenSSH: one master a host, one `ssh` per step",
            Peer::Asyncssh => "asyncssh 2.24.1, a script",
            Peer::Pyinfra => "pyinfra 3.10.0",
            Peer::Ansible => "ansible-core 2.21.5, tuned (forks 100, pipelining, ControlPersist, no facts)",
        }
    }
}

/// Writes what the peer needs into `folder`; returns its command.
pub(crate) fn prepare(peer: Peer, folder: &Path, fleet: &Fleet, options: &Options) -> Result<Vec<OsString>> {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let with = |program: &str, rest: &[&str]| {
        let mut command = vec![options.peers.join("bin").join(program).into_os_string()];
        command.extend(words(rest));
        command
    };
    Ok(match peer {
        Peer::Runbook => {
            runbook(folder, fleet, "execute")?;
            let mut command = vec![options.program.clone().into_os_string()];
            command.extend(words(&["apply", "steps.yaml", "--yes"]));
            command
        }
        Peer::OpenSsh => {
            openssh(folder, fleet)?;
            words(&["bash", "mux.sh"])
        }
        Peer::Asyncssh => {
            asyncssh(folder, fleet)?;
            with("python", &["steps.py"])
        }
        Peer::Pyinfra => {
            pyinfra(folder, fleet)?;
            with("pyinfra", &["-y", "inventory.py", "deploy.py"])
        }
        Peer::Ansible => {
            ansible(folder, fleet)?;
            with("ansible-playbook", &["-i", "hosts.ini", "steps.yaml"])
        }
    })
}

/// A project with the steps in this phase.
pub(crate) fn runbook(folder: &Path, fleet: &Fleet, phase: &str) -> Result<()> {
    let config = fleet.ssh_config();
    write(
        &folder.join("runbook.toml"),
        &format!("[ssh]\nconfig = \"{}\"\n[limits]\nparallel = {}\n", config.display(), fleet.hosts.len()),
    )?;
    let mut inventory = String::from("schema: inventory/v1\ndefaults: {transport: ssh}\nhosts:\n");
    for host in &fleet.hosts {
        writeln!(inventory, "  {}: {{}}", host.name)?;
    }
    write(&folder.join("inventory.yaml"), &inventory)?;
    let mut runbook = format!(
        "schema: runbook/v1\nname: steps\nirreversible: it changes nothing\ntargets: {{select: 'h*', parallel: {}, \
         failure_budget: 100%}}\n{phase}:\n",
        fleet.hosts.len()
    );
    for step in 0..STEPS {
        writeln!(runbook, "  - run: echo line {step}")?;
    }
    if phase != "execute" {
        // There must be one; it is skipped, and so costs the host nothing.
        runbook.push_str("execute:\n  - {run: 'true', when: 'false'}\n");
    }
    write(&folder.join("steps.yaml"), &runbook)
}

fn openssh(folder: &Path, fleet: &Fleet) -> Result<()> {
    let mut script = format!(
        "one() {{\n  ssh -F {config} -MNf -S s-$1 $1 </dev/null\n  for step in $(seq 0 {last}); do\n    ssh -F {config} -S \
         s-$1 $1 \"echo line $step\" </dev/null\n  done\n  ssh -F {config} -S s-$1 -O exit $1 2>/dev/null\n}}\n",
        config = fleet.ssh_config().display(),
        last = STEPS - 1
    );
    for host in &fleet.hosts {
        writeln!(script, "one {} &", host.name)?;
    }
    script.push_str("wait\n");
    write(&folder.join("mux.sh"), &script)
}

fn addresses(fleet: &Fleet) -> String {
    let addresses: Vec<String> = fleet.hosts.iter().map(|host| format!("'{}'", host.address)).collect();
    format!("[{}]", addresses.join(", "))
}

fn asyncssh(folder: &Path, fleet: &Fleet) -> Result<()> {
    write(
        &folder.join("steps.py"),
        &format!(
            "import asyncio, asyncssh\n\
             HOSTS = {hosts}\n\
             async def one(host):\n    \
                 async with asyncssh.connect(host, {port}, username='{user}', client_keys=['{key}'], known_hosts='{known}',\n            \
                     kex_algs=['curve25519-sha256'], agent_path=None, config=None) as link:\n        \
                     for step in range({STEPS}):\n            \
                         done = await link.run(f'echo line {{step}}', check=True)\n            \
                         print(done.stdout, end='')\n\
             async def all():\n    \
                 await asyncio.gather(*(one(host) for host in HOSTS))\n\
             asyncio.run(all())\n",
            hosts = addresses(fleet),
            port = fleet.port,
            user = fleet.user,
            key = fleet.key().display(),
            known = fleet.known_hosts().display(),
        ),
    )
}

fn pyinfra(folder: &Path, fleet: &Fleet) -> Result<()> {
    write(
        &folder.join("inventory.py"),
        &format!(
            "hosts = ({}, {{'ssh_user': '{}', 'ssh_port': {}, 'ssh_key': '{}', 'ssh_known_hosts_file': '{}', \
             'ssh_strict_host_key_checking': 'yes', 'ssh_allow_agent': False, 'ssh_look_for_keys': False}})\n",
            addresses(fleet),
            fleet.user,
            fleet.port,
            fleet.key().display(),
            fleet.known_hosts().display()
        ),
    )?;
    write(
        &folder.join("deploy.py"),
        &format!(
            "from pyinfra.operations import server\n\
             for step in range({STEPS}):\n    server.shell(name=f'step {{step}}', commands=[f'echo line {{step}}'])\n"
        ),
    )
}

fn ansible(folder: &Path, fleet: &Fleet) -> Result<()> {
    write(
        &folder.join("ansible.cfg"),
        &format!(
            "[defaults]\nforks = 100\ngathering = explicit\ninterpreter_python = /usr/bin/python3\nlocal_tmp = {folder}/tmp\n\
             [ssh_connection]\npipelining = True\ncontrol_path_dir = {folder}/cp\nssh_args = -F {config} -o \
             ControlMaster=auto -o ControlPersist=60s\n",
            folder = folder.display(),
            config = fleet.ssh_config().display()
        ),
    )?;
    let mut inventory = String::from("[all]\n");
    for host in &fleet.hosts {
        writeln!(inventory, "{}", host.name)?;
    }
    write(&folder.join("hosts.ini"), &inventory)?;
    let mut playbook = String::from("- hosts: all\n  gather_facts: false\n  tasks:\n");
    for step in 0..STEPS {
        writeln!(playbook, "    - shell: echo line {step}")?;
    }
    write(&folder.join("steps.yaml"), &playbook)
}
