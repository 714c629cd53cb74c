//! Masks secrets by value in a stream of bytes.
//!
//! A value is found raw, line by line when it has several lines, in base64 (standard and URL alphabet, at each of the
//! three places at which it can stand in a group), percent-encoded, escaped as in JSON, in HTML and XML, quoted as shells do
//! when they trace, in hexadecimal digits, and as UTF-16. What comes out does not depend on how the stream was cut into
//! reads: as many bytes are held back as the longest pattern has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, packed};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use runbook_ports::SecretBytes;
use zeroize::Zeroizing;

/// What stands in the place of a secret.
pub const MASKED: &[u8] = b"***";

/// Lines of a secret with several lines are masked one by one when they are at least so long: shorter ones (`}`, an
/// empty one) are in every output.
const LINE_BYTES_MIN: usize = 8;

/// In hexadecimal digits a value is masked when it has so many bytes: what is shorter stands in every digest by chance.
const HEX_BYTES_MIN: usize = 6;

/// Base64 of a value, or of one line of it, that is no longer is found although its writer broke it into lines (`base64`
/// after 76 characters, PEM after 64). All that a pattern can be long, line ends included, is held back of a stream.
const WRAPPED_BYTES_MAX: usize = 4_096;

/// So many bytes of a form are searched for; the rest is compared where they are found.
const SOUGHT_BYTES: usize = 16;

/// Where something was found, so many bytes are searched without haste.
const STRETCH: usize = 4_096;

/// What a value looks like, and whether line ends may stand between its characters.
type Forms = BTreeMap<Vec<u8>, bool>;

/// The patterns of a set of secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Mask {
    patterns: Option<Arc<Patterns>>,
}

struct Patterns {
    /// In what is read as it is.
    plain: Option<Sought>,
    /// In what is read with its line ends left out.
    wrapped: Option<Sought>,
    bytes_max: usize,
}

/// Forms that are searched for together, by their beginnings.
struct Sought {
    beginnings: AhoCorasick,
    /// The same, many times as fast where nothing is found; `None` for so many that it would not be.
    first: Option<packed::Searcher>,
    /// For each beginning the forms that have it, the longest first; in the order of the beginnings.
    forms: Vec<Vec<Zeroizing<Vec<u8>>>>,
}

impl Sought {
    /// `None` without any form.
    fn new(forms: impl Iterator<Item = Zeroizing<Vec<u8>>>) -> Option<Self> {
        let mut of_beginning: BTreeMap<Vec<u8>, Vec<Zeroizing<Vec<u8>>>> = BTreeMap::new();
        for form in forms {
            let beginning = form[..form.len().min(SOUGHT_BYTES)].to_vec();
            of_beginning.entry(beginning).or_default().push(form);
        }
        if of_beginning.is_empty() {
            return None;
        }
        let beginnings =
            AhoCorasick::new(of_beginning.keys()).expect("no more beginnings than a machine has memory for");
        let first = packed::Searcher::new(of_beginning.keys());
        let forms = of_beginning.into_values().map(|mut forms| {
            forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
            forms
        });
        Some(Self { beginnings, first, forms: forms.collect() })
    }

    fn may_go_on(&self, end: &[u8]) -> bool {
        let beginning = &end[..end.len().min(SOUGHT_BYTES)];
        let from = self.forms.partition_point(|forms| forms[0].as_slice() < beginning);
        let begin_so = self.forms[from..].iter().take_while(|forms| forms[0].starts_with(beginning));
        begin_so.flatten().any(|form| form.len() > end.len() && form.starts_with(end))
    }

