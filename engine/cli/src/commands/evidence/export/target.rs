//! Where a bundle is written: a folder, or an archive (`.tar.zst`). It is made beside its place and put there when it is
//! whole and on the disk; what is there already is never touched.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use runbook_ledger::sshsig::Message;
use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_model::units::format_size;
use runbook_report::bundle::{self, Signing};
use runbook_report::text::count;
use rustix::fs::{CWD, RenameFlags};
use tempfile::{NamedTempFile, TempDir};

use crate::failure::{FAULT, Failure};
use crate::output;

/// How hard an archive is packed. Fixed, for the same bundle must be the same bytes.
const LEVEL: i32 = 3;
/// Bytes that are moved at once.
const PIECE: usize = 256 * 1024;
/// How often it is told how far it is, when it takes that long.
const TOLD: Duration = Duration::from_secs(2);
/// What a folder or file is called until it is whole.
const PREFIX: &str = ".runbook-export-";
/// The ending of an archive's name.
const ARCHIVE: &str = ".tar.zst";

/// A bundle that is being written.
pub(super) struct Target {
    /// As it was asked for.
    asked: PathBuf,
    place: PathBuf,
    kind: Kind,
    /// `SHA256SUMS` so far: one line for each file, however many there are.
    sums: File,
    listed: Message,
    listed_sha256: Hasher,
    /// Unix seconds that every file of an archive has.
    time: u64,
    files: u64,
    bytes: u64,
    told: tokio::time::Instant,
    sought: Option<AhoCorasick>,
    /// Files in which something sought was found.
    found: BTreeSet<String>,
}

enum Kind {
    Folder { folder: TempDir, made: PathBuf },
    Archive { file: NamedTempFile, tar: tar::Builder<zstd::Encoder<'static, BufWriter<File>>> },
}

impl Kind {
    /// Writes one file; returns its length. In an archive that must be known.
    fn write(&mut self, name: &str, bytes: Option<u64>, time: u64, content: &mut impl Read) -> io::Result<u64> {
        match self {
            Kind::Folder { folder, made } => {
                let path = folder.path().join(name);
                let parent = path.parent().unwrap_or(&path);
                // Files come folder by folder.
                if *made != parent {
                    fs::create_dir_all(parent)?;
                    parent.clone_into(made);
                }
                copy(content, &mut File::create_new(&path)?)
            }
            Kind::Archive { tar, .. } => {
                let bytes = bytes.ok_or_else(|| io::Error::other("the length must be known in an archive"))?;
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(time);
                header.set_size(bytes);
                let mut counted = Counted { content, bytes: 0 };
                tar.append_data(&mut header, name, &mut counted)?;
                Ok(counted.bytes)
            }
        }
    }

    /// Removes a file of a folder again.
    fn forget(&self, name: &str) -> io::Result<()> {
        match self {
            Kind::Folder { folder, .. } => fs::remove_file(folder.path().join(name)),
            Kind::Archive { .. } => Ok(()),
        }
    }
}

/// Counts what is read through it.
struct Counted<'a, R> {
    content: &'a mut R,
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)?;
        self.bytes += length as u64;
        Ok(length)
    }
}

/// What was written.
pub(super) struct Written {
    pub(super) place: PathBuf,
    pub(super) archive: bool,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Digest of `SHA256SUMS`.
    pub(super) sums: Sha256,
}

