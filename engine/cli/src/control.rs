//! How another process of the same account reaches the one that works on a run: a socket in the state's folder.
//!
//! One line is sent and one comes back. `cancel NAME UID` asks it to cancel; `follow` keeps the connection open, and a
//! line comes back whenever records were committed, so that nobody has to look at the store again and again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_model::RunId;
use runbook_model::event::Person;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::project::{Project, make_private};

/// The longest line that is read: a name and a number.
const LINE_MAX: u64 = 1024;

/// The longest path of a socket that every system takes.
const PATH_MAX: usize = 100;

/// What a run's process does when it is asked.
pub(crate) trait Asked: Send + Sync + 'static {
    /// To cancel.
    fn cancel(&self, by: Person);
}

/// Serves a run until dropped; then the socket is gone.
pub(crate) struct Server {
    path: PathBuf,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn socket_path(project: &Project, run: &RunId) -> PathBuf {
    project.state_path("control").join(format!("{run}.sock"))
}

/// A path of at most [`PATH_MAX`] bytes to the same file: through an open folder when the real one is too long.
struct Short {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

fn short(path: &Path) -> std::io::Result<Short> {
    if path.as_os_str().len() <= PATH_MAX {
        return Ok(Short { path: path.to_owned(), _folder: None });
    }
    use std::os::fd::AsRawFd as _;
    let folder = std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(Short { path, _folder: Some(folder) })
}

/// Begins to serve `run`. `committed` changes whenever records were committed, and is closed when the run is over.
pub(crate) fn serve(
    project: &Project,
    run: &RunId,
    asked: Arc<dyn Asked>,
    committed: watch::Receiver<u64>,
) -> Result<Server, Failure> {
    let path = socket_path(project, run);
    let failure = |error: std::io::Error| Failure::file("RB0605", "made", &path, &error);
    make_private(&project.state_path("control"))?;
    // Only the one process that holds the run's lease comes here: a socket that is there is a dead process's.
    let _ = std::fs::remove_file(&path);
    let listener = {
        let short = short(&path).map_err(failure)?;
        UnixListener::bind(&short.path).map_err(failure)?
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failure)?;
    let stop = CancellationToken::new();
    let server = Server { path, stop: stop.clone() };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (asked, committed, stop) = (Arc::clone(&asked), committed.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            _ = answer(stream, asked, committed) => {}
                        }
                    });
                }
            }
        }
    });
    Ok(server)
}

async fn answer(stream: UnixStream, asked: Arc<dyn Asked>, mut committed: watch::Receiver<u64>) -> std::io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    if peer.uid() != own && peer.uid() != 0 {
        return write.write_all(b"refused\n").await;
    }
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX)).read_line(&mut line).await?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["cancel", name, uid] => {
            asked.cancel(Person { name: (*name).to_owned(), uid: uid.parse().unwrap_or(peer.uid()), from: None });
            write.write_all(b"ok\n").await
        }
        ["follow"] => {
            write.write_all(b"ok\n").await?;
            while committed.changed().await.is_ok() {
                let size = *committed.borrow_and_update();
                write.write_all(format!("{size}\n").as_bytes()).await?;
            }
            Ok(())
        }
        _ => write.write_all(b"not understood\n").await,
    }
}

async fn ask(project: &Project, run: &RunId, line: &str) -> std::io::Result<BufReader<UnixStream>> {
    let path = socket_path(project, run);
    let stream = {
        let short = short(&path)?;
        UnixStream::connect(&short.path).await?
    };
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    if answer.trim() != "ok" {
        return Err(std::io::Error::other(format!("the process answered `{}`", answer.trim())));
    }
    Ok(stream)
}

/// Asks the process that works on `run` to cancel it. An error means that no such process answered.
pub(crate) async fn cancel(project: &Project, run: &RunId, by: &Person) -> std::io::Result<()> {
    let name: String = by.name.chars().filter(|c| !c.is_whitespace()).collect();
    ask(project, run, &format!("cancel {name} {}\n", by.uid)).await.map(drop)
}

/// Follows the process that works on `run`.
pub(crate) struct Follow(BufReader<UnixStream>);

/// Begins to follow; an error means that no such process answered.
pub(crate) async fn follow(project: &Project, run: &RunId) -> std::io::Result<Follow> {
    ask(project, run, "follow\n").await.map(Follow)
}

impl Follow {
    /// Waits until records were committed; false when the process has gone.
    pub(crate) async fn changed(&mut self) -> bool {
        let mut line = String::new();
        self.0.read_line(&mut line).await.is_ok_and(|n| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    struct Remember(tokio::sync::mpsc::UnboundedSender<Person>);

    impl Asked for Remember {
        fn cancel(&self, by: Person) {
            let _ = self.0.send(by);
        }
    }

    fn project(root: &Path) -> Project {
        Project { root: Some(root.to_owned()), state: root.join(".runbook"), settings: Settings::default() }
    }

    #[tokio::test]
    async fn a_run_is_cancelled_and_followed_over_its_socket_however_deep_its_folder_is() {
        for depth in [0, 12] {
            let folder = tempfile::tempdir().unwrap();
            let mut root = folder.path().to_owned();
            for _ in 0..depth {
                root.push("a-folder-with-a-long-name");
            }
            std::fs::create_dir_all(root.join(".runbook")).unwrap();
            let project = project(&root);
            let run = RunId::from("0199c1f2-7a10-7cc0-8000-00000000abcd");
            let by = Person { name: "jane".into(), uid: 1000, from: None };
            assert!(cancel(&project, &run, &by).await.is_err(), "nobody serves the run yet");
            let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
            let (committed, receiver) = watch::channel(0);
            let server = serve(&project, &run, Arc::new(Remember(sender)), receiver).unwrap();
            cancel(&project, &run, &by).await.unwrap();
            assert_eq!(asked.recv().await, Some(by.clone()));
            let mut following = follow(&project, &run).await.unwrap();
            committed.send(3).unwrap();
            assert!(following.changed().await);
            drop(committed);
            assert!(!following.changed().await);
            drop(server);
            assert!(cancel(&project, &run, &by).await.is_err(), "the socket went with the server");
        }
    }
}