    /// Where forms may begin: the place, and the forms. A place may come twice.
    fn hits<'s>(&'s self, text: &'s [u8]) -> impl Iterator<Item = (usize, &'s [Zeroizing<Vec<u8>>])> {
        let mut place = 0;
        let stretches = std::iter::from_fn(move || {
            // The first of all is found fast where there is none. Others may overlap it.
            let rest = &text[place..];
            let first = self.first.as_ref().map_or_else(|| self.beginnings.find(rest), |first| first.find(rest))?;
            let begin = (place + first.end()).saturating_sub(SOUGHT_BYTES);
            let end = text.len().min(begin + STRETCH);
            place = if end == text.len() { end } else { end - SOUGHT_BYTES };
            Some(begin..end)
        });
        stretches.flat_map(move |stretch| {
            let hits = self.beginnings.find_overlapping_iter(&text[stretch.clone()]);
            hits.map(move |hit| (stretch.start + hit.start(), self.forms[hit.pattern()].as_slice()))
        })
    }
}

impl Patterns {
    /// Where secrets stand that begin before `safe`, in the order of their beginnings.
    fn find(&self, buffer: &[u8], safe: usize) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if let Some(plain) = &self.plain {
            let text = &buffer[..buffer.len().min(safe + SOUGHT_BYTES)];
            for (start, forms) in plain.hits(text).filter(|(start, _)| *start < safe) {
                let form = forms.iter().find(|form| buffer[start..].starts_with(form));
                found.extend(form.map(|form| start..start + form.len()));
            }
        }
        if let Some(wrapped) = &self.wrapped {
            let (text, lines) = unwrapped(&buffer[..buffer.len().min(safe + SOUGHT_BYTES * 3)]);
            for (at, forms) in wrapped.hits(&text) {
                let line = lines.partition_point(|(begin, _)| *begin <= at) - 1;
                let start = lines[line].1 + (at - lines[line].0);
                if start < safe {
                    let length = forms.iter().find_map(|form| wrapped_length(&buffer[start..], form));
                    found.extend(length.map(|length| start..start + length));
                }
            }
        }
        found.sort_unstable_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        found
    }

    /// Whether a form begins with `end`, and goes on.
    fn may_go_on(&self, end: &[u8]) -> bool {
        [&self.plain, &self.wrapped].into_iter().flatten().any(|sought| sought.may_go_on(end))
    }
}

/// Length of a line end at the beginning of `text`; 0: there is none.
fn line_end(text: &[u8]) -> usize {
    match text {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    }
}

/// The text without line ends, but for those right after another; and of each line where it begins there and where in
/// `text`.
fn unwrapped(text: &[u8]) -> (Zeroizing<Vec<u8>>, Vec<(usize, usize)>) {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut lines = vec![(0, 0)];
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        let begin = if end > from && text[end - 1] == b'\r' { end - 1 } else { end };
        if begin > from {
            out.extend_from_slice(&text[from..begin]);
            from = end + 1;
            lines.push((out.len(), from));
        }
    }
    out.extend_from_slice(&text[from..]);
    (out, lines)
}

/// How long `form` is where it begins `text` with a line end, at most, between any two of its characters; `None`: it does
/// not begin it.
fn wrapped_length(text: &[u8], form: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (no, byte) in form.iter().enumerate() {
        if no > 0 {
            at += line_end(&text[at..]);
        }
        if text.get(at) != Some(byte) {
            return None;
        }
        at += 1;
    }
    Some(at)
}

