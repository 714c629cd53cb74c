//! Access that hosts were given for the run, in words and in `run/v1`.

use runbook_model::HostName;
use runbook_model::access::{Ending, Grant, Withdrawal};
use runbook_model::units::rfc3339_ms;
use schemars::JsonSchema;
use serde::Serialize;

use crate::view::{Granted, HostView, RunView};

/// In `run/v1`: access that a host was given.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AccessDocument {
    /// When it was put on record, before anything was done on the host.
    pub granted_at: String,
    /// When the host had it; null: it never said so.
    pub installed_at: Option<String>,
    /// The certificate with which the run logged in.
    pub certificate: Option<CertificateDocument>,
    /// The rule of sudo.
    pub sudo: Option<RuleDocument>,
    /// The account that was opened.
    pub account: Option<AccountDocument>,
}

/// In `run/v1`: a certificate that was minted for the run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CertificateDocument {
    /// Its number.
    pub serial: String,
    /// Its name, which the host's log has.
    pub key_id: String,
    /// The public key.
    pub public_key: String,
    /// Fingerprint of the authority that signed it.
    pub authority: String,
    /// The names that it was good for.
    pub principals: Vec<String>,
    /// The addresses from which it counted; empty: from anywhere.
    pub source_address: Vec<String>,
    /// When it began to count.
    pub valid_from: String,
    /// When it is over by itself.
    pub valid_until: String,
}

/// In `run/v1`: a rule of sudo.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RuleDocument {
    /// The file on the host.
    pub path: String,
    /// For whom.
    pub user: String,
    /// All of the file.
    pub text: String,
    /// Its digest.
    pub sha256: String,
    /// When it is over by itself.
    pub valid_until: String,
}

/// In `run/v1`: an account that was opened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AccountDocument {
    /// Its name.
    pub name: String,
    /// The window in which it may be open.
    pub window: String,
    /// When that window ends.
    pub until: String,
    /// The day (UTC) on which it expires by itself.
    pub expires_on: String,
}

/// In `run/v1`: how the access ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct WithdrawalDocument {
    /// `withdrawn` (all of it is gone, and that was tried), `lapses` (a part counts until its own end, as the plan allows or
    /// because it was never used) or `left` (a part is not shown to be gone).
    pub state: &'static str,
    /// When that was looked at; null: the host could not be asked.
    pub at: Option<String>,
    /// What was seen of the rule of sudo.
    pub sudo: Option<String>,
    /// What was seen of the certificate.
    pub certificate: Option<String>,
    /// What was seen of the account.
    pub account: Option<String>,
}

/// What a host was given.
pub(crate) fn document(granted: &Granted) -> AccessDocument {
    let Grant { certificate, sudo, account } = &granted.grant;
    AccessDocument {
        granted_at: rfc3339_ms(granted.at_ms),
        installed_at: granted.installed.as_ref().map(|(_, installed)| rfc3339_ms(installed.at_ms)),
        certificate: certificate.as_ref().map(|minted| CertificateDocument {
            serial: minted.serial.clone(),
            key_id: minted.key_id.clone(),
            public_key: minted.public_key.clone(),
            authority: minted.authority.clone(),
            principals: minted.principals.clone(),
            source_address: minted.source_address.clone(),
            valid_from: rfc3339_ms(minted.valid_after_ms),
            valid_until: rfc3339_ms(minted.valid_until_ms),
        }),
        sudo: sudo.as_ref().map(|rule| RuleDocument {
            path: rule.path.clone(),
            user: rule.user.clone(),
            text: rule.text.clone(),
            sha256: rule.sha256.to_string(),
            valid_until: rfc3339_ms(rule.valid_until_ms),
        }),
        account: account.as_ref().map(|account| AccountDocument {
            name: account.name.clone(),
            window: account.window.clone(),
            until: rfc3339_ms(account.until_ms),
            expires_on: account.expires_on.clone(),
        }),
    }
}

/// How it ended.
pub(crate) fn withdrawal_document(withdrawal: &Withdrawal) -> WithdrawalDocument {
    let said = |ending: &Option<Ending>| ending.as_ref().map(Ending::text);
    WithdrawalDocument {
        state: match (withdrawal.left(), withdrawal.lapses()) {
            (Some(_), _) => "left",
            (None, Some(_)) => "lapses",
            (None, None) => "withdrawn",
        },
        at: withdrawal.at_ms.map(rfc3339_ms),
        sudo: said(&withdrawal.sudo),
        certificate: said(&withdrawal.certificate),
        account: said(&withdrawal.account),
    }
}

/// What a host was given, a sentence for each thing.
pub(crate) fn given(granted: &Granted) -> Vec<String> {
    let time = |ms: u64| rfc3339_ms(ms).replace(".000", "");
    let installed = if granted.installed.is_some() { "" } else { "; the host never said that it has it" };
    let mut said = Vec::new();
    if let Some(minted) = &granted.grant.certificate {
        let from = match minted.source_address.as_slice() {
            [] => String::new(),
            addresses => format!(", from {}", addresses.join(", ")),
        };
        said.push(format!(
            "certificate {} for {}, until {}{from}, signed by {}{installed}",
            minted.serial,
            minted.principals.join(", "),
            time(minted.valid_until_ms),
            minted.authority
        ));
    }
    if let Some(rule) = &granted.grant.sudo {
        said.push(format!(
            "rule of sudo for {} in {}, until {}, {}{installed}",
            rule.user,
            rule.path,
            time(rule.valid_until_ms),
            rule.sha256
        ));
    }
    if let Some(account) = &granted.grant.account {
        said.push(format!(
            "account {} opened while the window {} is (to {}); by itself it expires on {} UTC{installed}",
            account.name,
            account.window,
            time(account.until_ms),
            account.expires_on
        ));
    }
    said
}

/// How it ended, a sentence for each thing, and whether it is not shown to be gone.
pub(crate) fn ended(withdrawal: &Withdrawal) -> Vec<(String, bool)> {
    let line = |(what, ending): (&str, &Ending)| match ending {
        Ending::Proved(how) => (format!("{what} withdrawn: {how}"), false),
        Ending::Lapses { .. } => (format!("{what} {}", ending.text()), false),
        Ending::Left { .. } => (format!("{what} NOT shown to be gone: {}", ending.text()), true),
    };
    withdrawal.endings().map(line).collect()
}

impl HostView {
    /// What may still be there of the access that it was given.
    pub(crate) fn access_left(&self) -> Option<String> {
        match self.closed.last().and_then(|closed| closed.close.access.as_ref()) {
            Some(withdrawal) => withdrawal.left(),
            None => None,
        }
    }
}

/// Hosts on which access may be left.
pub(crate) fn left(view: &RunView) -> Vec<(HostName, String)> {
    view.hosts.iter().filter_map(|(name, host)| Some((name.clone(), host.access_left()?))).collect()
}