impl Target {
    /// Begins a bundle at `asked`: an archive when its name says so, else a folder. Every file of an archive has the time
    /// `time_ms`.
    pub(super) fn begin(asked: &Path, time_ms: u64) -> Result<Self, Failure> {
        let place = std::path::absolute(asked).map_err(|error| cannot(asked, &error))?;
        let name = place.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let archive = name.ends_with(ARCHIVE) && name.len() > ARCHIVE.len();
        let other = [".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".zip", ".zst", ".7z"];
        if !archive && other.iter().any(|ending| name.ends_with(ending)) {
            return Err(Failure::usage("RB0637", format!("{} is no kind of archive that is written", asked.display()))
                .next("give a name that ends with .tar.zst for an archive, or another name for a folder"));
        }
        let parent = place.parent().ok_or_else(|| taken(asked))?;
        if place.symlink_metadata().is_ok() {
            return Err(taken(asked));
        }
        let failed = |error: io::Error| cannot(asked, &error);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        let kind = if archive {
            let file = builder.permissions(Permissions::from_mode(0o666)).tempfile_in(parent).map_err(failed)?;
            let writer = BufWriter::with_capacity(PIECE, file.reopen().map_err(failed)?);
            let mut tar = tar::Builder::new(zstd::Encoder::new(writer, LEVEL).map_err(failed)?);
            tar.mode(tar::HeaderMode::Deterministic);
            Kind::Archive { file, tar }
        } else {
            let folder = builder.permissions(Permissions::from_mode(0o777)).tempdir_in(parent).map_err(failed)?;
            Kind::Folder { folder, made: PathBuf::new() }
        };
        let sums = tempfile::tempfile_in(parent).map_err(failed)?;
        Ok(Self {
            asked: asked.to_owned(),
            place,
            kind,
            sums,
            listed: Message::default(),
            listed_sha256: Hasher::default(),
            time: time_ms / 1_000,
            files: 0,
            bytes: 0,
            told: tokio::time::Instant::now(),
            sought: None,
            found: BTreeSet::new(),
        })
    }

    /// From now on these texts are looked for in every file, as they are and as JSON and HTML would have them. What is found
    /// is told and hinders nothing.
    pub(super) fn look_for(&mut self, texts: Vec<Vec<u8>>) {
        let forms = texts.into_iter().flat_map(|text| {
            let shown = String::from_utf8_lossy(&text).into_owned();
            let json = serde_json::to_string(&shown).unwrap_or_default();
            let json = json.trim_matches('"').as_bytes().to_vec();
            let html = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
            [text, json, html.into_bytes()]
        });
        let forms: BTreeSet<Vec<u8>> = forms.collect();
        if !forms.is_empty() {
            // Too many texts for it would have to be far more than are ever sought.
            self.sought = AhoCorasick::new(forms).ok();
        }
    }

    /// The files in which something sought was found.
    pub(super) fn found(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(String::as_str)
    }

    /// A file for what must be known whole before it can go into the bundle.
    pub(super) fn aside(&self) -> Result<File, Failure> {
        let parent = self.place.parent().unwrap_or(&self.place);
        tempfile::tempfile_in(parent).map_err(|error| self.failed(&error))
    }

    /// Writes a file of the bundle.
    pub(super) fn put(&mut self, name: &str, content: &[u8]) -> Result<Sha256, Failure> {
        let digest = self.write(name, content.len() as u64, &mut &*content, &mut |_| ())?;
        self.list(name, &digest)?;
        Ok(digest)
    }

    /// Whether the length of a file must be known before it is written.
    pub(super) fn is_archive(&self) -> bool {
        matches!(self.kind, Kind::Archive { .. })
    }

    /// Writes a file whose digest is known, from a content that fails at its end when it does not have it. In an archive its
    /// length must be known too. Returns whether it is whole and has that length; one that has not is none of the bundle's
    /// files, and spoils an archive.
    pub(super) fn checked(
        &mut self,
        name: &str,
        digest: &Sha256,
        bytes: Option<u64>,
        mut content: impl Read,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Failure> {
        let mut hashing =
            Hashing { content: &mut content, hasher: None, look, sought: self.sought.as_ref().map(Search::new) };
        let written = self.kind.write(name, bytes, self.time, &mut hashing);
        let found = hashing.sought.as_ref().is_some_and(|search| search.found);
        let written = match written {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.kind.forget(name).map_err(|error| self.failed(&error))?;
                return Ok(false);
            }
            Err(error) => return Err(self.failed(&error)),
        };
        if bytes.is_some_and(|bytes| bytes != written) {
            self.kind.forget(name).map_err(|error| self.failed(&error))?;
            return Ok(false);
        }
        self.wrote(name, written, found);
        self.list(name, digest)?;
        Ok(true)
    }

    /// Writes a file of the bundle from another file, from its beginning; `look` is given each piece of it.
    pub(super) fn stream(
        &mut self,
        name: &str,
        mut content: File,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<Sha256, Failure> {
        let length = content.rewind().and_then(|()| content.metadata()).map_err(|error| self.failed(&error))?.len();
        let digest = self.write(name, length, &mut content, look)?;
        self.list(name, &digest)?;
        Ok(digest)
    }

    /// The two logs of hashes, the list of all files and its signature; then puts the bundle in its place.
    pub(super) fn finish(mut self, signing: &Signing<'_>) -> Result<Written, Failure> {
        let log = self.artifacts()?;
        let digest = self.stream("cmmc/CMMCAssessmentArtifacts.log", log, &mut |_| ())?;
        let of_log = bundle::log_begin() + &bundle::log_line(&digest, "CMMCAssessmentArtifacts.log");
        self.put("cmmc/CMMCAssessmentLogHash.log", of_log.as_bytes())?;

        let mut sums = self.sums.try_clone().map_err(|error| self.failed(&error))?;
        let length = sums.rewind().and_then(|()| sums.metadata()).map_err(|error| self.failed(&error))?.len();
        let listed = self.write("SHA256SUMS", length, &mut sums, &mut |_| ())?;
        let expected = std::mem::take(&mut self.listed_sha256).finish();
        if listed != expected {
            return Err(self.failed(&io::Error::other("the list of files does not read as it was written")));
        }
        let signature = signing.sums(&self.listed).map_err(|error| Failure::new("RB0606", FAULT, error.to_string()))?;
        self.write("SHA256SUMS.sig", signature.len() as u64, &mut signature.as_bytes(), &mut |_| ())?;
        self.settle(listed)
    }

    /// `CMMCAssessmentArtifacts.log` of what is listed so far.
    fn artifacts(&self) -> Result<File, Failure> {
        let failed = |error: io::Error| self.failed(&error);
        let mut sums = self.sums.try_clone().map_err(failed)?;
        sums.rewind().map_err(failed)?;
        let mut log = BufWriter::new(self.aside()?);
        log.write_all(bundle::log_begin().as_bytes()).map_err(failed)?;
        for line in BufReader::new(sums).lines() {
            let line = line.map_err(failed)?;
            let (digest, name) = line.split_once("  ").ok_or_else(|| failed(io::Error::other("a line is cut off")))?;
            let digest = digest.parse().map_err(|error| failed(io::Error::other(error)))?;
            log.write_all(bundle::log_line(&digest, name).as_bytes()).map_err(failed)?;
        }
        log.into_inner().map_err(|error| failed(error.into_error()))
    }

    fn list(&mut self, name: &str, digest: &Sha256) -> Result<(), Failure> {
        let line = bundle::sums_line(digest, name);
        self.listed.update(line.as_bytes());
        self.listed_sha256.update(line.as_bytes());
        self.sums.seek(io::SeekFrom::End(0)).map_err(|error| self.failed(&error))?;
        self.sums.write_all(line.as_bytes()).map_err(|error| self.failed(&error))
    }

    fn write(
        &mut self,
        name: &str,
        length: u64,
        content: &mut dyn Read,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<Sha256, Failure> {
        let sought = self.sought.as_ref().map(Search::new);
        let mut hashing = Hashing { content, hasher: Some(Hasher::default()), look, sought };
        let written = self.kind.write(name, Some(length), self.time, &mut hashing);
        let (digest, found) =
            (hashing.hasher.unwrap_or_default().finish(), hashing.sought.is_some_and(|search| search.found));
        if written.map_err(|error| self.failed(&error))? != length {
            return Err(self.failed(&io::Error::other(format!("{name} changed while it was read"))));
        }
        self.wrote(name, length, found);
        Ok(digest)
    }

    fn wrote(&mut self, name: &str, bytes: u64, found: bool) {
        if found {
            self.found.insert(name.to_owned());
        }
        self.files += 1;
        self.bytes += bytes;
        if self.told.elapsed() >= TOLD {
            self.told = tokio::time::Instant::now();
            output::note(format!("exported: {}, {}", count(self.files as usize, "file"), format_size(self.bytes)));
        }
    }

    /// On the disk, and then in its place.
    fn settle(self, sums: Sha256) -> Result<Written, Failure> {
        let Self { asked, place, kind, files, bytes, .. } = self;
        let failed = |error: io::Error| cannot(&asked, &error);
        let archive = matches!(kind, Kind::Archive { .. });
        match kind {
            Kind::Folder { folder, .. } => {
                // One flush for all files, however many there are.
                let open = File::open(folder.path()).map_err(failed)?;
                rustix::fs::syncfs(&open).map_err(|error| failed(error.into()))?;
                rename(folder.path(), &place).map_err(|error| placed(&asked, &error))?;
                let _ = folder.keep();
            }
            Kind::Archive { file, tar } => {
                let writer = tar.into_inner().and_then(zstd::Encoder::finish).map_err(failed)?;
                let written = writer.into_inner().map_err(|error| failed(error.into_error()))?;
                written.sync_all().map_err(failed)?;
                file.persist_noclobber(&place).map_err(|error| placed(&asked, &error.error))?;
            }
        }
        let parent = place.parent().unwrap_or(&place);
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Written { place, archive, files, bytes, sums })
    }

    pub(super) fn failed(&self, error: &io::Error) -> Failure {
        cannot(&self.asked, error)
    }
}

/// Never onto something that is there. A file system that cannot promise it is asked first.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if to.symlink_metadata().is_err() => {
            fs::rename(from, to)
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        result => Ok(result?),
    }
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                total += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes what is read through it.
struct Hashing<'a> {
    content: &'a mut dyn Read,
    hasher: Option<Hasher>,
    look: &'a mut dyn FnMut(&[u8]),
    sought: Option<Search<'a>>,
}