impl Mask {
    /// Patterns for all these values. Empty values are passed over.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        let mut forms = Forms::new();
        for secret in secrets {
            add_forms(secret.expose(), &mut forms);
        }
        // Between two characters CR and LF at most.
        let longest = |(form, wraps): (&Vec<u8>, &bool)| if *wraps { form.len() * 3 } else { form.len() };
        let bytes_max = forms.iter().map(longest).max().unwrap_or_default();
        let (wrapped, plain): (Vec<_>, Vec<_>) = forms.into_iter().partition(|(_, wraps)| *wraps);
        let of = |forms: Vec<(Vec<u8>, bool)>| Sought::new(forms.into_iter().map(|(form, _)| Zeroizing::new(form)));
        let patterns = Patterns { plain: of(plain), wrapped: of(wrapped), bytes_max };
        Self { patterns: (bytes_max > 0).then(|| Arc::new(patterns)) }
    }

    /// A masker for one stream.
    pub fn stream(&self) -> Masker {
        Masker { mask: self.clone(), buffer: Zeroizing::default(), masked_until: 0, emitted: 0, masked: 0 }
    }

    /// A whole text at once.
    pub fn text(&self, text: &str) -> String {
        let mut masker = self.stream();
        let mut out = Vec::new();
        masker.push(text.as_bytes(), &mut out);
        masker.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Masks one stream.
pub struct Masker {
    mask: Mask,
    /// Bytes about which nothing is decided yet.
    buffer: Zeroizing<Vec<u8>>,
    /// Up to here (in `buffer`) a secret reaches whose mask is already written.
    masked_until: usize,
    /// Up to here (in `buffer`) plain bytes are already written.
    emitted: usize,
    masked: u32,
}

impl Masker {
    /// Adds what was read; what is decided is appended to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(patterns) = self.mask.patterns.clone() else {
            out.extend_from_slice(bytes);
            return;
        };
        self.buffer.extend_from_slice(bytes);
        // At a place before `safe` every pattern would fit into the buffer, so whether one is there is known.
        let safe = (self.buffer.len() + 1).saturating_sub(patterns.bytes_max);
        self.decide(&patterns, safe, out);
        self.buffer.drain(..safe);
        self.masked_until = self.masked_until.saturating_sub(safe);
        self.emitted = 0;
    }

    /// The end: what was held back is appended to `out`. Says how often a secret was masked.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u32 {
        if let Some(patterns) = self.mask.patterns.clone() {
            let all = self.buffer.len();
            self.decide(&patterns, all, out);
        }
        self.masked
    }

    /// The same of a stream that was cut off: an end of it with which a secret may have begun is masked too.
    pub fn finish_cut_off(mut self, out: &mut Vec<u8>) -> u32 {
        if let Some(patterns) = self.mask.patterns.clone() {
            let all = self.buffer.len();
            let from = (0..all).find(|at| patterns.may_go_on(&self.buffer[*at..])).unwrap_or(all);
            self.decide(&patterns, from, out);
            if from < all && from >= self.masked_until {
                out.extend_from_slice(MASKED);
                self.masked = self.masked.saturating_add(1);
            }
        }
        self.masked
    }

    fn decide(&mut self, patterns: &Patterns, safe: usize, out: &mut Vec<u8>) {
        for Range { start, end } in patterns.find(&self.buffer, safe) {
            // One that overlaps the last is covered by the same mask.
            if start >= self.masked_until {
                self.emit(start, out);
                out.extend_from_slice(MASKED);
                self.masked = self.masked.saturating_add(1);
            }
            self.masked_until = self.masked_until.max(end);
        }
        self.emit(safe, out);
    }

    fn emit(&mut self, to: usize, out: &mut Vec<u8>) {
        let from = self.emitted.max(self.masked_until.min(self.buffer.len()));
        if from < to {
            out.extend_from_slice(&self.buffer[from..to]);
        }
        self.emitted = self.emitted.max(to);
    }
}

fn add_forms(value: &[u8], forms: &mut Forms) {
    if value.is_empty() {
        return;
    }
    add_encodings(value, forms);
    let lines = value.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.filter(|line| line.len() >= LINE_BYTES_MIN && line.len() < value.len()) {
        add_encodings(line, forms);
    }
}

