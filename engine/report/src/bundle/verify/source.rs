//! A bundle's entries, from a folder or an archive: each is read once, as a stream, and what is looked at again later is
//! kept aside in a temporary file. Memory grows with the number of entries (about 100 bytes each), not with their length;
//! and nobody can change a folder's files between two looks at them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use runbook_model::Sha256;

use super::names::{self, Folders};
use crate::verdict::contents::{Measure, Measured};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// The largest window of a zstd frame that is read (2^24 bytes): what a bundle is packed with needs less, and another
/// could take any amount of memory.
const WINDOW_LOG_MAX: u32 = 24;
/// An archive may unpack to this many times its size; a bomb would to far more. A folder is not limited so.
const RATIO_MAX: u64 = 3_000;
/// Up to here the ratio does not matter.
const RATIO_FREE: u64 = 64 << 20;
/// The most entries.
const ENTRIES_MAX: usize = 20_000_000;

/// Why a bundle, or one of its entries, is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No bundle has such an entry.
    #[error("{}: {why}", shown(.name))]
    Refused {
        /// Its name, as far as it can be shown.
        name: Vec<u8>,
        /// Why.
        why: String,
    },
    /// It is more than this program reads of a bundle.
    #[error("{0}")]
    TooMuch(String),
    /// It cannot be read.
    #[error("{}: {error}", shown(.name))]
    Unreadable {
        /// The entry, or the bundle.
        name: Vec<u8>,
        /// Why.
        error: io::Error,
    },
}

fn shown(name: &[u8]) -> String {
    crate::text::escape_line(&name[..name.len().min(200)])
}

/// An entry's name in lower case: there are many records, proofs and blobs, and their names need no text.
enum Key {
    Record(u64),
    Proof(u64),
    Blob(Sha256),
    Other(Box<str>),
}

impl Key {
    fn of(name: &str) -> Self {
        let number = |start: &str, end: &str| {
            let digits = name.strip_prefix(start)?.strip_suffix(end)?;
            let number: u64 = digits.parse().ok()?;
            // The one way to write it.
            (digits.len() == number.checked_ilog10().unwrap_or_default() as usize + 1).then_some(number)
        };
        let blob = || {
            let digits = name.strip_prefix("blobs/sha256/")?.get(3..)?;
            digits.parse::<Sha256>().ok().filter(|digest| blob_name(digest) == name)
        };
        if let Some(seq) = number("records/", ".json") {
            Key::Record(seq)
        } else if let Some(seq) = number("ledger/proofs/", ".tlog-proof") {
            Key::Proof(seq)
        } else if let Some(digest) = blob() {
            Key::Blob(digest)
        } else {
            Key::Other(name.into())
        }
    }
}

/// What is known of an entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) digest: Sha256,
    pub(super) bytes: u64,
    /// Where it is kept aside, or `NOT_KEPT`; its highest bit says that it was found in the list of files.
    aside: u64,
}

const LISTED: u64 = 1 << 63;
const NOT_KEPT: u64 = LISTED - 1;

impl Entry {
    fn aside(&self) -> Option<u64> {
        Some(self.aside & !LISTED).filter(|at| *at != NOT_KEPT)
    }

    /// It was found in the list of files. Returns whether it had been before.
    pub(super) fn list(&mut self) -> bool {
        let before = self.aside & LISTED != 0;
        self.aside |= LISTED;
        before
    }
}

/// Entries by their names in lower case.
#[derive(Default)]
struct Entries {
    /// Records (`false`) and their proofs (`true`).
    numbered: BTreeMap<(bool, u64), Entry>,
    blobs: BTreeMap<Sha256, Entry>,
    others: BTreeMap<Box<str>, Entry>,
}