/// Looks for texts in what comes piece by piece.
struct Search<'a> {
    texts: &'a AhoCorasick,
    /// The end of what came, in which a text may begin.
    open: Vec<u8>,
    found: bool,
}

impl<'a> Search<'a> {
    fn new(texts: &'a AhoCorasick) -> Self {
        Self { texts, open: Vec::new(), found: false }
    }

    fn push(&mut self, piece: &[u8]) {
        if !self.found {
            self.open.extend_from_slice(piece);
            self.found = self.texts.is_match(&self.open);
            let kept = self.texts.max_pattern_len().saturating_sub(1).min(self.open.len());
            self.open.drain(..self.open.len() - kept);
        }
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        (self.look)(&buffer[..length]);
        if let Some(search) = &mut self.sought {
            search.push(&buffer[..length]);
        }
        Ok(length)
    }
}

fn taken(asked: &Path) -> Failure {
    Failure::usage("RB0637", format!("{} is there already", asked.display()))
        .next("give another name with --out: an export never writes over something")
}

fn placed(asked: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AlreadyExists { taken(asked) } else { cannot(asked, error) }
}

fn cannot(asked: &Path, error: &io::Error) -> Failure {
    Failure::new("RB0638", FAULT, format!("the bundle cannot be written to {}: {error}", asked.display()))
        .changed("nothing is left of what was written, and the record was not changed")
        .next("make room, or choose another place with --out")
}