fn add_encodings(value: &[u8], forms: &mut Forms) {
    forms.entry(value.to_vec()).or_default();
    let wraps = value.len() <= WRAPPED_BYTES_MAX;
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, GeneralPurposeConfig::new().with_encode_padding(false));
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.extend_from_slice(value);
            let text = Zeroizing::new(engine.encode(&*bytes).into_bytes());
            // Characters that also hold bits of what stands before or after the value are not its own.
            let first = (before * 8).div_ceil(6);
            let last = bytes.len() * 8 / 6;
            // A piece of fewer than four characters says too little to be told from chance.
            if last >= first + 4 {
                forms.insert(text[first..last].to_vec(), wraps);
                // Where nothing comes after the value, the last character holds nothing but the rest of it.
                forms.insert(text[first..].to_vec(), wraps);
            }
        }
    }
    if value.len() >= HEX_BYTES_MIN {
        let digits = Zeroizing::new(hex(value));
        // As one number, and byte by byte: `od -An -tx1`, fingerprints.
        for between in ["", " ", ":"] {
            let bytes: Vec<&str> = (0..value.len()).map(|at| &digits[at * 2..at * 2 + 2]).collect();
            let digits = Zeroizing::new(bytes.join(between));
            forms.entry(digits.to_ascii_uppercase().into_bytes()).or_default();
            forms.entry(digits.as_bytes().to_vec()).or_default();
        }
    }
    for (lower, space) in [(false, "%20"), (true, "%20"), (false, "+"), (true, "+")] {
        forms.entry(percent_encoded(value, lower, space, false)).or_default();
        forms.entry(percent_encoded(value, lower, space, true)).or_default();
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let json = Zeroizing::new(serde_json::to_string(text).expect("text is representable as JSON"));
        let inner = &json[1..json.len() - 1];
        // Some writers escape `/`, some everything that is not ASCII, some what HTML could take for syntax.
        let html = inner.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
        for inner in [inner, &html] {
            for inner in [inner.to_owned(), inner.replace('/', "\\/")] {
                let inner = Zeroizing::new(inner);
                forms.entry(inner.as_bytes().to_vec()).or_default();
                forms.entry(escaped_ascii(&inner, false).into_bytes()).or_default();
                forms.entry(escaped_ascii(&inner, true).into_bytes()).or_default();
            }
        }
        // `set -x` of bash and of dash, where a value has a quote in it.
        for quote in ["'\\''", "'\"'\"'"] {
            forms.entry(text.replace('\'', quote).into_bytes()).or_default();
        }
        forms.entry(text.encode_utf16().flat_map(u16::to_le_bytes).collect()).or_default();
        forms.entry(text.encode_utf16().flat_map(u16::to_be_bytes).collect()).or_default();
        // HTML and XML: some writers leave quotes as they are outside of attributes.
        let markup = Zeroizing::new(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
        forms.entry(markup.as_bytes().to_vec()).or_default();
        let markup = Zeroizing::new(markup.replace('"', "&quot;"));
        for apostrophe in ["'", "&#39;", "&#x27;", "&apos;"] {
            forms.entry(markup.replace('\'', apostrophe).into_bytes()).or_default();
        }
    }
}

fn hex(value: &[u8]) -> String {
    value.iter().fold(String::with_capacity(value.len() * 2), |mut digits, byte| {
        digits.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).expect("below 16")));
        digits
    })
}