impl Entries {
    fn get(&self, key: &Key) -> Option<&Entry> {
        match key {
            Key::Record(seq) => self.numbered.get(&(false, *seq)),
            Key::Proof(seq) => self.numbered.get(&(true, *seq)),
            Key::Blob(digest) => self.blobs.get(digest),
            Key::Other(name) => self.others.get(name),
        }
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        match key {
            Key::Record(seq) => self.numbered.get_mut(&(false, *seq)),
            Key::Proof(seq) => self.numbered.get_mut(&(true, *seq)),
            Key::Blob(digest) => self.blobs.get_mut(digest),
            Key::Other(name) => self.others.get_mut(name),
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        match key {
            Key::Record(seq) => self.numbered.insert((false, seq), entry),
            Key::Proof(seq) => self.numbered.insert((true, seq), entry),
            Key::Blob(digest) => self.blobs.insert(digest, entry),
            Key::Other(name) => self.others.insert(name, entry),
        };
    }

    fn len(&self) -> usize {
        self.numbered.len() + self.blobs.len() + self.others.len()
    }

    fn iter(&self) -> impl Iterator<Item = (String, &Entry)> {
        let numbered = self
            .numbered
            .iter()
            .map(|((is_proof, seq), entry)| (if *is_proof { proof_name(*seq) } else { record_name(*seq) }, entry));
        let blobs = self.blobs.iter().map(|(digest, entry)| (blob_name(digest), entry));
        numbered.chain(blobs).chain(self.others.iter().map(|(name, entry)| (name.to_string(), entry)))
    }
}

/// Which entries are looked at again.
fn is_kept(name: &str) -> bool {
    let kept = ["records/", "ledger/", "trust/", "anchors/", "outputs-redacted/", "purge/", "plan/plan.json"];
    kept.iter().any(|start| name.starts_with(start)) || !name.contains('/')
}

/// The largest file of people that is looked at, as when it is read.
const APPROVAL_BYTES_MAX: u64 = 1 << 20;

/// Whether a content may be an approval, a signature or a file of people, by its beginning.
fn is_of_approvals(beginning: &[u8]) -> bool {
    let people = b"people/v1";
    beginning.starts_with(b"{\"decision\":")
        || beginning.starts_with(b"-----BEGIN SSH SIGNATURE-----")
        || beginning.windows(people.len()).any(|part| part == people)
}

/// The longest entry of its kind; `None`: any length.
fn bytes_max(name: &str) -> Option<u64> {
    let kinds = [
        ("records/", 65_535),
        ("ledger/tile/", 8_192),
        ("ledger/", 1 << 20),
        ("trust/", 16 << 20),
        ("anchors/", 1 << 20),
        ("purge/", 64 << 20),
        ("plan/plan.json", 256 << 20),
        ("SHA256SUMS.sig", 16 * 1024),
    ];
    kinds.iter().find(|(start, _)| name.starts_with(start)).map(|(_, most)| *most)
}

/// A bundle whose entries were all read once.
pub(super) struct Source {
    entries: Entries,
    /// Names that are not in lower case, by what they are in lower case.
    cased: BTreeMap<Box<str>, Box<str>>,
    /// Salted outputs: root and number of segments, by blob.
    outputs: BTreeMap<Sha256, (Sha256, u64)>,
    aside: File,
    /// Bytes of all entries.
    bytes: u64,
}

/// What was found while reading, and how much is read.
struct Reading {
    source: Source,
    folders: Folders,
    bytes_max: u64,
    aside: BufWriter<File>,
    at: u64,
    buffer: Vec<u8>,
}

impl Source {
    /// Reads a bundle's folder or archive, of at most `bytes_max` bytes.
    pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Self, Error> {
        let unreadable = |error| Error::Unreadable { name: path.display().to_string().into_bytes(), error };
        let is_folder = fs::metadata(path).map_err(unreadable)?.is_dir();
        let aside = tempfile::tempfile().map_err(unreadable)?;
        let mut reading = Reading {
            aside: BufWriter::with_capacity(4 * PIECE, aside.try_clone().map_err(unreadable)?),
            source: Self {
                entries: Entries::default(),
                cased: BTreeMap::new(),
                outputs: BTreeMap::new(),
                aside,
                bytes: 0,
            },
            folders: Folders::default(),
            bytes_max,
            at: 0,
            buffer: vec![0; PIECE],
        };
        if is_folder {
            reading.folder(path)?;
        } else {
            reading.archive(File::open(path).map_err(unreadable)?).map_err(|error| match error {
                // Damaged archives are named as a whole: no entry could be read there.
                Error::Unreadable { name, error } if name.is_empty() => unreadable(error),
                other => other,
            })?;
        }
        reading.aside.flush().map_err(unreadable)?;
        let both = reading.folders.lower().find(|folder| reading.source.entries.get(&Key::of(folder)).is_some());
        match both {
            None => Ok(reading.source),
            Some(both) => Err(Error::Refused {
                name: both.as_bytes().to_vec(),
                why: names::Error::Both(both.to_owned()).to_string(),
            }),
        }
    }

