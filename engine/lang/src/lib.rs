//! The runbook language: documents with positions, diagnostics, schemas, templates, expressions.
