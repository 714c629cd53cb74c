//! What Ctrl-C means while a run is worked on: the first cancels, the second asks, the third leaves the run.

use std::sync::Arc;

use runbook_driver::Control;
use runbook_model::RunId;
use runbook_model::event::Person;
use runbook_report::list::short;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::failure::{Failure, fault};
use crate::live::Live;
use crate::machine;

/// Ends the watching when dropped.
pub(crate) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to watch for signals on behalf of a run.
pub(crate) fn watch(control: Control, live: Arc<Live>, by: Person, run: RunId) -> Result<Watch, Failure> {
    let listen = |kind| signal(kind).map_err(|error| fault(format!("signals cannot be watched: {error}")));
    // Whoever began us with SIGHUP ignored (`nohup`) wants the run to go on without a terminal.
    let hangup = if machine::ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
    let signals = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, hangup);
    Ok(Watch(tokio::spawn(follow(signals, control, live, by, run))))
}

/// Waits until the terminal is closed; for ever when that is not to matter.
async fn closed(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

async fn follow(
    (mut interrupt, mut terminate, mut hangup): (Signal, Signal, Option<Signal>),
    control: Control,
    live: Arc<Live>,
    by: Person,
    run: RunId,
) {
    let name = short(run.as_str()).to_owned();
    let mut pressed = 0;
    loop {
        tokio::select! {
            _ = interrupt.recv() => pressed += 1,
            // A second SIGTERM says nothing new.
            _ = terminate.recv() => pressed = pressed.max(1),
            // The terminal is gone: what runs on hosts goes on there, and a resume finds it.
            () = closed(&mut hangup) => {
                control.detach();
                continue;
            }
        }
        match pressed {
            1 => {
                control.cancel(by.clone());
                live.notice("cancelling: running steps are ended, changed hosts are rolled back");
            }
            2 => {
                live.notice(format!("still going back; leave it half done for `resume {name}`? Ctrl-C again, or wait"))
            }
            _ => {
                live.notice("leaving the run as it is");
                control.detach();
            }
        }
    }
}

/// Waits until somebody wants the program to end (SIGINT, SIGTERM); for ever where that cannot be watched.
pub(crate) async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