    fn key(&self, name: &str) -> Option<Key> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let lower = name.to_ascii_lowercase();
            return self.cased.get(lower.as_str()).filter(|own| ***own == *name).map(|_| Key::of(&lower));
        }
        if self.cased.contains_key(name) { None } else { Some(Key::of(name)) }
    }

    /// An entry by its name.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&self.key(name)?)
    }

    /// An entry by its name, to mark it.
    pub(super) fn entry_mut(&mut self, name: &str) -> Option<&mut Entry> {
        let key = self.key(name)?;
        self.entries.get_mut(&key)
    }

    /// The records, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = u64> {
        self.entries.numbered.keys().map_while(|(is_proof, seq)| (!is_proof).then_some(*seq))
    }

    /// The blobs by their names, and what is known of them.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (&Sha256, &Entry)> {
        self.entries.blobs.iter()
    }

    /// Names of the entries that are neither records, proofs nor blobs, in lower case.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.entries.others.keys().map(AsRef::as_ref)
    }

    /// Names of the entries that were not found in the list of files.
    pub(super) fn not_listed(&self) -> impl Iterator<Item = String> {
        let missing = self.entries.iter().filter(|(_, entry)| entry.aside & LISTED == 0);
        missing.map(|(lower, _)| self.cased.get(lower.as_str()).map_or(lower, |own| own.to_string()))
    }

    /// What was measured of a blob; `None` when it is not in the bundle.
    pub(super) fn blob(&self, digest: &Sha256) -> Option<Measured> {
        let entry = self.entries.blobs.get(digest)?;
        let output = self.outputs.get(&entry.digest).copied();
        Some(Measured { digest: entry.digest, bytes: entry.bytes, output })
    }

    /// Reads an entry that was kept for it, again: the bytes that were hashed.
    pub(super) fn get(&self, name: &str, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let read = self.again(self.entry(name), buffer);
        read.map_err(|error| Error::Unreadable { name: name.as_bytes().to_vec(), error })
    }

    /// Reads a record again.
    pub(super) fn record(&self, seq: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let read = self.again(self.entries.get(&Key::Record(seq)), buffer);
        read.map_err(|error| Error::Unreadable { name: record_name(seq).into_bytes(), error })
    }

    /// Reads a record's own proof again. Returns whether there is one.
    pub(super) fn proof(&self, seq: u64, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(entry) = self.entries.get(&Key::Proof(seq)) else { return Ok(false) };
        let read = self.again(Some(entry), buffer);
        read.map_err(|error| Error::Unreadable { name: proof_name(seq).into_bytes(), error })?;
        Ok(true)
    }

    fn again(&self, entry: Option<&Entry>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let entry = entry.ok_or(io::ErrorKind::NotFound)?;
        let at = entry.aside().ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(entry.bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        buffer.resize(length, 0);
        self.aside.read_exact_at(buffer, at)
    }

    /// Reads an entry again as text.
    pub(super) fn text(&self, name: &str) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.get(name, &mut bytes)?;
        let error = |_| Error::Refused { name: name.as_bytes().to_vec(), why: "it is not text".into() };
        String::from_utf8(bytes).map_err(error)
    }

    /// Reads an entry again from its beginning, as a stream.
    pub(super) fn stream(&self, name: &str) -> Result<impl Read + use<>, Error> {
        let unreadable = |error| Error::Unreadable { name: name.as_bytes().to_vec(), error };
        let missing = || unreadable(io::ErrorKind::NotFound.into());
        let entry = self.entry(name).ok_or_else(missing)?;
        let at = entry.aside().ok_or_else(missing)?;
        let file = self.aside.try_clone().map_err(unreadable)?;
        Ok(BufReader::with_capacity(PIECE, Again { file, at, end: at + entry.bytes }))
    }
}

