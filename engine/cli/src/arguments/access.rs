//! The command line of `access`.

use clap::Subcommand;

/// `access`.
#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// The authority that hosts trust.
    #[command(subcommand, after_help = "Examples:\n  runbook access ca init\n  runbook access ca show")]
    Ca(Authority),
}

/// `access ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum Authority {
    /// Make the key that `ca` in [access] of runbook.toml names, and print the line that hosts must trust.
    #[command(
        after_help = "Examples:\n  runbook access ca init\n\nThe key has no passphrase and is readable by this account alone: whoever has it can log in to every host that trusts\nit. Another run of this command never replaces it."
    )]
    Init,
    /// Print the line that hosts must trust.
    #[command(after_help = "Examples:\n  runbook access ca show | ssh root@fs01 'cat > /etc/ssh/runbook_ca.pub'")]
    Show,
}
