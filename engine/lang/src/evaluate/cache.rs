//! What was read is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;
use runbook_model::canonical;
use runbook_model::digest::Sha256;
use runbook_model::id::StepId;
use runbook_model::plan::{Step, Work};

use crate::expression::CompiledExpression;
use crate::template::{CompiledTemplate, Place, Problem};

/// Entries of each kind; more, and all of that kind are forgotten. A plan has some hundred texts.
const ENTRIES_MAX: usize = 4096;

/// Regular expressions may compile to so many bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

type Templates = BTreeMap<Place, BTreeMap<String, Arc<CompiledTemplate>>>;

/// Everything that was read. Reading happens outside the locks, so two threads may read the same text once each.
#[derive(Debug, Default)]
pub(super) struct Cache {
    templates: Mutex<Templates>,
    expressions: Mutex<BTreeMap<String, Arc<CompiledExpression>>>,
    patterns: Mutex<BTreeMap<String, Arc<Regex>>>,
    digests: Mutex<BTreeMap<StepId, (Work, Sha256)>>,
}

/// What a broken lock protects is a cache: still good.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first(problems: &[Problem]) -> String {
    problems.first().map_or_else(|| "it cannot be read".to_owned(), ToString::to_string)
}

fn keep<K: Ord, V: Clone>(entries: &mut BTreeMap<K, V>, key: K, value: &V) {
    if entries.len() >= ENTRIES_MAX {
        entries.clear();
    }
    entries.insert(key, value.clone());
}

impl Cache {
    pub(super) fn template(&self, source: &str, place: Place) -> Result<Arc<CompiledTemplate>, String> {
        if let Some(known) = lock(&self.templates).get(&place).and_then(|texts| texts.get(source)) {
            return Ok(Arc::clone(known));
        }
        let template = Arc::new(CompiledTemplate::new(source, place).map_err(|problems| first(&problems))?);
        keep(lock(&self.templates).entry(place).or_default(), source.to_owned(), &template);
        Ok(template)
    }

    pub(super) fn expression(&self, source: &str) -> Result<Arc<CompiledExpression>, String> {
        if let Some(known) = lock(&self.expressions).get(source) {
            return Ok(Arc::clone(known));
        }
        let expression = Arc::new(CompiledExpression::new(source).map_err(|problems| first(&problems))?);
        keep(&mut lock(&self.expressions), source.to_owned(), &expression);
        Ok(expression)
    }

    pub(super) fn pattern(&self, source: &str) -> Result<Arc<Regex>, String> {
        if let Some(known) = lock(&self.patterns).get(source) {
            return Ok(Arc::clone(known));
        }
        let pattern = regex::RegexBuilder::new(source)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|_| format!("/{source}/ is no regular expression"))?;
        let pattern = Arc::new(pattern);
        keep(&mut lock(&self.patterns), source.to_owned(), &pattern);
        Ok(pattern)
    }

    /// The digest of the step's template texts.
    pub(super) fn digest(&self, step: &Step) -> Sha256 {
        if let Some((work, digest)) = lock(&self.digests).get(&step.id)
            && *work == step.work
        {
            return *digest;
        }
        let digest = canonical::digest(&step.work);
        keep(&mut lock(&self.digests), step.id.clone(), &(step.work.clone(), digest));
        digest
    }
}
