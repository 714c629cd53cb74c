//! A file on another disk: a line for each head, appended and synced.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::units::rfc3339_ms;
use runbook_ports::anchor::{Anchor, AnchorError, Receipt, Request, SignedHead};
use serde::{Deserialize, Serialize};

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A file, best on a mount to which this account may append and nothing else. Several ledgers may share one.
///
/// A receipt ([`FileReceipt`]) says which line was appended. That the file's lines stay there is for whoever owns the disk:
/// the copy proves something as long as the one who would rewrite the ledger cannot rewrite it too.
#[derive(Debug, Clone)]
pub struct File {
    /// The anchor's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    schema: String,
    at: String,
    origin: String,
    size: u64,
    root: Sha256,
    note: String,
}

const LINE_SCHEMA: &str = "anchor-line/v1";

/// What is kept of having appended a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReceipt {
    /// `anchor-file/v1`.
    pub schema: String,
    /// The file.
    pub path: PathBuf,
    /// Where the line begins, in bytes.
    pub offset: u64,
    /// When, by this machine's clock.
    pub at: String,
    /// The signed head.
    pub note: String,
}

#[async_trait]
impl Anchor for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "file"
    }

    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError> {
        crate::by(request.within, &self.path.display().to_string(), self.append(&request)).await
    }

    async fn reach(&self, within: Duration) -> Result<String, AnchorError> {
        let path = self.path.clone();
        let look = blocking(move || {
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            match fs::OpenOptions::new().append(true).open(&path) {
                Ok(_) => Ok(format!("{} can be appended to", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
                    Ok(format!("{} is not there yet; its folder is", path.display()))
                }
                Err(error) => Err(AnchorError::Unreachable(format!("{}: {error}", path.display()))),
            }
        });
        crate::by(within, &self.path.display().to_string(), look).await
    }
}

impl File {
    async fn append(&self, request: &Request<'_>) -> Result<Receipt, AnchorError> {
        let head = request.head.clone();
        let (path, origin) = (self.path.clone(), head.origin.clone());
        let last = blocking(move || last_of(&path, &origin)).await?;
        match &last {
            Last::NoFile if request.known > 0 => {
                return Err(AnchorError::Refused(format!(
                    "{} is gone, and it had a head of {} records: is it mounted? Make an empty file there to begin anew",
                    self.path.display(),
                    request.known
                )));
            }
            Last::NoFile | Last::None => {}
            Last::Head { size, root, .. } => {
                let (size, root) = (*size, *root);
                let other = |why: String| Err(AnchorError::OtherHead { size, why });
                if size > head.size {
                    return other(format!("this ledger's head is of {}", head.size));
                }
                let own = match size {
                    size if size == head.size => head.root,
                    size => request.history.root(size).await.map_err(AnchorError::Refused)?,
                };
                if own != root {
                    return other("its root is another one".into());
                }
            }
        }
        let path = self.path.clone();
        let at = rfc3339_ms(request.now_ms);
        let told = format!("written to {}", path.display());
        let receipt = blocking(move || match last {
            Last::Head { size, offset, .. } if size == head.size => Ok((offset, head, at)),
            _ => write(&path, &head, &at).map(|offset| (offset, head, at)).map_err(|error| fault(&path, &error)),
        })
        .await?;
        let (offset, head, at) = receipt;
        let receipt =
            FileReceipt { schema: "anchor-file/v1".into(), path: self.path.clone(), offset, at, note: head.note };
        let bytes = serde_json::to_vec(&receipt).map_err(|error| AnchorError::Refused(error.to_string()))?;
        Ok(Receipt { bytes, told })
    }
}

/// What the file has of a ledger.
enum Last {
    NoFile,
    None,
    /// Its largest head.
    Head {
        size: u64,
        root: Sha256,
        offset: u64,
    },
}

fn last_of(path: &Path, origin: &str) -> Result<Last, AnchorError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Last::NoFile),
        Err(error) => return Err(fault(path, &error)),
    };
    let mut reader = BufReader::new(file);
    let (mut last, mut offset) = (Last::None, 0);
    loop {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        let length = read.map_err(|error| fault(path, &error))? as u64;
        if length == 0 {
            return Ok(last);
        }
        if length == LINE_BYTES_MAX {
            return Err(AnchorError::Refused(format!(
                "{} has a line of more than 1 MiB: it is no such file",
                path.display()
            )));
        }
        // A line that was cut off by a crash is no head, and the next one begins on a line of its own.
        if let Ok(line) = serde_json::from_slice::<Line>(&bytes)
            && line.schema == LINE_SCHEMA
            && line.origin == origin
            && !matches!(last, Last::Head { size, .. } if size > line.size)
        {
            last = Last::Head { size: line.size, root: line.root, offset };
        }
        offset += length;
    }
}

/// Appends the line and syncs it. Returns where it begins.
fn write(path: &Path, head: &SignedHead, at: &str) -> io::Result<u64> {
    let line = Line {
        schema: LINE_SCHEMA.into(),
        at: at.into(),
        origin: head.origin.clone(),
        size: head.size,
        root: head.root,
        note: head.note.clone(),
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    let new = !path.exists();
    let mut file = fs::OpenOptions::new().read(true).append(true).create(true).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    if end > 0 {
        let mut byte = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut byte)?;
        if byte != [b'\n'] {
            text.insert(0, b'\n');
            end += 1;
        }
    }
    file.write_all(&text)?;
    file.sync_all()?;
    if new {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(end)
}

fn fault(path: &Path, error: &io::Error) -> AnchorError {
    AnchorError::Unreachable(format!("{}: {error}", path.display()))
}

/// A disk of somebody else may hang: never in the thread that everything else runs in.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
) -> Result<T, AnchorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(AnchorError::Unreachable(error.to_string())),
    }
}
