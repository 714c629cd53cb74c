//! The transport `ssh` keeps what every transport promises, over a real sshd.

mod sshd;

async fn sshd_on_loopback() -> sshd::Sshd {
    sshd::Sshd::start()
}

runbook_testkit::transport_suite!(sshd_on_loopback);

/// The same where sshd allows one session at a time: nothing needs two.
mod one_session_at_a_time {
    use super::sshd;

    async fn sshd_with_one_session() -> sshd::Sshd {
        sshd::Sshd::with("MaxSessions 1")
    }

    runbook_testkit::transport_suite!(sshd_with_one_session);
}

/// And where the account's login shell greets everybody.
mod a_talkative_login_shell {
    use super::sshd;

    async fn sshd_with_a_greeting() -> sshd::Sshd {
        let sshd = sshd::Sshd::start();
        std::fs::write(sshd.path("home/.bashrc"), "echo welcome; echo have a nice day >&2\n").expect("scratch");
        sshd
    }

    runbook_testkit::transport_suite!(sshd_with_a_greeting; outputs_are_apart_and_byte_exact, cleared_leaves_nothing,
        uploads_arrive_whole_or_not_at_all, facts_are_this_machines);
}

/// The smallest tools that a host can have.
const TOOLS: &[&str] = &[
    "bash",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "date",
    "dd",
    "env",
    "grep",
    "head",
    "id",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "od",
    "printf",
    "ps",
    "rm",
    "rmdir",
    "seq",
    "sha256sum",
    "sleep",
    "stat",
    "sudo",
    "tail",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
    "yes",
];

fn link(folder: &std::path::Path, names: &[&str]) {
    for name in names {
        let found = ["/usr/bin", "/bin", "/usr/sbin"].map(|place| std::path::Path::new(place).join(name));
        let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is here"));
        std::os::unix::fs::symlink(found, folder.join(name)).expect("scratch");
    }
}

/// Where `sh` is bash, as on Red Hat's systems.
mod bash_as_sh {
    use super::{TOOLS, link, sshd};

    async fn sshd_with_bash() -> sshd::Sshd {
        sshd::Sshd::with_tools("", |folder| {
            link(folder, TOOLS);
            link(folder, &["setsid"]);
            std::os::unix::fs::symlink("/bin/bash", folder.join("sh")).ok()
        })
    }

    runbook_testkit::transport_suite!(sshd_with_bash);
}

/// Where everything is busybox.
mod busybox {
    use super::{link, sshd};

    async fn sshd_with_busybox() -> sshd::Sshd {
        sshd::Sshd::with_tools("", |folder| {
            let installed = std::process::Command::new("busybox").args(["--install", "-s"]).arg(folder).status();
            assert!(installed.expect("busybox is here").success());
            link(folder, &["bash", "sudo"]);
            Some(())
        })
    }

    runbook_testkit::transport_suite!(sshd_with_busybox);
}

/// Where a step cannot have a session of its own.
mod no_setsid {
    use super::{TOOLS, link, sshd};

    async fn sshd_without_setsid() -> sshd::Sshd {
        sshd::Sshd::with_tools("", |folder| {
            link(folder, TOOLS);
            link(folder, &["sh"]);
            Some(())
        })
    }

    runbook_testkit::transport_suite!(sshd_without_setsid);
}