/// A part of the file of what is kept aside.
struct Again {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Where a record is in a bundle.
pub(super) fn record_name(seq: u64) -> String {
    format!("records/{seq}.json")
}

/// Where a record's own proof is.
pub(super) fn proof_name(seq: u64) -> String {
    format!("ledger/proofs/{seq}.tlog-proof")
}

/// Where a blob is in a bundle.
pub(super) fn blob_name(digest: &Sha256) -> String {
    let digits = digest.to_string();
    format!("blobs/sha256/{}/{digits}", &digits[..2])
}

/// Opens a file that is no link.
fn open(path: &Path) -> io::Result<File> {
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    fs::OpenOptions::new().read(true).custom_flags(no_link).open(path)
}

impl Reading {
    fn folder(&mut self, root: &Path) -> Result<(), Error> {
        let mut open_folders = vec![String::new()];
        while let Some(folder) = open_folders.pop() {
            let unreadable = |error| Error::Unreadable { name: folder.clone().into_bytes(), error };
            for item in fs::read_dir(root.join(&folder)).map_err(unreadable)? {
                let item = item.map_err(unreadable)?;
                let mut name = folder.clone().into_bytes();
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend(item.file_name().as_encoded_bytes());
                let refused = |why: String| Error::Refused { name: name.clone(), why };
                let plain = names::check(&name).map_err(|error| refused(error.to_string()))?;
                let kind = item.file_type().map_err(unreadable)?;
                if kind.is_dir() {
                    open_folders.push(plain.to_owned());
                } else if kind.is_file() {
                    let file = open(&item.path()).map_err(|error| Error::Unreadable { name: name.clone(), error })?;
                    let metadata = file.metadata().map_err(unreadable)?;
                    if !metadata.is_file() {
                        return Err(refused("it is not a plain file".into()));
                    }
                    self.take(plain, metadata.len(), file)?;
                } else {
                    return Err(refused("it is neither a plain file nor a folder".into()));
                }
            }
        }
        Ok(())
    }

    fn archive(&mut self, mut file: File) -> Result<(), Error> {
        let unreadable = |error| Error::Unreadable { name: Vec::new(), error };
        let packed = file.metadata().map_err(unreadable)?.len();
        self.bytes_max = self.bytes_max.min(RATIO_FREE.max(packed.saturating_mul(RATIO_MAX)));
        let mut magic = [0; 4];
        let begun = file.read(&mut magic).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if begun == 4 && magic == [0x28, 0xb5, 0x2f, 0xfd] {
            let mut decoder = zstd::stream::read::Decoder::new(file).map_err(unreadable)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
            self.tar(decoder)
        } else {
            self.tar(io::BufReader::with_capacity(PIECE, file))
        }
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), Error> {
        let unreadable = |error| Error::Unreadable { name: Vec::new(), error };
        let mut archive = tar::Archive::new(reader);
        let mut any = false;
        for entry in archive.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            any = true;
            let name = entry.path_bytes().into_owned();
            let refused = |why: String| Error::Refused { name: name.clone(), why };
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                let folder = name.strip_suffix(b"/").unwrap_or(&name);
                if folder != b"." {
                    names::check(folder).map_err(|error| refused(error.to_string()))?;
                }
                continue;
            }
            if !kind.is_file() {
                return Err(refused("it is neither a plain file nor a folder".into()));
            }
            let plain = name.strip_prefix(b"./").unwrap_or(&name);
            let plain = names::check(plain).map_err(|error| refused(error.to_string()))?.to_owned();
            let length = entry.size();
            self.take(&plain, length, &mut entry)?;
        }
        if !any {
            return Err(unreadable(io::Error::other("it is no archive of a bundle")));
        }
        // Nothing may stand where readers of archives stop reading.
        let mut rest = archive.into_inner();
        loop {
            let length = rest.read(&mut self.buffer).map_err(unreadable)?;
            if length == 0 {
                return Ok(());
            }
            if self.buffer[..length].iter().any(|byte| *byte != 0) {
                let why = "something follows after the end of the archive".into();
                return Err(Error::Refused { name: b"archive".to_vec(), why });
            }
            self.count(length as u64)?;
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        self.source.bytes = self.source.bytes.saturating_add(bytes);
        if self.source.bytes > self.bytes_max {
            return Err(Error::TooMuch(format!(
                "it has more than {} bytes, or far more than its size as an archive: if that is right, unpack it and \
                 verify the folder",
                self.bytes_max
            )));
        }
        Ok(())
    }

