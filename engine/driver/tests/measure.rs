//! Measuring real trees with the machine's own `sh`.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use runbook_driver::measure::globs::Globs;
use runbook_driver::measure::listing::Listing;
use runbook_driver::measure::{Known, Measured, Request, measure, script};
use runbook_model::Sha256;
use runbook_model::host::{Facts, Host, PeerIdentity};
use runbook_model::id::AttemptId;
use runbook_model::outcome::{Exit, Obstacle};
use runbook_model::session;
use runbook_ports::Session;
use runbook_ports::transport::{
    Completion, Invocation, Offsets, OutputSink, Probe, Program, Stream, Transferred, UploadTarget,
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

/// Runs texts with `sh`, and remembers what was fed to them.
#[derive(Default)]
struct Here {
    fed: Mutex<Vec<usize>>,
    /// A folder of programs that are found first.
    programs: Option<PathBuf>,
}

impl Here {
    fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        self.programs.as_ref().map_or(path.clone(), |programs| format!("{}:{path}", programs.display()))
    }
}

#[async_trait]
impl Session for Here {
    fn identity(&self) -> PeerIdentity {
        PeerIdentity::default()
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        Ok(Facts::default())
    }

    async fn run(
        &self,
        _claim: Option<&AttemptId>,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        _stop: &CancellationToken,
        _grace: Duration,
    ) -> Completion {
        let Program::Shell { text, .. } = &invocation.program else { panic!("only texts are measured with") };
        let stdin = invocation.stdin.as_ref().map(|stdin| stdin.expose().to_vec()).unwrap_or_default();
        self.fed.lock().unwrap().push(stdin.iter().filter(|byte| **byte == 0).count());
        let mut child = tokio::process::Command::new("sh")
            .arg("-c")
            .arg(text)
            .env("LC_ALL", "C")
            .env("PATH", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let feed = tokio::spawn(async move {
            let _ = input.write_all(&stdin).await;
        });
        let output = child.wait_with_output().await.unwrap();
        feed.await.unwrap();
        for piece in output.stdout.chunks(1_000) {
            sink.write(Stream::Stdout, piece).await;
        }
        sink.write(Stream::Stderr, &output.stderr).await;
        Completion::Exited(Exit::Code(output.status.code().unwrap()))
    }

    async fn probe(&self, _attempt: &AttemptId) -> Probe {
        unreachable!()
    }

    async fn follow(
        &self,
        _attempt: &AttemptId,
        _from: Offsets,
        _sink: &mut dyn OutputSink,
        _stop: &CancellationToken,
        _grace: Duration,
    ) -> Completion {
        unreachable!()
    }

    async fn clear(&self, _attempt: &AttemptId) -> Result<(), Obstacle> {
        unreachable!()
    }

    async fn upload(&self, _: &Path, _: &UploadTarget, _: &(dyn Fn(u64) + Send + Sync)) -> Transferred {
        unreachable!()
    }

    async fn download(
        &self,
        _: &str,
        _: Option<&str>,
        _: u64,
        _: &Path,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        unreachable!()
    }

    async fn check(&self) -> Result<(), Obstacle> {
        Ok(())
    }

    async fn close(&self) -> session::Here {
        session::Here::Ended
    }
}

fn here() -> Host {
    Host::here()
}

fn request(patterns: &[&str]) -> Request {
    Request { globs: Globs::new(patterns.iter().copied()).unwrap(), account: None, services: false }
}

async fn measured(patterns: &[&str], known: &mut Known) -> (Measured, Vec<usize>) {
    let session = Here::default();
    let measured = measure(&session, &here(), &request(patterns), known).await.unwrap();
    (measured, session.fed.into_inner().unwrap())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_kind_of_change_is_seen_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["same", "content", "mode", "gone"] {
        std::fs::write(at(name), name).unwrap();
    }
    std::fs::create_dir(at("sub")).unwrap();
    symlink("same", at("link")).unwrap();
    let root = text(folder.path());
    let mut known = Known::default();
    let (before, _) = measured(&[&root], &mut known).await;
    assert!(before.gaps.is_empty(), "{:?}", before.gaps);
    let entries = &before.manifest.entries;
    assert_eq!(entries[&text(&at("same"))].sha256, Some(Sha256::of(b"same")));
    assert_eq!(entries[&text(&at("link"))].sha256, Some(Sha256::of(b"same")), "a link's target");
    assert_eq!(entries[&text(&at("link"))].kind, "link");
    assert_eq!(entries[&text(&at("sub"))].kind, "dir");
    assert_eq!(entries.len(), 7);

    // The same length, so that only the content tells.
    std::fs::write(at("content"), "CONTENT").unwrap();
    std::fs::set_permissions(at("mode"), std::fs::Permissions::from_mode(0o4750)).unwrap();
    std::fs::remove_file(at("gone")).unwrap();
    std::fs::write(at("sub").join("new"), "new").unwrap();
    std::fs::remove_file(at("link")).unwrap();
    symlink("mode", at("link")).unwrap();
    let (after, _) = measured(&[&root], &mut known).await;
    let changes = before.manifest.changes(&after.manifest);
    let changed: Vec<_> = changes.iter().map(|change| change.path.strip_prefix(&root).unwrap()).collect();
    assert_eq!(changed, ["/content", "/gone", "/link", "/mode", "/sub/new"]);
    assert_eq!(after.manifest.entries[&text(&at("mode"))].mode, "4750");
    assert_eq!(changes[1].after, None);
    assert_eq!(changes[4].before, None);
}

#[tokio::test]
async fn another_owner_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let mut known = Known::default();
    let (before, _) = measured(&[&text(&file)], &mut known).await;
    if std::os::unix::fs::chown(&file, Some(12_345), Some(12_346)).is_err() {
        // Only root may give files away.
        return;
    }
    let (after, _) = measured(&[&text(&file)], &mut known).await;
    let entry = &after.manifest.entries[&text(&file)];
    assert_eq!((entry.owner.as_str(), entry.group.as_str()), ("12345", "12346"));
    assert_eq!(before.manifest.changes(&after.manifest).len(), 1);
}

