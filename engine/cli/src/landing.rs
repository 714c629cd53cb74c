//! Stand-in until `plugins/builtin` lists the transports.
use runbook_ports::{Clock, Transport};
use std::collections::BTreeMap;
use std::sync::Arc;
pub(crate) struct Options {
    pub(crate) ssh_config: Option<std::path::PathBuf>,
}
pub(crate) fn transports(_: &Options, clock: Arc<dyn Clock>) -> BTreeMap<String, Arc<dyn Transport>> {
    let local = runbook_local::Local::new(Default::default(), clock);
    BTreeMap::from([("local".to_owned(), Arc::new(local) as _)])
}
