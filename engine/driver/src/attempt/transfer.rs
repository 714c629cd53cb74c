//! Files to the host, and from it.
//!
//! A file is put in place whole or not at all, and checked by digest on both sides, so a transfer whose connection broke
//! is begun again within the attempt's time: what is on the host is then what it would have been.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use runbook_model::event::Transfer;
use runbook_model::outcome::{KilledBy, ObstacleKind};
use runbook_model::plan::UploadFile;
use runbook_ports::transport::{Transferred, UploadTarget};

use super::program::unreadable;
use super::{Done, Job, local, taken_over, time_left};
use crate::sessions::Lease;
use crate::world::{Raw, World};

/// The pause before a broken transfer is begun again, doubled up to the second value.
const PAUSE_MS: (u64, u64) = (500, 10_000);

/// How one file ended.
enum Moved {
    Done(Transfer),
    Failed(String),
    NotStarted(runbook_model::outcome::Obstacle),
    /// Time is over, or it was cancelled.
    Stopped,
    Lost(String),
}

/// A file and its way.
enum File<'a> {
    Up { source: &'a Path, target: &'a UploadTarget },
    Down { from: &'a str, account: Option<&'a str>, bytes_max: u64, target: &'a Path },
}

impl File<'_> {
    async fn go(&self, lease: &Lease, progress: &(dyn Fn(u64) + Send + Sync)) -> Transferred {
        match self {
            File::Up { source, target } => lease.upload(source, target, progress).await,
            File::Down { from, account, bytes_max, target } => {
                lease.download(from, *account, *bytes_max, target, progress).await
            }
        }
    }
}

/// Sends the files, in the order of their paths.
pub(super) async fn upload(
    world: &Arc<World>,
    job: &Job,
    files: &BTreeMap<String, UploadFile>,
    to: &str,
    owner: Option<&str>,
    group: Option<&str>,
) -> Done {
    let length = |file: &UploadFile| world.plan.files.get(&file.sha256).map_or(0, |file| file.bytes);
    let total: u64 = files.values().map(length).sum();
    let mut sent = 0;
    let mut transfers = Vec::new();
    for (path, file) in files {
        let target = UploadTarget {
            to: joined(to, path),
            mode: file.mode,
            owner: owner.map(str::to_owned),
            group: group.map(str::to_owned),
            account: job.rendered.account.clone(),
            sha256: file.sha256,
            bytes: length(file),
        };
        let source = match world.blobs.file(&file.sha256).await {
            Ok(source) => source,
            Err(error) => return ended(transfers, Moved::NotStarted(unreadable(&error))),
        };
        let progress = world.progress(&job.attempt.cell(), sent, total);
        let file = File::Up { source: &source.path, target: &target };
        match transfer(world, job, &file, &progress).await {
            Moved::Done(done) => {
                transfers.push(Transfer { direction: "upload".into(), path: target.to, ..done });
            }
            other => return ended(transfers, other),
        }
        sent += target.bytes;
    }
    let count = transfers.len();
    let text = format!("{count} file{} sent to {to}\n", if count == 1 { "" } else { "s" });
    Done { transfers, ..Done::said(Raw::Judged(Vec::new()), text) }
}

/// Fetches a file into the evidence.
pub(super) async fn download(world: &Arc<World>, job: &Job, from: &str, bytes_max: u64) -> Done {
    let folder = match tokio::task::spawn_blocking(tempfile::tempdir).await {
        Ok(Ok(folder)) => folder,
        Ok(Err(error)) => {
            return Done::silent(Raw::NotStarted(local(format!("there is no room for the file here: {error}"))));
        }
        Err(_) => return Done::silent(Raw::NotStarted(local("there is no room for the file here"))),
    };
    let target = folder.path().join("file");
    let progress = world.progress(&job.attempt.cell(), 0, bytes_max);
    let account = job.rendered.account.as_deref();
    let file = File::Down { from, account, bytes_max, target: &target };
    match transfer(world, job, &file, &progress).await {
        Moved::Done(done) => match world.blobs.put_file(&target).await {
            Ok((blob, _)) if blob == done.sha256 => {
                let text = format!("{from}: {} bytes, sha256 {blob}\n", done.bytes);
                let done = Transfer { direction: "download".into(), path: from.into(), blob: Some(blob), ..done };
                Done { transfers: vec![done], ..Done::said(Raw::Judged(Vec::new()), text) }
            }
            Ok(_) => Done::silent(Raw::Judged(vec![format!("{from} was changed here after it had come in whole")])),
            Err(error) => {
                let _ = world.answers.send(crate::world::Message::Fault(format!("a file could not be kept: {error}")));
                Done::silent(Raw::Unknown("it could not be kept".into()))
            }
        },
        other => ended(Vec::new(), other),
    }
}

