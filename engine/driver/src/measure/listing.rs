//! Reads what the scripts print, as it comes.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::Sha256;

/// One path as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `file`, `dir`, `link` or `other`.
    pub kind: &'static str,
    /// Octal, four digits at least.
    pub mode: String,
    /// Name or number.
    pub owner: String,
    /// Name or number.
    pub group: String,
    /// A link's target.
    pub target: String,
    /// The name's bytes, when they are not UTF-8.
    pub raw: Option<Vec<u8>>,
    /// What tells a changed file from an unchanged one.
    pub meta: Meta,
    /// Beyond the permission bits.
    pub acl: Option<String>,
}

/// What tells a changed file from an unchanged one without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Length.
    pub bytes: u64,
    mtime: String,
    ctime: String,
    inode: String,
}

impl Meta {
    /// When anything about it was last changed, in Unix seconds by the host's clock.
    pub fn ctime_s(&self) -> u64 {
        let seconds = self.ctime.split('.').next().unwrap_or_default();
        seconds.parse().unwrap_or(u64::MAX - 1)
    }
}

/// The list, while it comes and when it is whole.
#[derive(Debug, Default)]
pub struct Listing {
    /// The host's clock at its beginning.
    pub time_s: u64,
    /// By path.
    pub paths: BTreeMap<String, Listed>,
    /// Access control lists could be read.
    pub acl: bool,
    /// Services that run and are meant to (not started by a timer, a bus or a login), when the host can tell.
    pub services: Option<BTreeSet<String>>,
    record: Vec<u8>,
    half: Option<(String, Listed)>,
    whole: bool,
    paths_max: usize,
    strange: Option<String>,
}

impl Listing {
    /// Takes at most `paths_max` paths.
    pub fn new(paths_max: usize) -> Self {
        Self { paths_max, ..Self::default() }
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            self.record.extend_from_slice(&rest[..end]);
            let record = std::mem::take(&mut self.record);
            self.record(&record);
            rest = &rest[end + 1..];
        }
        self.record.extend_from_slice(rest);
    }

    /// The end.
    ///
    /// # Errors
    /// When it is not whole, with the reason.
    pub fn finish(self) -> Result<Self, String> {
        match &self.strange {
            Some(strange) => Err(strange.clone()),
            None if !self.whole => Err("the list of paths was cut off".into()),
            None => Ok(self),
        }
    }

    fn record(&mut self, record: &[u8]) {
        if let Some((path, mut listed)) = self.half.take() {
            listed.target = lossless(record);
            if self.paths.len() >= self.paths_max {
                self.strange = Some(format!("there are more than {} paths", self.paths_max));
                return;
            }
            self.paths.insert(path, listed);
            return;
        }
        let text = lossless(record);
        if let Some(time) = text.strip_prefix("@time ") {
            self.time_s = time.parse().unwrap_or(0);
        } else if let Some(acls) = text.strip_prefix("@acl\n") {
            self.acl = true;
            self.acls(acls);
        } else if let Some(units) = text.strip_prefix("@services\n") {
            self.services = Some(services(units));
        } else if text == "@end" {
            self.whole = true;
        } else {
            match path(&text) {
                Some((path, mut listed)) => {
                    if std::str::from_utf8(record).is_err() {
                        listed.raw = record.splitn(9, |byte| *byte == b'\t').nth(8).map(<[u8]>::to_vec);
                    }
                    self.half = Some((path, listed));
                }
                None => self.strange = Some(format!("the list of paths has a record that makes no sense: {text:?}")),
            }
        }
    }

    /// Blocks of lines, each begun by `# file: NAME`.
    fn acls(&mut self, text: &str) {
        for block in text.split("\n\n") {
            let mut lines = block.lines().skip_while(|line| !line.starts_with("# file: "));
            let Some(name) = lines.next().and_then(|line| line.strip_prefix("# file: ")) else {
                continue;
            };
            let entries: Vec<&str> = lines.filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
            if let Some(listed) = self.paths.get_mut(&unescaped(name))
                && !entries.is_empty()
            {
                listed.acl = Some(entries.join(","));
            }
        }
    }
}

/// Text as it is; bytes that are not UTF-8 as `\xNN`, so that two names never become one.
fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn path(text: &str) -> Option<(String, Listed)> {
    let mut fields = text.splitn(9, '\t');
    let mut next = || fields.next();
    let kind = kind(next()?)?;
    let mode = next()?;
    let (owner, group) = (next()?.to_owned(), next()?.to_owned());
    let meta = Meta {
        bytes: next()?.parse().ok()?,
        mtime: next()?.to_owned(),
        ctime: next()?.to_owned(),
        inode: next()?.to_owned(),
    };
    let path = next()?;
    // `/x/` and `/x` are the same; so is what is found below a link to a folder.
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let listed =
        Listed { kind, mode: format!("{mode:0>4}"), owner, group, target: String::new(), raw: None, meta, acl: None };
    Some((path.to_owned(), listed))
}

/// A letter as find writes it, or the whole mode in hexadecimal as stat does.
fn kind(text: &str) -> Option<&'static str> {
    Some(match text {
        "f" => "file",
        "d" => "dir",
        "l" => "link",
        letter if letter.len() == 1 => "other",
        mode => match u32::from_str_radix(mode, 16).ok()? & 0o170_000 {
            0o100_000 => "file",
            0o040_000 => "dir",
            0o120_000 => "link",
            _ => "other",
        },
    })
}

/// getfacl writes bytes that could be mistaken as `\NNN`.
fn unescaped(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if bytes[i] == b'\\' => {
                out.push(byte);
                i += 4;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    lossless(&out)
}

/// Of the services that run, those that somebody switched on: what a timer, a bus name or a login starts and ends by
/// itself says nothing about a change.
fn services(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for block in text.split("\n\n") {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let meant = !matches!(value("UnitFileState"), Some("static" | "transient" | "alias" | "") | None);
        if let Some(id) = value("Id").filter(|_| meant) {
            found.insert(id.to_owned());
        }
    }
    found
}

/// `sha256sum`'s lines.
#[derive(Debug, Default)]
pub struct Digests {
    line: Vec<u8>,
    by_path: BTreeMap<String, Sha256>,
}

impl Digests {
    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.line);
            self.line(&line);
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
    }

    /// By path.
    pub fn finish(self) -> BTreeMap<String, Sha256> {
        self.by_path
    }

    fn line(&mut self, line: &[u8]) {
        // A leading `\` says that `\n`, `\r` and `\\` in the name are escapes.
        let (escaped, line) = match line.strip_prefix(b"\\") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let Some((digest, name)) = line.split_at_checked(64) else {
            return;
        };
        let digest = std::str::from_utf8(digest).ok().and_then(|digits| digits.parse().ok());
        let name = name.strip_prefix(b"  ").or_else(|| name.strip_prefix(b" *"));
        if let (Some(digest), Some(name)) = (digest, name) {
            let name = if escaped { lossless(&plain_name(name)) } else { lossless(name) };
            self.by_path.insert(name, digest);
        }
    }
}

fn plain_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        (rest, out) = match (byte, tail) {
            (b'\\', [b'n', tail @ ..]) => (tail, with(out, b'\n')),
            (b'\\', [b'r', tail @ ..]) => (tail, with(out, b'\r')),
            (b'\\', [b'\\', tail @ ..]) => (tail, with(out, b'\\')),
            _ => (tail, with(out, *byte)),
        };
    }
    out
}

fn with(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}
