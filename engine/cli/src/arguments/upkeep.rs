//! The command line of what is done to the ledger itself, and to evidence after its run.

use clap::Args;

/// `evidence rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateKey {
    /// Why; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Print the keys as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
