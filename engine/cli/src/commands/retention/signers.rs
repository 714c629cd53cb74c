//! Who has signed a request: checked by the system's `ssh-keygen`, against a list of those who may.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::notice::PurgeSignature;

use crate::failure::{Failure, REFUSED};
use crate::project::Project;

/// What persons sign for: a signature for anything else does not count.
pub(super) const NAMESPACE: &str = "runbook-purge@v1";
/// The longest signature that is read; the longest keys' have some kilobytes.
const BYTES_MAX: usize = 64 << 10;

/// Who may sign: `allowed_signers` of ssh-keygen(1).
pub(super) fn list(project: &Project) -> PathBuf {
    project.state_path("keys/retention_signers")
}

fn refused(why: impl Into<String>) -> Failure {
    Failure::new("RB0667", REFUSED, why)
}

/// Checks signatures over the file at `request`. They must be of two persons with two keys.
pub(super) fn check(project: &Project, request: &Path, signatures: &[PathBuf]) -> Result<Vec<PurgeSignature>, Failure> {
    let list = list(project);
    if !list.is_file() {
        return Err(refused(format!("{} is not there: nobody may sign", list.display())).next(format!(
            "write a line each of two or more persons: NAME namespaces=\"{NAMESPACE}\" ssh-ed25519 AAAA…"
        )));
    }
    let mut found: Vec<PurgeSignature> = Vec::new();
    for path in signatures {
        let signature = one(&list, request, path)?;
        // The same key under two names is one person, and so is one name with two keys.
        if found.iter().any(|known| known.key == signature.key || known.signer == signature.signer) {
            return Err(refused(format!("two signatures are by {}: two persons must sign", signature.signer)));
        }
        found.push(signature);
    }
    if found.len() < 2 {
        return Err(refused(format!("{} of two signatures is there", found.len()))
            .next(format!("ssh-keygen -Y sign -f KEY -n {NAMESPACE} {}", request.display())));
    }
    Ok(found)
}

fn one(list: &Path, request: &Path, path: &Path) -> Result<PurgeSignature, Failure> {
    let armored = std::fs::read_to_string(path).map_err(|error| Failure::file("RB0667", "read", path, &error))?;
    let unfit = || refused(format!("{} is not a signature of ssh-keygen", path.display()));
    let key = public_key(&armored).ok_or_else(unfit)?;
    // Names of those in the list with this key. The signature itself is checked for each below.
    let names =
        said(Command::new("ssh-keygen").args(["-Y", "find-principals", "-s"]).arg(path).arg("-f").arg(list), None)?
            .ok_or_else(|| refused(format!("{} is by nobody in {}", path.display(), list.display())))?;
    for name in names.lines().flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-I", name, "-n", NAMESPACE, "-s"]).arg(path).arg("-f").arg(list);
        if said(&mut verify, Some(request))?.is_some() {
            return Ok(PurgeSignature { signer: name.to_owned(), key, signature: armored });
        }
    }
    Err(refused(format!("{} is no signature over {} for {NAMESPACE}", path.display(), request.display())))
}

/// What it said when it ended well; `None` when not.
fn said(command: &mut Command, input: Option<&Path>) -> Result<Option<String>, Failure> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path).map_err(|error| Failure::file("RB0667", "read", path, &error))?),
        None => Stdio::null(),
    };
    let output = command.stdin(input).stderr(Stdio::null()).output().map_err(|error| {
        Failure::usage("RB0667", format!("ssh-keygen cannot be started: {error}")).next("install openssh-client")
    })?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The public key in an armored signature (PROTOCOL.sshsig), as in an authorized_keys line.
fn public_key(armored: &str) -> Option<String> {
    let begun = armored.split_once("-----BEGIN SSH SIGNATURE-----")?.1;
    let body: String = begun.split_once("-----END SSH SIGNATURE-----")?.0.split_whitespace().collect();
    if body.len() > BYTES_MAX {
        return None;
    }
    let bytes = STANDARD.decode(body).ok()?;
    let rest = bytes.strip_prefix(b"SSHSIG")?.get(4..)?;
    let (key, _) = text(rest)?;
    let (kind, _) = text(key)?;
    let kind = std::str::from_utf8(kind).ok().filter(|kind| kind.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some(format!("{kind} {}", STANDARD.encode(key)))
}

/// An SSH string, and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
