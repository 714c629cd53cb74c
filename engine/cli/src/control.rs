//! How another process of the same account reaches the one that works on a run: a socket in the state's folder.
//!
//! One line is sent and one comes back. `cancel NAME UID` asks it to cancel; `follow` keeps the connection open, and a
//! line comes back whenever records were committed, so that nobody has to look at the store again and again; `listen` does
//! the same and brings what running steps print, too.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use runbook_model::event::Person;
use runbook_model::{Cell, RunId};
use runbook_ports::transport::Stream;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::hub::{Hub, News, Piece};
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

/// One socket for each process: one that only waits for the run, or is refused, takes nobody else's away.
fn socket_path(project: &Project, run: &RunId, pid: u32) -> PathBuf {
    project.state_path("control").join(format!("{run}.{pid}.sock"))
}

/// Removes the sockets of this run that dead processes have left.
fn sweep(project: &Project, run: &RunId) {
    let beginning = format!("{run}.");
    // What cannot be read or removed is in nobody's way.
    for entry in std::fs::read_dir(project.state_path("control")).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(&beginning));
        let dead = || {
            let asked = short(&path).and_then(|short| std::os::unix::net::UnixStream::connect(&short.path));
            asked.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        if ours && dead() {
            let _ = std::fs::remove_file(&path);
        }
    }
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

/// Begins to serve `run`; `hub` knows what happens in it.
pub(crate) fn serve(project: &Project, run: &RunId, asked: Arc<dyn Asked>, hub: Hub) -> Result<Server, Failure> {
    let path = socket_path(project, run, std::process::id());
    let failure = |error: std::io::Error| Failure::file("RB0605", "made", &path, &error);
    make_private(&project.state_path("control"))?;
    sweep(project, run);
    // One of this process id is a dead process's.
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
                    let (asked, hub, stop) = (Arc::clone(&asked), hub.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            _ = answer(stream, asked, hub) => {}
                        }
                    });
                }
            }
        }
    });
    Ok(server)
}

async fn answer(stream: UnixStream, asked: Arc<dyn Asked>, hub: Hub) -> std::io::Result<()> {
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
        [word @ ("follow" | "listen")] => {
            let (recent, mut news) = hub.listen();
            write.write_all(b"ok\n").await?;
            let output = *word == "listen";
            for news in recent.iter().filter(|_| output) {
                write.write_all(line_of(news).as_bytes()).await?;
            }
            loop {
                let news = match news.recv().await {
                    Ok(News::Output(_)) if !output => continue,
                    Ok(news) => news,
                    Err(RecvError::Lagged(_)) => News::LeftOut,
                    Err(RecvError::Closed) => return Ok(()),
                };
                write.write_all(line_of(&news).as_bytes()).await?;
            }
        }
        _ => write.write_all(b"not understood\n").await,
    }
}

/// News as a line, and back.
fn line_of(news: &News) -> String {
    match news {
        News::Committed => "committed\n".into(),
        News::LeftOut => "left-out\n".into(),
        News::Output(piece) => {
            let stream = if piece.stream == Stream::Stdout { "stdout" } else { "stderr" };
            let bytes = BASE64_STANDARD.encode(&piece.bytes);
            format!("output {} {} {stream} {} {bytes}\n", piece.cell.host, piece.cell.step, piece.from)
        }
    }
}

fn news_of(line: &str) -> Option<News> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["committed"] => Some(News::Committed),
        ["left-out"] => Some(News::LeftOut),
        ["output", host, step, stream, from, bytes] => {
            let cell = Cell { host: (*host).into(), step: (*step).into() };
            let stream = if *stream == "stdout" { Stream::Stdout } else { Stream::Stderr };
            let bytes = BASE64_STANDARD.decode(bytes).ok()?;
            Some(News::Output(Arc::new(Piece { cell, stream, from: from.parse().ok()?, bytes })))
        }
        _ => None,
    }
}

async fn ask(project: &Project, run: &RunId, pid: u32, line: &str) -> std::io::Result<BufReader<UnixStream>> {
    let path = socket_path(project, run, pid);
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

/// Asks process `pid`, which works on `run`, to cancel it. An error means that no such process answered.
pub(crate) async fn cancel(project: &Project, run: &RunId, pid: u32, by: &Person) -> std::io::Result<()> {
    let name: String = by.name.chars().filter(|c| !c.is_whitespace()).collect();
    ask(project, run, pid, &format!("cancel {name} {}\n", by.uid)).await.map(drop)
}

/// What a follower wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// That records were committed.
    Records,
    /// That, and what running steps print.
    Output,
}

/// Follows the process that works on a run.
pub(crate) struct Follow(BufReader<UnixStream>);

/// Begins to follow process `pid`; an error means that no such process answered.
pub(crate) async fn follow(project: &Project, run: &RunId, pid: u32, want: Want) -> std::io::Result<Follow> {
    let line = if want == Want::Output { "listen\n" } else { "follow\n" };
    ask(project, run, pid, line).await.map(Follow)
}

impl Follow {
    /// Waits for news; `None` when the process has gone.
    pub(crate) async fn next(&mut self) -> Option<News> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.ok()?;
        // What a newer version says and this one does not know is still a sign that something happened.
        (read > 0).then(|| news_of(&line).unwrap_or(News::Committed))
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
        Project {
            root: Some(root.to_owned()),
            state: root.join(".runbook"),
            settings: Settings::default(),
            settings_sha256: None,
            answers: Default::default(),
        }
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
            assert!(cancel(&project, &run, std::process::id(), &by).await.is_err(), "nobody serves the run yet");
            let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
            let hub = Hub::new();
            let server = serve(&project, &run, Arc::new(Remember(sender)), hub.clone()).unwrap();
            cancel(&project, &run, std::process::id(), &by).await.unwrap();
            assert_eq!(asked.recv().await, Some(by.clone()));
            let pid = std::process::id();
            let cell = Cell { host: "fs01".into(), step: "upgrade".into() };
            hub.output(&cell, Stream::Stdout, b"earlier\xff\n");
            let mut records = follow(&project, &run, pid, Want::Records).await.unwrap();
            let mut all = follow(&project, &run, pid, Want::Output).await.unwrap();
            hub.output(&cell, Stream::Stderr, b"later");
            hub.committed();
            assert_eq!(records.next().await, Some(News::Committed));
            let piece = |stream, bytes: &[u8]| Piece { cell: cell.clone(), stream, from: 0, bytes: bytes.to_vec() };
            let wanted = [piece(Stream::Stdout, b"earlier\xff\n"), piece(Stream::Stderr, b"later")];
            for wanted in wanted {
                assert_eq!(all.next().await, Some(News::Output(Arc::new(wanted))));
            }
            assert_eq!(all.next().await, Some(News::Committed));
            drop(server);
            assert_eq!(records.next().await, None);
            assert!(cancel(&project, &run, std::process::id(), &by).await.is_err(), "the socket went with the server");
        }
    }
}
