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
    let signals = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    Ok(Watch(tokio::spawn(follow(signals, control, live, by, run))))
}

async fn follow(
    (mut interrupt, mut terminate, mut hangup): (Signal, Signal, Signal),
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
            _ = hangup.recv() => {
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
