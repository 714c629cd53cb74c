//! Many hosts that cost nothing: what the controller alone costs per step, and whether it grows with the hosts.
//!
//! The hosts are the tests' fake ones, in the same process, and answer at once; the plan, the evaluator, the ledger and
//! the store are the program's own. What the fakes themselves cost is counted as well.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use runbook_driver::{Control, Engine, Limits, LocalSecrets, RunRequest, SystemClock};
use runbook_ledger::FileKey;
use runbook_model::event::{ClockState, Person};
use runbook_model::plan::Plan;
use runbook_model::{Cell, Sha256};
use runbook_ports::person::Answer;
use runbook_ports::transport::Stream;
use runbook_ports::{Confirmer, Observer, Signer};
use runbook_testkit::fake_transport::FakeTransport;

use crate::page::circumstances;
use crate::table::{Row, table};
use crate::{Options, Result, meter};

/// Rounds, when the command line does not say.
const ROUNDS: usize = 3;

/// Steps on each host.
const STEPS: usize = 10;

/// How many hosts.
const HOSTS: [usize; 3] = [100, 1_000, 10_000];

/// The case: one table for each number of hosts.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let mut text = format!(
        "## {STEPS} steps on hosts that cost nothing\n\n{}\n\nThe controller alone: the hosts are the tests' fake ones, in \
         the same process. Plan, evaluation, ledger and store (a real file system) are the program's own.\n",
        circumstances()
    );
    for hosts in HOSTS {
        let mut rows = [Row::new(format!("{hosts} hosts"))];
        for round in 0..options.rounds.unwrap_or(ROUNDS) {
            let folder = tempfile::tempdir()?;
            project(folder.path(), hosts)?;
            let words = ["plan", "many.yaml", "--out", "plan.json"].map(OsStr::new);
            let command: Vec<&OsStr> = [options.program.as_os_str()].into_iter().chain(words).collect();
            meter::cost(folder.path(), &command)?;
            let this = std::env::current_exe()?;
            let cost = meter::cost(folder.path(), &[this.as_os_str(), "alone-run".as_ref()])?;
            eprintln!("alone, round {}: {:.2} s wall, {:.2} s CPU: {hosts} hosts", round + 1, cost.wall_s, cost.cpu_s);
            rows[0].costs.push(cost);
        }
        text.push('\n');
        text.push_str(&table(&rows, (hosts * STEPS) as f64, "step"));
    }
    Ok(text)
}

fn project(folder: &Path, hosts: usize) -> Result<()> {
    use std::fmt::Write as _;
    crate::write(&folder.join("runbook.toml"), "")?;
    let mut inventory = "schema: inventory/v1\nhosts:\n".to_owned();
    for host in 0..hosts {
        writeln!(inventory, "  h{host:05}: {{address: 192.0.2.1}}")?;
    }
    crate::write(&folder.join("inventory.yaml"), &inventory)?;
    let mut runbook = "schema: runbook/v1\nname: many\nirreversible: it changes nothing\ntargets: {select: all, \
                       parallel: 500, \
                       failure_budget: 100%}\nrollback: {verify: none}\nexecute:\n"
        .to_owned();
    for step in 0..STEPS {
        writeln!(runbook, "  - run: echo step {step} on {{{{ host.name }}}}")?;
    }
    crate::write(&folder.join("many.yaml"), &runbook)
}

/// The process that is measured: applies `plan.json` of the folder that it is started in.
pub(crate) fn run() -> Result<()> {
    let plan: Plan = serde_json::from_slice(&std::fs::read("plan.json")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = runbook_store::SqliteStore::open(Path::new("store")).await?;
        let hosts = FakeTransport::new("ssh");
        let engine = Engine {
            store: Arc::new(store.clone()),
            blobs: Arc::new(store.clone()),
            transports: BTreeMap::from([("ssh".to_owned(), Arc::new(hosts) as _)]),
            evaluate: Arc::new(runbook_lang::evaluate::Evaluator::new()),
            signer: Arc::new(Key(FileKey::from_seed([7; 32]))),
            origin: "runbook/bench".into(),
            secrets: Arc::new(LocalSecrets { folder: "secrets".into() }),
            confirmer: Arc::new(Nobody),
            clock: Arc::new(SystemClock::new()),
            observer: Arc::new(Nobody),
            limits: Limits::default(),
            controller: None,
            clock_state: None,
            permits: None,
            access: None,
            monitors: Vec::new(),
        };
        let request = RunRequest {
            run: "019aab00-0000-7000-8000-000000000001".into(),
            operator: Person { name: "bench".into(), uid: 0, from: None },
            ticket: None,
            check_only: false,
            seed: 7,
            engine_version: env!("CARGO_PKG_VERSION").into(),
            engine_sha256: Sha256::of(b""),
            controller: "here".into(),
            controller_boot_id: String::new(),
            clock: ClockState::default(),
            inventory_sha256: None,
            inventory_sources: Vec::new(),
            retention: None,
            revision: None,
            settings_sha256: None,
            occurrence: None,
            files: ".".into(),
            wait: false,
            granted: runbook_testkit::unrestricted(),
        };
        let result = engine.apply(plan, request, &Control::new()).await?;
        store.close().await;
        match result.exit_code() {
            0 => Ok(()),
            code => Err(format!("the run ended with exit code {code}").into()),
        }
    })
}

struct Key(FileKey);

impl Signer for Key {
    fn sign(&self, bytes: &[u8]) -> std::result::Result<[u8; 64], String> {
        Ok(self.0.sign(bytes))
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }
}

/// Nobody is there to look or to be asked.
struct Nobody;

#[async_trait::async_trait]
impl Confirmer for Nobody {
    async fn confirm(&self, _host: &str, _question: &str) -> Answer {
        Answer::Nobody("a bench has no terminal".into())
    }
}

impl Observer for Nobody {
    fn committed(&self, _record: &runbook_model::record::Record) {}

    fn output(&self, _cell: &Cell, _stream: Stream, _bytes: &[u8]) {}
}
