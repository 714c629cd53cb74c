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
