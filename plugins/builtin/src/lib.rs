//! The list of transports inside the program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use runbook_model::outcome::ObstacleKind;
use runbook_ports::clock::Clock;
use runbook_ports::transport::Transport;

/// What the operator can set of them.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Of `local`.
    pub local: runbook_local::Settings,
    /// Of `ssh`.
    pub ssh: runbook_ssh::Settings,
}

/// The transports by the names that an inventory uses.
pub fn transports(settings: Settings, clock: &Arc<dyn Clock>) -> BTreeMap<String, Arc<dyn Transport>> {
    let all: [Arc<dyn Transport>; 2] = [
        Arc::new(runbook_local::Local::new(settings.local, Arc::clone(clock))),
        Arc::new(runbook_ssh::Ssh::new(settings.ssh, Arc::clone(clock))),
    ];
    all.into_iter().map(|transport| (transport.name().to_owned(), transport)).collect()
}

/// What this process is instead of the program, when the first of its `words` (without its name) says so: a transport may
/// start the program once more for a part of its work.
pub fn part(words: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = words.into_iter();
    (words.next()? == runbook_local::KEEP).then(|| runbook_local::keep(words))
}

/// The settings for a program that calls [`part`] before it does anything else.
pub fn with_parts(mut settings: Settings) -> Settings {
    if let Ok(program) = std::env::current_exe() {
        settings.local.keeper = Some(vec![program.into(), runbook_local::KEEP.into()]);
    }
    settings
}

/// The names of [`transports`].
pub const NAMES: [&str; 2] = ["local", "ssh"];

/// The code of an obstacle's error page.
pub fn error_code(kind: ObstacleKind) -> &'static str {
    match kind {
        ObstacleKind::Unreachable => "RB0400",
        ObstacleKind::HostKey => "RB0401",
        ObstacleKind::Login => "RB0402",
        ObstacleKind::Elevation => "RB0403",
        ObstacleKind::HostFull => "RB0404",
        ObstacleKind::Session => "RB0405",
        ObstacleKind::Local => "RB0406",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Clock for Stopped {
        fn now_ms(&self) -> u64 {
            0
        }

        fn mono_ms(&self) -> u64 {
            0
        }
    }

    #[test]
    fn every_name_is_listed_once() {
        let clock: Arc<dyn Clock> = Arc::new(Stopped);
        let names: Vec<String> = transports(Settings::default(), &clock).into_keys().collect();
        assert_eq!(names, NAMES);
    }

    #[test]
    fn every_obstacle_has_its_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        for kind in [
            ObstacleKind::Unreachable,
            ObstacleKind::HostKey,
            ObstacleKind::Login,
            ObstacleKind::Elevation,
            ObstacleKind::HostFull,
            ObstacleKind::Session,
            ObstacleKind::Local,
        ] {
            let page = pages.join(format!("{}.md", error_code(kind)));
            assert!(page.is_file(), "{} is missing", page.display());
        }
    }
}
