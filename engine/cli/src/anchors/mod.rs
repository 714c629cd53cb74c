//! Those outside who are given the ledger's signed heads: set up, asked, and their receipts put on record.
//!
//! What waits is derived and never stored: an anchor lacks whatever was recorded after the largest head that it has a
//! receipt for. The notices of receipts themselves do not count, or each receipt would ask for the next one.

mod give;
mod history;
mod receipts;
pub(crate) mod settings;
pub(crate) mod verify;

use std::sync::Arc;

use runbook_anchors::{File, Git, Syslog, TimeStamps, Witness};
use runbook_ports::Anchor;

pub(crate) use give::{Told, after_run, give, tell};
pub(crate) use history::Past;
pub(crate) use receipts::{Receipts, lines};
use settings::{AnchorSettings, Kind};

use crate::machine;
use crate::project::Project;

/// The anchor of these settings.
pub(crate) fn build(project: &Project, settings: &AnchorSettings) -> Arc<dyn Anchor> {
    let name = settings.name.clone();
    match settings.kind.clone() {
        Kind::Rfc3161 { url, tls, .. } => Arc::new(TimeStamps { name, url, tls }),
        Kind::Witness { url, key, tls } => Arc::new(Witness { name, url, key, tls }),
        Kind::Git { remote, branch } => {
            let folder = project.state_path("anchors").join(format!("{name}.git"));
            Arc::new(Git { name, remote, branch, folder })
        }
        Kind::File { path } => Arc::new(File { name, path }),
        Kind::Syslog { address, tls } => Arc::new(Syslog { name, address, tls, hostname: machine::name() }),
    }
}