#[tokio::test]
async fn strange_names_are_paths_like_others() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let names: [&[u8]; 9] = [
        b"two words",
        b"line\nend",
        b"tab\there",
        b"back\\slash",
        b"-dash",
        b"quote'\"",
        b"$(id)",
        b"\xff\xfe",
        "ä€".as_bytes(),
    ];
    for name in names {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let root = text(folder.path());
    let (measured, _) = measured(&[&root], &mut Known::default()).await;
    assert!(measured.gaps.is_empty(), "{:?}", measured.gaps);
    assert_eq!(measured.manifest.entries.len(), 10);
    for name in names {
        let shown = match std::str::from_utf8(name) {
            Ok(text) => text.to_owned(),
            Err(_) => "\\xff\\xfe".to_owned(),
        };
        let entry = &measured.manifest.entries[&format!("{root}/{shown}")];
        assert_eq!(entry.sha256, Some(Sha256::of(name)), "{shown:?}");
    }
}

#[tokio::test]
async fn globs_choose_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("etc/samba/deep")).unwrap();
    for name in ["etc/a.conf", "etc/b.txt", "etc/samba/smb.conf", "etc/samba/deep/x"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let root = text(folder.path());
    let of = async |pattern: &str| {
        let (measured, _) = measured(&[&format!("{root}{pattern}")], &mut Known::default()).await;
        measured.manifest.entries.into_keys().map(|path| path[root.len()..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("/etc/*.conf").await, ["/etc/a.conf"]);
    assert_eq!(
        of("/etc/samba/**").await,
        ["/etc/samba", "/etc/samba/deep", "/etc/samba/deep/x", "/etc/samba/smb.conf"]
    );
    assert_eq!(of("/etc/b.txt").await, ["/etc/b.txt"]);
    assert!(of("/etc/none").await.is_empty());
}

#[tokio::test]
async fn a_folder_behind_a_link_is_measured_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("real")).unwrap();
    std::fs::write(folder.path().join("real/file"), "x").unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    let root = text(&folder.path().join("link"));
    let (measured, _) = measured(&[&root], &mut Known::default()).await;
    let paths: Vec<_> = measured.manifest.entries.keys().cloned().collect();
    assert_eq!(paths, [root.clone(), format!("{root}/file")]);
}

#[tokio::test]
async fn unchanged_files_are_not_hashed_twice() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..10_000 {
        let sub = folder.path().join(format!("{:02}", i % 100));
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join(format!("{i}")), format!("{i}")).unwrap();
    }
    let root = text(folder.path());
    let mut known = Known::default();
    // A file that was changed in the second in which it is listed cannot be told from one changed again, so here the
    // host's clock is ahead of its files.
    let programs = tempfile::tempdir().unwrap();
    let date = programs.path().join("date");
    std::fs::write(&date, "#!/bin/sh\necho 4000000000\n").unwrap();
    std::fs::set_permissions(&date, std::fs::Permissions::from_mode(0o755)).unwrap();
    let session = Here { programs: Some(programs.path().to_owned()), ..Here::default() };
    let mut again = async || {
        let measured = measure(&session, &here(), &request(&[&root]), &mut known).await.unwrap();
        (measured, std::mem::take(&mut *session.fed.lock().unwrap()))
    };
    let (first, fed) = again().await;
    assert_eq!(fed, [0, 10_000]);
    assert_eq!(first.manifest.entries.len(), 10_101);
    std::fs::write(folder.path().join("00/100"), "other").unwrap();
    let (second, fed) = again().await;
    assert_eq!(fed, [0, 1], "one file was changed, one is hashed");
    assert_eq!(first.manifest.changes(&second.manifest).len(), 1);
}

#[tokio::test]
async fn without_gnu_find_the_list_is_the_same() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for name in [&b"two words"[..], b"line\nend", b"sub/x", b"-n", b"\xff"] {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("sub/x\n", folder.path().join("link")).unwrap();
    let globs = Globs::new([text(folder.path()).as_str()]).unwrap();
    let list = |plain: bool| {
        let script = script::list(&globs, true, plain);
        let output = std::process::Command::new("sh").arg("-c").arg(script).env("LC_ALL", "C").output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut listing = Listing::new(1_000);
        listing.push(&output.stdout);
        let paths = listing.finish().unwrap().paths;
        paths
            .into_iter()
            .map(|(path, l)| (path, (l.kind, l.mode, l.owner, l.group, l.target, l.meta.bytes)))
            .collect::<BTreeMap<_, _>>()
    };
    let (gnu, plain) = (list(false), list(true));
    assert_eq!(gnu.len(), 8);
    assert_eq!(gnu, plain);
}

#[test]
fn a_list_that_was_cut_off_is_an_error() {
    let mut listing = Listing::new(10);
    listing.push(b"@time 5\0f\t644\troot\troot\t1\t1.0\t1.0\t7\t/x\0\0");
    assert!(listing.finish().is_err());
    let mut listing = Listing::new(0);
    listing.push(b"f\t644\troot\troot\t1\t1.0\t1.0\t7\t/x\0\0@end\0");
    assert!(listing.finish().is_err(), "more paths than are allowed");
}
