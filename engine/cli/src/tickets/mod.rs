//! Systems of change tickets outside: whether a change may be worked on is asked when a run is opened, and what came of it is
//! written back like any news ([`crate::notifications`]): put into the outbox at its moment, sent by whoever has time for it.

pub(crate) mod settings;
mod write;

use std::sync::Arc;

use runbook_model::News;
use runbook_model::news::NewsKind;
use runbook_model::ticket::{Change, is_key};
use runbook_ports::Tickets;
use runbook_tickets::{Jira, ServiceNow, Site, Trello};
use runbook_wire::Tls;

use crate::login;
use crate::project::Project;
use settings::{Kind, System};

pub(crate) use write::attempt;

/// The system whose ticket this is; `None`: there is none for it. The project's own tickets are nobody else's.
pub(crate) fn system_of<'p>(project: &'p Project, ticket: &str) -> Option<&'p System> {
    let own = project.settings.tickets.iter().find(|system| system.pattern.is_match(ticket));
    own.filter(|_| !is_key(ticket))
}

/// Whether the system is told of it. Checks and rehearsals are no work on the change.
pub(crate) fn wants(project: &Project, system: &System, news: &News) -> bool {
    let told = matches!(news.kind, NewsKind::Started | NewsKind::Ended | NewsKind::Suspended);
    let ticket = news.ticket.as_deref().unwrap_or_default();
    told && !news.check_only && !news.rehearses && system_of(project, ticket).is_some_and(|of| of.name == system.name)
}

/// The change as the system says, with its exact bytes.
///
/// # Errors
/// Why it is not to be had, for people.
pub(crate) async fn read(project: &Project, system: &System, ticket: &str) -> Result<(Change, Vec<u8>), String> {
    let tickets = build(project, system).await?;
    tickets
        .read(ticket, system.timeout)
        .await
        .map_err(|error| format!("the change {ticket} in {}: {error}", system.name))
}

/// Whether it answers and lets us in.
pub(crate) async fn reach(project: &Project, system: &System) -> Result<String, String> {
    build(project, system).await?.reach(system.timeout).await.map_err(|error| error.to_string())
}

/// The system with its secrets, which are resolved now.
async fn build(project: &Project, system: &System) -> Result<Arc<dyn Tickets>, String> {
    let site = Site {
        name: system.name.clone(),
        address: system.address.clone(),
        tls: Tls { ca: system.ca.clone(), client: None },
        login: login::resolve(&system.login, project).await?,
    };
    Ok(match system.kind.clone() {
        Kind::Jira(fields) => Arc::new(Jira { site, fields }),
        Kind::ServiceNow { cui, moves } => Arc::new(ServiceNow { site, cui, moves }),
        Kind::Trello { fields, cui } => Arc::new(Trello { site, fields, cui }),
    })
}
