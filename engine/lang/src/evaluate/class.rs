//! Why an attempt failed, as its output tells, as far as repeating it goes.

use runbook_model::plan::RetryClass;

/// Only so much of the end of each stream is looked at: programs say at last why they failed.
const TAIL_BYTES: usize = 64 * 1024;

/// What package managers say when another program holds their lock, in lower case.
const LOCKS: [&str; 18] = [
    // apt, dpkg
    "could not get lock /var/",
    "unable to acquire the dpkg frontend lock",
    "unable to lock the administration directory",
    "unable to lock directory /var/",
    "dpkg frontend lock was locked by another process",
    "dpkg database lock was locked by another process",
    "dpkg status database is locked by another process",
    // yum, dnf, rpm
    "another app is currently holding the yum lock",
    "existing lock /var/run/yum.pid",
    "failed to obtain the transaction lock",
    "failed to obtain rpm transaction lock",
    "can't create transaction lock on",
    // zypper
    "system management is locked by the application with pid",
    // pacman
    "unable to lock database",
    "could not lock database",
    // apk
    "unable to obtain lock",
    // snap
    "snap-change-conflict",
    // Windows Installer (error 1618)
    "another installation is already in progress",
];

/// What services say when they are asked too often, in lower case.
const THROTTLES: [&str; 11] = [
    "429 too many requests",
    "http 429",
    "error: 429",
    "too many requests",
    "toomanyrequests",
    "rate limit exceeded",
    "rate exceeded",
    "throttlingexception",
    "requestlimitexceeded",
    "request was throttled",
    "503 slow down",
];

pub(super) fn of(stdout: &[u8], stderr: &[u8]) -> RetryClass {
    let tail = |stream: &[u8]| {
        String::from_utf8_lossy(&stream[stream.len().saturating_sub(TAIL_BYTES)..]).to_ascii_lowercase()
    };
    let texts = [tail(stderr), tail(stdout)];
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| texts.iter().any(|text| text.contains(phrase)));
    if says(&LOCKS) {
        RetryClass::LockHeld
    } else if says(&THROTTLES) {
        RetryClass::Throttled
    } else {
        RetryClass::Exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_package_managers_and_services_have_their_class() {
        for (text, class) in [
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)\n\
                 E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
                RetryClass::LockHeld,
            ),
            (
                "E: Could not get lock /var/lib/apt/lists/lock - open (11: Resource temporarily unavailable)",
                RetryClass::LockHeld,
            ),
            ("dpkg: error: dpkg frontend lock was locked by another process with pid 12", RetryClass::LockHeld),
            (
                "E: Unable to lock the administration directory (/var/lib/dpkg/), is another process using it?",
                RetryClass::LockHeld,
            ),
            ("Existing lock /var/run/yum.pid: another copy is running as pid 99.", RetryClass::LockHeld),
            (
                "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)",
                RetryClass::LockHeld,
            ),
            ("Error: Failed to obtain the transaction lock (logged in as: root).", RetryClass::LockHeld),
            ("System management is locked by the application with pid 1234 (zypper).", RetryClass::LockHeld),
            ("error: failed to init transaction (unable to lock database)", RetryClass::LockHeld),
            ("curl: (22) The requested URL returned error: 429", RetryClass::Throttled),
            ("HTTP/1.1 429 Too Many Requests", RetryClass::Throttled),
            (
                "An error occurred (ThrottlingException) when calling the SendCommand operation: Rate exceeded",
                RetryClass::Throttled,
            ),
            ("E: Unable to locate package sambaa", RetryClass::Exit),
            ("permission denied (you must be root)", RetryClass::Exit),
            ("", RetryClass::Exit),
        ] {
            assert_eq!(of(b"", text.as_bytes()), class, "{text}");
            assert_eq!(of(text.as_bytes(), b""), class, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_long_output_is_looked_at() {
        let mut text = vec![b'x'; 1 << 20];
        text.extend(b"\nunable to lock database \xff\n");
        assert_eq!(of(&text, b""), RetryClass::LockHeld);
    }
}
