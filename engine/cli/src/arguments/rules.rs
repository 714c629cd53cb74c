//! Arguments of what tells and decides who may do what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{InventoryShow, Sources};

/// `people`.
#[derive(Debug, Subcommand)]
pub(crate) enum People {
    /// List the people: roles, keys, training, contracts, with what has expired or soon will.
    #[command(after_help = "Examples:\n  runbook people list\n  runbook people list --json | jq '.people[].roles'")]
    List(InventoryShow),
    /// Report all problems of `people.yaml`.
    #[command(after_help = "Examples:\n  runbook people check\n\nExit code 2 when there is any problem.")]
    Check(InventoryShow),
}

/// `policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say rule by rule what a run of it would need, and what is missing.
    #[command(
        after_help = "Examples:\n  runbook policy explain runbooks/patch.yaml --ticket CHG-1042\n  runbook policy explain patch.plan.json\n  runbook policy explain runbooks/patch.yaml --limit cui --json\n\nExit code 3 when something is missing."
    )]
    Explain(PolicyExplain),
    /// Print the tools that a runbook uses, by digest, as the key `tools` of a rule takes them.
    #[command(
        after_help = "Examples:\n  runbook policy tools runbooks/patch.yaml\n  runbook policy tools patch.plan.json --json\n\nLook at each before you paste it: what is listed may be used."
    )]
    Tools(PolicyTools),
}

/// `policy tools`.
#[derive(Debug, Args)]
pub(crate) struct PolicyTools {
    /// A runbook, or a plan that `plan --out` wrote.
    #[arg(value_name = "FILE|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Print policy-tools/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `policy explain`.
#[derive(Debug, Args)]
pub(crate) struct PolicyExplain {
    /// A runbook, or a plan that `plan --out` wrote.
    #[arg(value_name = "FILE|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// The change ticket that would be named.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// The reason that would be given.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: Option<String>,
    /// Why windows, blackouts and freezes would be set aside.
    #[arg(long, value_name = "WHY")]
    pub(crate) break_glass: Option<String>,
    /// Print policy-explain/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Why, or under which conditions.
    #[arg(long, value_name = "WHY", default_value = "")]
    pub(crate) reason: String,
    /// So long it counts; the policy may allow less.
    #[arg(long, value_name = "DURATION", default_value = "72h")]
    pub(crate) valid_for: String,
}

/// `reject`.
#[derive(Debug, Args)]
pub(crate) struct Reject {
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Why.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: String,
}

/// What is decided about, who signs, and with what.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// A plan that `plan --out` wrote, or a runbook that is planned now.
    #[arg(value_name = "PLAN|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Print approval-signed/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who signs, with what, and where.
#[derive(Debug, Args)]
pub(crate) struct Signer {
    /// The person, by the short name in `people.yaml` [default: whose account this is].
    #[arg(long = "as", value_name = "PERSON")]
    pub(crate) person: Option<String>,
    /// Their key: a private key's file, or a public one whose other half the SSH agent has [default: one of ~/.ssh that is
    /// theirs, else the agent's].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Sign nothing: write what is to be signed into this file, to be mailed and signed elsewhere.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "key")]
    pub(crate) request: Option<PathBuf>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `approvals`.
#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what persons decided, and whether their signatures hold.
    #[command(after_help = "Examples:\n  runbook approvals list\n  runbook approvals list --json")]
    List(InventoryShow),
    /// Take in a decision that was signed elsewhere: the file, and its signature beside it in FILE.sig.
    #[command(after_help = "Examples:\n  runbook approvals import patch.approval.json")]
    Import(ApprovalsImport),
}

/// `approvals import`.
#[derive(Debug, Args)]
pub(crate) struct ApprovalsImport {
    /// The file that was signed.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

/// `review`.
#[derive(Debug, Args)]
pub(crate) struct ReviewRun {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// What came of it.
    #[arg(long, value_enum)]
    pub(crate) verdict: Verdict,
    /// Why; for a follow-up, what is to be done.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Print review-signed/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What came of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verdict {
    /// Nothing more is to be done.
    Accepted,
    /// Something is to be done; the reason says what.
    FollowUp,
}

/// `reviews`.
#[derive(Debug, Args)]
pub(crate) struct Reviews {
    #[command(subcommand)]
    pub(crate) command: Option<ReviewsCommand>,
    /// Print reviews/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands on reviews.
#[derive(Debug, Subcommand)]
pub(crate) enum ReviewsCommand {
    /// Take in a review that was signed elsewhere: the file, and its signature beside it in FILE.sig.
    #[command(after_help = "Examples:\n  runbook reviews import for-jane.json")]
    Import(ApprovalsImport),
}
