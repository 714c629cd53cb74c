//! Proofs that larger trees begin with one smaller tree, in one file: for heads that are signed, or held by somebody
//! outside, after the one that a bundle has.
//!
//! ```text
//! runbook-consistency@v1
//! from 42
//!
//! to 57
//! <base64 of each hash of the consistency proof (RFC 9162, 2.1.4), a line each>
//!
//! to 90
//! <…>
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;

const FORM: &str = "runbook-consistency@v1\n";
/// The most hashes that a proof can have: the tree's height, and the node that it begins with.
const HASHES_MAX: usize = 65;
/// The most proofs that are read: one for each anchor.
const PROOFS_MAX: usize = 1_000;

/// Why such a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no proofs of consistency: {0}")]
pub struct Error(&'static str);

/// The proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// Size of the smaller tree.
    pub from: u64,
    /// Sizes of the larger trees, in order, each with its proof.
    pub to: Vec<(u64, Vec<Sha256>)>,
}

impl Consistency {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut out = format!("{FORM}from {}\n", self.from);
        for (size, path) in &self.to {
            out.push_str(&format!("\nto {size}\n"));
            for hash in path {
                out.push_str(&STANDARD.encode(hash.0));
                out.push('\n');
            }
        }
        out
    }

    /// Reads a file's text. Whether a proof proves anything is for
    /// [`proof::verify_consistency`](crate::proof::verify_consistency) to say. Never panics.
    ///
    /// # Errors
    /// When it is not of the form, or the sizes do not grow.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix(FORM).ok_or(Error("its first line is another"))?;
        let rest = rest.strip_suffix('\n').ok_or(Error("its last line has no end"))?;
        let mut blocks = rest.split("\n\n");
        let from = number(blocks.next(), "from ").ok_or(Error("it does not say from which size on"))?;
        let mut to: Vec<(u64, Vec<Sha256>)> = Vec::new();
        for block in blocks {
            let mut lines = block.split('\n');
            let size = number(lines.next(), "to ").ok_or(Error("a proof does not say to which size"))?;
            if size <= to.last().map_or(from, |(last, _)| *last) || to.len() == PROOFS_MAX {
                return Err(Error("its sizes do not grow"));
            }
            let hash = |line| STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok()).map(Sha256);
            let path: Option<Vec<Sha256>> = lines.take(HASHES_MAX + 1).map(hash).collect();
            let path = path.filter(|path| path.len() <= HASHES_MAX).ok_or(Error("one of its hashes is none"))?;
            to.push((size, path));
        }
        Ok(Self { from, to })
    }
}

fn number(line: Option<&str>, word: &str) -> Option<u64> {
    let digits = line?.strip_prefix(word)?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Sha256 {
        Sha256([n; 32])
    }

    #[test]
    fn what_is_written_is_read() {
        for to in [vec![], vec![(43, vec![hash(1)])], vec![(43, vec![]), (90, vec![hash(1), hash(2)])]] {
            let proofs = Consistency { from: 42, to };
            assert_eq!(Consistency::parse(&proofs.text()), Ok(proofs));
        }
    }

    #[test]
    fn another_form_is_refused() {
        let good = Consistency { from: 42, to: vec![(43, vec![hash(1)]), (44, vec![])] }.text();
        for (from, to) in [
            ("@v1", "@v2"),
            ("from 42", "from 042"),
            ("from 42", "from x"),
            ("from 42", "from 43"),
            ("to 43", "to 44"),
            ("\n\nto 44", "\nto 44"),
            ("AQEB", "AQE"),
            ("AQEB", "AQEBAQEB"),
            ("to 44\n", "to 44"),
            ("\n\nto 44", "\n\n\nto 44"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            assert!(Consistency::parse(&text).is_err(), "{text}");
        }
    }
}
