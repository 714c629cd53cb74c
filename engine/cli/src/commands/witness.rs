//! `witness`: cosigns the heads of other hosts' ledgers. Needs no project.

use std::sync::Arc;

use runbook_anchors::server::{self, Plain};
use runbook_driver::SystemClock;

use crate::anchors::verify::pins;
use crate::arguments::Witness;
use crate::failure::{FAULT, Failure, fault};
use crate::{output, signals};

/// Answers until it is asked to end.
pub(crate) fn run(arguments: &Witness) -> Result<u8, Failure> {
    let plain = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Plain::Tls(certificate.clone(), key.clone()),
        _ if arguments.listen.ip().is_loopback() || arguments.plain_http => Plain::Http,
        _ => {
            return Err(Failure::usage("RB0617", format!("others can connect to {}, in plain HTTP", arguments.listen))
                .next("give --tls-cert and --tls-key; or listen on 127.0.0.1 behind a proxy that speaks TLS")
                .next("--plain-http does it nevertheless: what is said is signed on both sides, and not secret"));
        }
    };
    let scheme = if plain == Plain::Http { "http" } else { "https" };
    let pins = pins(&arguments.origin_key)?;
    if pins.ledgers.is_empty() {
        return Err(Failure::usage("RB0617", "--origin-key names no ledger's key, only those of witnesses")
            .next("it is .runbook/keys/ledger.pub of the ledger's project"));
    }
    let started = |error: server::Error| {
        let exit = if matches!(error, server::Error::File { .. }) { FAULT } else { crate::failure::USAGE };
        Failure::new("RB0646", exit, format!("the witness cannot start: {error}"))
    };
    let clock = Arc::new(SystemClock::new());
    let witness = server::Witness::open(&arguments.state, arguments.name.as_deref(), pins.ledgers, clock);
    let witness = Arc::new(witness.map_err(started)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(fault)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen).await.map_err(|error| {
            Failure::new("RB0646", FAULT, format!("the witness cannot listen on {}: {error}", arguments.listen))
        })?;
        let address = listener.local_addr().map_err(fault)?;
        output::data(format!("{}\n", witness.key()))?;
        for (origin, size) in witness.known() {
            output::note(format!("knows {origin} up to {size} records"));
        }
        output::note(format!("listening on {scheme}://{address}/"));
        server::serve(witness, listener, plain, signals::asked_to_end()).await.map_err(started)?;
        Ok(0)
    })
}