/// With `path`, `/` stays as it is, as in the path of a URL.
fn percent_encoded(value: &[u8], lower: bool, space: &str, path: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 3);
    for byte in value {
        match byte {
            b' ' => out.extend_from_slice(space.as_bytes()),
            b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            b'/' if path => out.push(*byte),
            _ if byte.is_ascii_alphanumeric() => out.push(*byte),
            _ if lower => out.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

fn escaped_ascii(text: &str, upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(mask: &Mask, pieces: &[&[u8]]) -> (Vec<u8>, u32) {
        let mut masker = mask.stream();
        let mut out = Vec::new();
        for piece in pieces {
            masker.push(piece, &mut out);
        }
        let count = masker.finish(&mut out);
        (out, count)
    }

    fn mask(values: &[&str]) -> Mask {
        let values: Vec<SecretBytes> = values.iter().map(|value| SecretBytes::from(*value)).collect();
        Mask::new(&values)
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_stream_that_was_cut_off_is_masked() {
        let mask = mask(&["s3cret-word", "word-of-mine"]);
        for (text, shown, count) in [
            ("a s3cret-w", "a ***", 1),
            ("a s3cret-word", "a ***", 1),
            // The second begins in the first.
            ("a s3cret-word-of", "a ***", 1),
            ("s3cret-word, s3cr", "***, ***", 2),
            ("plain", "plain", 0),
            ("", "", 0),
        ] {
            for cut in 0..=text.len() {
                let mut masker = mask.stream();
                let mut out = Vec::new();
                masker.push(&text.as_bytes()[..cut], &mut out);
                masker.push(&text.as_bytes()[cut..], &mut out);
                let masked = masker.finish_cut_off(&mut out);
                assert_eq!((String::from_utf8(out).unwrap().as_str(), masked), (shown, count), "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn every_encoding_of_a_secret_is_masked() {
        let secret = "s3cr/t \"Pä$$\\w";
        let mask = mask(&[secret]);
        let b64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        for shown in [
            secret.to_owned(),
            b64(secret.into()),
            b64(format!("{secret}!")),
            b64(format!("u:{secret}")),
            b64(format!("x{secret}yz")),
            "s3cr%2Ft%20%22P%C3%A4%24%24%5Cw".into(),
            "s3cr%2ft+%22P%c3%a4%24%24%5cw".into(),
            serde_json::to_string(secret).unwrap(),
            "s3cr\\/t \\\"P\\u00e4$$\\\\w".into(),
            "s3cr/t &quot;Pä$$\\w".into(),
        ] {
            let (out, count) = masked(&mask, &[b"<", shown.as_bytes(), b">"]);
            let out = String::from_utf8(out).unwrap();
            assert!(out.contains("***") && count == 1, "{shown} gave {out}");
            assert!(!out.contains("cr") && !out.contains("P"), "{shown} gave {out}");
        }
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let wide: Vec<u8> = secret.encode_utf16().flat_map(bytes).collect();
            assert_eq!(masked(&mask, &[&wide]), (b"***".to_vec(), 1));
        }
    }

    #[test]
    fn base64_that_is_broken_into_lines_is_masked_wherever_it_breaks() {
        let secret = "a-token-that-is-longer-than-one-line-of-base64-has-room-for-0123456789";
        let key = format!("-----BEGIN KEY-----\n{}\n{}\n-----END KEY-----", "Q7x".repeat(21), "z0Y".repeat(21));
        for (value, columns, end) in [(secret, 76, "\n"), (secret, 64, "\r\n"), (&key, 76, "\n"), (secret, 8, "\n")] {
            let mask = mask(&[value]);
            for before in ["", "user:", "a longer text before it, so that it breaks elsewhere "] {
                let text = base64::engine::general_purpose::STANDARD.encode(format!("{before}{value}"));
                let lines: Vec<&str> =
                    text.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).unwrap()).collect();
                let text = lines.join(end);
                let whole = masked(&mask, &[text.as_bytes()]);
                let shown = String::from_utf8(whole.0.clone()).unwrap();
                // Of the text before it, and of short lines between, some characters remain.
                let left: usize = shown.bytes().filter(u8::is_ascii_alphanumeric).count();
                assert!(left <= before.len() * 4 / 3 + 12, "{value} after {before:?} gave {shown}");
                for cut in 0..text.len() {
                    assert_eq!(masked(&mask, &[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]), whole, "at {cut}");
                }
            }
        }
    }

    #[test]
    fn digits_and_quotes_of_traces_hide_nothing() {
        let mask = mask(&["it's-s3cret", "abc"]);
        for shown in [
            "697427732d733363726574",
            "697427732D733363726574",
            "69 74 27 73 2d 73 33 63 72 65 74",
            "69:74:27:73:2D:73:33:63:72:65:74",
            r"'it'\''s-s3cret'",
            r#"'it'"'"'s-s3cret'"#,
            "it&#39;s-s3cret",
            "it&apos;s-s3cret",
        ] {
            let (out, count) = masked(&mask, &[shown.as_bytes()]);
            let out = String::from_utf8(out).unwrap();
            assert!(count == 1 && out.trim_matches('\'') == "***", "{shown} gave {out}");
        }
        assert_eq!(masked(&mask, &[b"616263"]).1, 0, "six digits are in every digest");
    }

    #[test]
    fn no_character_of_an_encoded_secret_is_left_at_its_end() {
        let (out, _) = masked(&mask(&["swordfish1"]), &[b"c3dvcmRmaXNoMQ==\n"]);
        assert_eq!(out, b"***==\n");
    }

    #[test]
    fn overlapping_secrets_leave_nothing_of_either() {
        assert_eq!(masked(&mask(&["abcd", "cdef"]), &[b"xabcdefx"]), (b"x***x".to_vec(), 1));
        assert_eq!(masked(&mask(&["aa"]), &[b"aaa", b"aa", b"b"]), (b"***b".to_vec(), 1));
    }

    #[test]
    fn lines_of_a_key_are_masked_one_by_one() {
        let mask = mask(&["-----BEGIN KEY-----\nMIIabcdefgh\nx\n-----END KEY-----"]);
        let (out, count) = masked(&mask, &[b"key: MIIabcdefgh x"]);
        assert_eq!((out.as_slice(), count), (&b"key: *** x"[..], 1));
    }

    #[test]
    fn line_ends_count_one_by_one_between_the_characters_of_base64_and_nowhere_else() {
        let mask = mask(&["correct horse battery staple"]);
        let text = base64::engine::general_purpose::STANDARD.encode("correct horse battery staple");
        let broken =
            |end: &str| text.as_bytes().iter().map(|byte| format!("{}{end}", char::from(*byte))).collect::<String>();
        for (shown, count) in
            [(broken(""), 1), (broken("\n"), 1), (broken("\r\n"), 1), (broken("\n\n"), 0), (broken("\r"), 0)]
        {
            let whole = masked(&mask, &[shown.as_bytes()]);
            assert_eq!(whole.1, count, "{shown:?}");
            let bytes: Vec<&[u8]> = shown.as_bytes().chunks(1).collect();
            assert_eq!(masked(&mask, &bytes), whole, "{shown:?}");
        }
        assert_eq!(masked(&mask, &[b"correct horse\n battery staple"]).1, 0);
    }

    #[test]
    fn without_secrets_nothing_is_held_back() {
        let mut out = Vec::new();
        mask(&[""]).stream().push(b"abc", &mut out);
        assert_eq!(out, b"abc");
    }

    proptest! {
        #[test]
        fn cuts_between_reads_change_nothing(
            secrets in prop::collection::vec("[ab]{1,5}|[ab]{14,24}", 1..4),
            pieces in prop::collection::vec((any::<prop::sample::Index>(), 0usize..24, 1usize..25, "[abc]{0,6}"), 0..8),
            cuts in prop::collection::vec(0usize..120, 0..10),
        ) {
            let values: Vec<SecretBytes> = secrets.iter().map(|s| SecretBytes::from(s.as_str())).collect();
            let mask = Mask::new(&values);
            // Whole secrets, parts of them, and what looks like them.
            let text: String = pieces.iter().fold(String::new(), |text, (which, from, length, more)| {
                let secret = which.get(&secrets);
                let from = (*from).min(secret.len() - 1) * usize::from(from % 3 == 0);
                text + &secret[from..(from + length).min(secret.len())] + more
            });
            let whole = masked(&mask, &[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(&masked(&mask, &pieces), &whole);
            // The oracle: a byte stays exactly when no occurrence of any secret covers it.
            let mut covered = vec![false; text.len()];
            for secret in &secrets {
                for start in 0..text.len() {
                    if text[start..].starts_with(secret.as_str()) {
                        covered[start..start + secret.len()].fill(true);
                    }
                }
            }
            let plain: Vec<u8> =
                text.bytes().zip(&covered).filter(|(_, covered)| !**covered).map(|(byte, _)| byte).collect();
            let left: Vec<u8> = whole.0.iter().copied().filter(|byte| *byte != b'*').collect();
            prop_assert_eq!(left, plain);
        }
    }
}
