//! Prints the report to a PDF with the Chromium that the machine has.
//!
//! The browser is given one local file and no network: its own services are off, every name resolves to nothing, and the
//! page forbids itself to fetch anything. It has a profile of its own that is removed afterwards.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::failure::{FAULT, Failure, USAGE};

/// Programs that are looked for in PATH, in this order.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The variable that names another one.
const VARIABLE: &str = "RUNBOOK_CHROMIUM";
/// A report of some thousand pages takes less than a minute; a browser that hangs is ended.
const LIMIT: Duration = Duration::from_secs(300);
/// The end of what the browser said that is shown when it failed.
const SAID_BYTES_MAX: usize = 600;

/// A Chromium.
#[derive(Debug)]
pub(super) struct Printer {
    program: PathBuf,
}

/// The machine's Chromium.
///
/// # Errors
/// RB0631 when there is none.
pub(super) fn find() -> Result<Printer, Failure> {
    let none = |text: String| {
        Failure::new("RB0631", USAGE, text).next(
            "install the package `chromium`, or name a program with RUNBOOK_CHROMIUM; --out writes the report as HTML",
        )
    };
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let found = if named.to_string_lossy().contains('/') { is_program(Path::new(&named)) } else { in_path(&named) };
        return found
            .map(|program| Printer { program })
            .ok_or_else(|| none(format!("{VARIABLE} names no program: {}", named.to_string_lossy())));
    }
    NAMES
        .iter()
        .find_map(|name| in_path(&OsString::from(name)))
        .map(|program| Printer { program })
        .ok_or_else(|| none(format!("a PDF is printed by Chromium, and there is none here ({})", NAMES.join(", "))))
}

fn in_path(name: &OsString) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| is_program(&folder.join(name)))
}

fn is_program(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::metadata(path).ok()?;
    (file.is_file() && file.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

impl Printer {
    /// Prints `html` into a new file in `folder`.
    ///
    /// # Errors
    /// RB0632 when the browser fails, hangs or leaves no PDF.
    pub(super) async fn print(&self, html: &Path, folder: &Path) -> Result<NamedTempFile, Failure> {
        let failed = |text: String| {
            Failure::new("RB0632", FAULT, format!("{} did not print the report: {text}", self.program.display())).next(
                "--out writes the report as HTML, which any browser prints; nothing at the PDF's place was changed",
            )
        };
        let broken = |error: std::io::Error| failed(error.to_string());
        let profile = tempfile::Builder::new().prefix("runbook-chromium-").tempdir().map_err(broken)?;
        let pdf =
            tempfile::Builder::new().prefix(".runbook-report-").suffix(".pdf").tempfile_in(folder).map_err(broken)?;

        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["--headless", "--disable-gpu", "--disable-extensions", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run"])
            .args(["--no-default-browser-check", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"])
            .arg("--proxy-server=127.0.0.1:9")
            .arg(option("--user-data-dir=", profile.path()))
            .arg("--no-pdf-header-footer")
            .arg(option("--print-to-pdf=", pdf.path()));
        if rustix::process::geteuid().is_root() {
            // Chromium's own sandbox refuses to work as root.
            command.arg("--no-sandbox");
        }
        // It must not find the operator's own profile, nor the settings of a desktop.
        command.env("HOME", profile.path()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.arg(url(html)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .map_err(|_| failed(format!("it took longer than {} s and was ended", LIMIT.as_secs())))?
            .map_err(broken)?;

        let said =
            String::from_utf8_lossy(&output.stderr[output.stderr.len().saturating_sub(SAID_BYTES_MAX)..]).into_owned();
        if !output.status.success() {
            return Err(failed(output.status.to_string()).detail(said));
        }
        let mut begin = [0; 5];
        let read =
            std::fs::File::open(pdf.path()).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut begin));
        if read.is_err() || &begin != b"%PDF-" {
            return Err(failed("what it wrote is no PDF".into()).detail(said));
        }
        Ok(pdf)
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut out = OsString::from(name);
    out.push(path);
    out
}

/// The `file:` URL of an absolute path.
fn url(path: &Path) -> OsString {
    use std::os::unix::ffi::OsStrExt as _;
    let mut out = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_characters_is_a_url() {
        assert_eq!(url(Path::new("/tmp/a b#c?/ü%.html")), "file:///tmp/a%20b%23c%3F/%C3%BC%25.html");
    }
}