    /// Reads one entry.
    fn take(&mut self, name: &str, length: u64, mut content: impl Read) -> Result<(), Error> {
        let refused = |why: String| Error::Refused { name: name.as_bytes().to_vec(), why };
        self.folders.of(name).map_err(|error| refused(error.to_string()))?;
        let is_cased = name.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower: Cow<'_, str> = if is_cased { name.to_ascii_lowercase().into() } else { name.into() };
        let key = Key::of(&lower);
        if self.source.entries.get(&key).is_some() {
            let known = self.source.cased.get(&*lower).map_or_else(|| lower.to_string(), ToString::to_string);
            return Err(refused(names::Error::Taken(known).to_string()));
        }
        if self.folders.has(&lower) {
            return Err(refused(names::Error::Both(lower.into_owned()).to_string()));
        }
        if let Some(most) = bytes_max(name).filter(|most| length > *most) {
            return Err(refused(format!("it has {length} bytes, and at most {most} are read of its kind")));
        }
        if self.source.entries.len() >= ENTRIES_MAX {
            return Err(Error::TooMuch(format!("it has more than {ENTRIES_MAX} entries")));
        }
        let unreadable = |error| Error::Unreadable { name: name.as_bytes().to_vec(), error };
        let blob = name.starts_with("blobs/");
        let mut kept = is_kept(name);
        let aside = self.at;
        let mut measure = if blob { Measure::default() } else { Measure::plain() };
        let mut bytes = 0_u64;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            if read == 0 {
                break;
            }
            // Lists of moved files are looked at again: small blobs that begin as a list does.
            kept |= bytes == 0 && blob && self.buffer[0] == b'[' && length <= super::LIST_BYTES_MAX;
            // And so are approvals, their signatures and who could give them.
            kept |= bytes == 0 && blob && length <= APPROVAL_BYTES_MAX && is_of_approvals(&self.buffer[..read]);
            bytes += read as u64;
            if bytes > length {
                return Err(refused("it is longer than it says".into()));
            }
            self.count(read as u64)?;
            measure.push(&self.buffer[..read]);
            if kept {
                self.aside.write_all(&self.buffer[..read]).map_err(unreadable)?;
                self.at += read as u64;
            }
        }
        if bytes != length {
            return Err(refused("it is shorter than it says".into()));
        }
        let measured = measure.finish();
        if let Some(output) = measured.output {
            self.source.outputs.insert(measured.digest, output);
        }
        if is_cased {
            self.source.cased.insert(lower.as_ref().into(), name.into());
        }
        let aside = if kept { aside } else { NOT_KEPT };
        self.source.entries.insert(key, Entry { digest: measured.digest, bytes, aside });
        Ok(())
    }
}