/// One file, begun again while the connection breaks and there is time.
async fn transfer(world: &Arc<World>, job: &Job, file: &File<'_>, progress: &(dyn Fn(u64) + Send + Sync)) -> Moved {
    let mut pause_ms = PAUSE_MS.0;
    let mut last: Option<String> = None;
    loop {
        let left = time_left(world, job, 0);
        let lost = |last: Option<String>| last.map_or(Moved::Stopped, Moved::Lost);
        if left.is_zero() {
            job.stop.ask(KilledBy::Timeout);
        }
        let work = async {
            let lease = world.sessions.get(&job.host).await?;
            if !world.may_begin().await {
                return Err(taken_over());
            }
            let result = file.go(&lease, progress).await;
            Ok((lease, result))
        };
        let (lease, result) = tokio::select! {
            biased;
            () = job.stop.token().cancelled() => return lost(last),
            () = tokio::time::sleep(left) => {
                job.stop.ask(KilledBy::Timeout);
                return lost(last);
            }
            result = work => match result {
                Ok(result) => result,
                Err(obstacle) if last.is_none() => return Moved::NotStarted(obstacle),
                Err(obstacle) => {
                    last = Some(obstacle.message);
                    job.stop.wait(pause_ms).await;
                    pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
                    continue;
                }
            },
        };
        match result {
            Transferred::Done { sha256, bytes } => {
                return Moved::Done(Transfer {
                    direction: String::new(),
                    path: String::new(),
                    sha256,
                    bytes,
                    blob: None,
                });
            }
            Transferred::Failed(why) => return Moved::Failed(why),
            Transferred::NotStarted(obstacle) => {
                let dead = matches!(obstacle.kind, ObstacleKind::Session | ObstacleKind::Unreachable) && lease.reused;
                world.sessions.lost(lease).await;
                if !dead {
                    return Moved::NotStarted(obstacle);
                }
            }
            Transferred::Lost(why) => {
                last = Some(why);
                world.sessions.lost(lease).await;
                job.stop.wait(pause_ms).await;
                pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
            }
        }
    }
}

/// A transfer that did not come to its end.
fn ended(transfers: Vec<Transfer>, moved: Moved) -> Done {
    let before = transfers.len();
    let raw = match moved {
        Moved::Done(_) => unreachable!("the caller goes on"),
        Moved::Failed(why) => Raw::Judged(vec![why]),
        Moved::NotStarted(obstacle) if before == 0 => Raw::NotStarted(obstacle),
        Moved::NotStarted(obstacle) => {
            Raw::Judged(vec![format!("after {before} files had been put in place: {}", obstacle.message)])
        }
        // Each file is either in place whole or as it was; a temporary file may be left beside it.
        Moved::Stopped => Raw::Unknown("it was stopped in the middle; each file is either whole or as it was".into()),
        Moved::Lost(why) => {
            Raw::Unknown(format!("the connection broke, and each file is either whole or as it was: {why}"))
        }
    };
    Done { transfers, ..Done::silent(raw) }
}

fn joined(to: &str, path: &str) -> String {
    match (path, to.ends_with('/')) {
        ("", _) => to.to_owned(),
        (path, true) => format!("{to}{path}"),
        (path, false) => format!("{to}/{path}"),
    }
}
