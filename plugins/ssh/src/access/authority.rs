//! Who signs the certificates: a key of the project, or a program that asks somebody else (Vault, step-ca, a hardware key).

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::encoding::{self, Signed, Wanted};

/// A program that signs answers within this.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// A certificate has a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// A private key has a few hundred bytes.
const KEY_BYTES_MAX: u64 = 16 * 1024;

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// An Ed25519 key in OpenSSH's form without a passphrase, readable by this account alone.
    File(PathBuf),
    /// A program. It is given one JSON object on its standard input (`public_key`, `key_id`, `serial`, `principals`,
    /// `valid_after` and `valid_before` in seconds since 1970, `force_command` or null, `source_address`, `extensions`),
    /// and prints the certificate.
    Command(Vec<String>),
}

impl Authority {
    /// The certificate's line, and what is in it.
    pub(crate) async fn sign(&self, wanted: &Wanted) -> Result<(String, Signed), String> {
        let line = match self {
            Authority::File(path) => encoding::certificate(wanted, &random()?, &read_key(path)?),
            Authority::Command(command) => ask(command, wanted).await?,
        };
        let signed = encoding::read_certificate(&line).ok_or("what was signed is no certificate of an Ed25519 key")?;
        check(wanted, &signed)?;
        Ok((line, signed))
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn read_key(path: &Path) -> Result<ed25519_dalek::SigningKey, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("the authority's key {shown}: {error}"))?;
    let mode = file.metadata().map_err(|error| format!("the authority's key {shown}: {error}"))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "the authority's key {shown} can be read by others (mode {:04o}): chmod 600 it, and ask who has a copy",
            mode & 0o7777
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("the authority's key {shown}: {error}"))?;
    encoding::read_private(&text).map_err(|why| format!("the authority's key {shown}: {why}"))
}

/// The public half of a key file, as hosts name it in the file of `TrustedUserCAKeys`.
///
/// # Errors
/// For people: the file cannot be read, is open to others, or has no such key.
pub fn public_line(path: &Path, comment: &str) -> Result<String, String> {
    Ok(encoding::public_line(&read_key(path)?.verifying_key().to_bytes(), comment))
}

/// A new key file's text, and its public half.
///
/// # Errors
/// There are no random numbers.
pub fn new_key(comment: &str) -> Result<(Zeroizing<String>, String), String> {
    let key = ed25519_dalek::SigningKey::from_bytes(&Zeroizing::new(random()?));
    let check = u32::from_be_bytes(random()?);
    let public = encoding::public_line(&key.verifying_key().to_bytes(), comment);
    Ok((encoding::private_file(&key, check, comment), public))
}

async fn ask(command: &[String], wanted: &Wanted) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("the program that signs has no name")?;
    let said = |what: &str| format!("the program that signs certificates (`{program}`) {what}");
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| said(&format!("cannot be started: {error}")))?;
    let text = json!({
        "public_key": encoding::public_line(&wanted.key, ""),
        "key_id": wanted.key_id,
        "serial": wanted.serial,
        "principals": wanted.principals,
        "valid_after": wanted.valid_after_s,
        "valid_before": wanted.valid_before_s,
        "force_command": wanted.force_command,
        "source_address": wanted.source_address,
        "extensions": [],
    })
    .to_string();
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        if let Some(stdin) = &mut stdin {
            // One that does not read it may know without it what to sign.
            let _ = stdin.write_all(format!("{text}\n").as_bytes()).await;
        }
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        let read_out = async {
            match stdout {
                Some(stdout) => stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut out).await,
                None => Ok(0),
            }
        };
        let read_err = async {
            match stderr {
                Some(stderr) => stderr.take(ANSWER_BYTES_MAX).read_to_string(&mut err).await,
                None => Ok(0),
            }
        };
        let (read, _) = tokio::join!(read_out, read_err);
        let status = child.wait().await;
        (read.map(|_| out), err, status)
    };
    let Ok((out, err, status)) = tokio::time::timeout(COMMAND_LIMIT, talk).await else {
        return Err(said(&format!("did not answer within {} s", COMMAND_LIMIT.as_secs())));
    };
    let last = err.lines().last().unwrap_or_default();
    match status {
        Ok(status) if status.success() => out.map_err(|error| said(&format!("did not print text: {error}"))),
        Ok(status) => Err(said(&format!("failed ({status}): {last}"))),
        Err(error) => Err(said(&format!("was lost: {error}"))),
    }
}

/// What somebody else signed is what was asked for, and no more.
fn check(wanted: &Wanted, signed: &Signed) -> Result<(), String> {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    let mut critical = Vec::new();
    if let Some(command) = &wanted.force_command {
        critical.push(("force-command".to_owned(), command.clone()));
    }
    if !wanted.source_address.is_empty() {
        critical.push(("source-address".to_owned(), wanted.source_address.join(",")));
    }
    let differs = [
        (signed.key != wanted.key, "it is for another key"),
        (!signed.is_for_users, "it is for hosts"),
        (sorted(&signed.principals) != sorted(&wanted.principals), "its principals are others"),
        (signed.valid_before_s > wanted.valid_before_s, "it is valid for longer"),
        (signed.critical != critical, "its force-command or source-address is another"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, what)) => Err(format!("the certificate is not the one that was asked for: {what}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            key: ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes(),
            serial: 5,
            key_id: "run".into(),
            principals: vec!["maint".into()],
            valid_after_s: 1_000,
            valid_before_s: 2_000,
            force_command: Some("id".into()),
            source_address: vec!["10.0.0.5/32".into()],
        }
    }

    #[tokio::test]
    async fn a_key_that_others_can_read_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let (text, public) = new_key("ca").unwrap();
        std::fs::write(&path, &*text).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let authority = Authority::File(path.clone());
        mode(0o640);
        let said = authority.sign(&wanted()).await.unwrap_err();
        assert!(said.contains("0640"), "{said}");
        mode(0o600);
        assert_eq!(authority.sign(&wanted()).await.unwrap().1.serial, 5);
        assert_eq!(public_line(&path, "ca").unwrap(), public);
    }

    #[tokio::test]
    async fn a_program_that_signs_something_else_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let signs = |wanted: &Wanted| {
            let line = encoding::certificate(wanted, &[1; 32], &key);
            std::fs::write(folder.path().join("answer"), line).unwrap();
        };
        let answer = folder.path().join("answer").display().to_string();
        let asked = folder.path().join("asked").display().to_string();
        let command = Authority::Command(vec!["sh".into(), "-c".into(), format!("cat >{asked}; cat {answer}")]);
        signs(&wanted());
        assert_eq!(command.sign(&wanted()).await.unwrap().1.principals, ["maint"]);
        let asked: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(asked).unwrap()).unwrap();
        assert_eq!((&asked["valid_before"], &asked["force_command"]), (&json!(2_000), &json!("id")));
        for (other, why) in [
            (Wanted { principals: vec!["root".into(), "maint".into()], ..wanted() }, "principals"),
            (Wanted { valid_before_s: 2_001, ..wanted() }, "longer"),
            (Wanted { force_command: None, ..wanted() }, "force-command"),
            (Wanted { source_address: Vec::new(), ..wanted() }, "source-address"),
            (Wanted { key: [1; 32], ..wanted() }, "another key"),
        ] {
            signs(&other);
            let said = command.sign(&wanted()).await.unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let failing = Authority::Command(vec!["sh".into(), "-c".into(), "echo sealed >&2; exit 2".into()]);
        let said = failing.sign(&wanted()).await.unwrap_err();
        assert!(said.contains("sealed"), "{said}");
    }
}
