//! `schema`, `completions`, `man`: all from the same definitions.

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Completions, Man, Schema, SchemaKind};
use crate::failure::{Failure, fault};
use crate::output;

/// `schema`.
pub(crate) fn schema(arguments: &Schema) -> Result<u8, Failure> {
    let schema = match arguments.kind {
        SchemaKind::Runbook => runbook_lang::schema::runbook(),
        SchemaKind::Inventory => runbook_lang::schema::inventory(),
        SchemaKind::Action => runbook_lang::schema::action(),
        SchemaKind::Windows => runbook_lang::schema::windows(),
        SchemaKind::Schedule => runbook_lang::schema::schedule(),
        SchemaKind::People => runbook_lang::schema::people(),
        SchemaKind::Policy => runbook_lang::schema::policy(),
        SchemaKind::Run => runbook_report::json::schema_of_run(),
        SchemaKind::Runs => runbook_report::json::schema_of_runs(),
        SchemaKind::Export => runbook_report::bundle::schema_of_export(),
    };
    output::json(&schema)?;
    Ok(0)
}

/// `completions`.
pub(crate) fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "runbook", &mut script);
    output::data(script)?;
    Ok(0)
}

/// `man`.
pub(crate) fn man(arguments: &Man) -> Result<u8, Failure> {
    match &arguments.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(fault)?;
            output::data(page)?;
        }
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| Failure::file("RB0605", "made", folder, &error))?;
            clap_mangen::generate_to(Arguments::command(), folder)
                .map_err(|error| Failure::file("RB0605", "written", folder, &error))?;
            output::note(format!("manual pages written to {}", folder.display()));
        }
    }
    Ok(0)
}
