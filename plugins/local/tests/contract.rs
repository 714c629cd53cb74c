//! The transport `local` keeps what every transport promises.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_local::{Local, Settings};
use runbook_model::host::Host;
use runbook_ports::clock::Clock;
use runbook_ports::transport::{Session, Transport};
use runbook_testkit::transport_suite::Subject;

struct WallClock;

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods)]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn mono_ms(&self) -> u64 {
        self.now_ms()
    }
}

struct Here {
    scratch: tempfile::TempDir,
    local: Local,
}

fn host() -> Host {
    let json = serde_json::json!({"name": "here", "transport": "local", "address": "here", "os": "linux"});
    serde_json::from_value(json).expect("a host")
}

#[async_trait]
impl Subject for Here {
    async fn session(&self) -> Box<dyn Session> {
        self.local.open(&host(), Duration::from_secs(10)).await.expect("this machine is here")
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

/// With a keeper, as in the program.
async fn here() -> Here {
    here_with(Some(vec![env!("CARGO_BIN_EXE_runbook-local-keeper").into(), runbook_local::KEEP.into()]))
}

/// Where shells keep the steps.
async fn kept_by_shells() -> Here {
    here_with(None)
}

fn here_with(keeper: Option<Vec<OsString>>) -> Here {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let home = scratch.path().join("home");
    std::fs::create_dir(&home).expect("a home");
    if keeper.is_some() {
        // Whoever needs it first makes it by a script, and so without a keeper.
        let mut folder = std::fs::DirBuilder::new();
        folder.mode(0o700).recursive(true).create(home.join(".local/state/runbook")).expect("a folder for claims");
    }
    let local = Local::new(Settings { home: Some(home), keeper }, Arc::new(WallClock));
    Here { scratch, local }
}

runbook_testkit::transport_suite!(here);

mod shells {
    use super::kept_by_shells;

    runbook_testkit::transport_suite!(kept_by_shells);
}
