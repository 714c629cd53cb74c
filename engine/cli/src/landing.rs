//! stand-ins until they land
use runbook_model::evaluate::*;
use runbook_model::outcome::Exit;
use runbook_model::plan::*;
use runbook_ports::Transport;
use std::collections::BTreeMap;
use std::sync::Arc;
#[derive(Default)]
pub(crate) struct Evaluator;
impl Evaluate for Evaluator {
    fn when(&self, _: &Scope<'_>, _: &Step) -> Result<When, EvaluateError> { unimplemented!() }
    fn render(&self, _: &Scope<'_>, _: &Step) -> Result<Rendered, EvaluateError> { unimplemented!() }
    fn text(&self, _: &Scope<'_>, _: &Template) -> Result<String, EvaluateError> { unimplemented!() }
    fn unmet(&self, _: &Scope<'_>, _: &Step, _: Exit, _: Kept<'_>, _: Kept<'_>) -> Vec<String> { unimplemented!() }
    fn class(&self, _: &[u8], _: &[u8]) -> RetryClass { unimplemented!() }
}
pub(crate) struct Options { pub(crate) ssh_config: Option<std::path::PathBuf> }
pub(crate) fn transports(_: &Options) -> BTreeMap<String, Arc<dyn Transport>> { BTreeMap::new() }
