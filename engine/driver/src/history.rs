//! The connections of one run, by host: when each was opened and how it ended. What the record of their end is made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runbook_model::HostName;
use runbook_model::host::{Host, PeerIdentity};
use runbook_model::session::{CONNECTIONS_MAX, Closing, Connection, Here, Look, SessionClose, There};
use runbook_ports::Clock;

/// Identities that one record tells of connections whose opening is not on record.
const IDENTITIES_MAX: usize = 4;

/// See the module.
pub(crate) struct Histories {
    clock: Arc<dyn Clock>,
    by_host: Mutex<BTreeMap<HostName, History>>,
}

/// The connections to one host.
#[derive(Default)]
struct History {
    /// Where it is; `None` while only an earlier controller has been there.
    host: Option<Arc<Host>>,
    attempts: u64,
    entries: Vec<Entry>,
}

/// What a controller before this one had open to a host, as the log tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// Unix ms of each opening, and the process that served it.
    pub(crate) opened: Vec<(u64, Option<String>)>,
    pub(crate) attempts: u64,
}

struct Entry {
    /// Of the session; 0 for those of an earlier controller.
    number: u64,
    connection: Connection,
    identity: PeerIdentity,
    /// Its opening is on record.
    on_record: bool,
    /// Its end has been seen, or nobody waits for it.
    over: bool,
}

impl Histories {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, by_host: Mutex::default() })
    }

    fn by_host(&self) -> MutexGuard<'_, BTreeMap<HostName, History>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, host: &HostName, number: u64, change: impl FnOnce(&mut Entry)) {
        let mut by_host = self.by_host();
        let entries = by_host.get_mut(host).map(|history| &mut history.entries);
        if let Some(entry) = entries.and_then(|entries| entries.iter_mut().find(|entry| entry.number == number)) {
            change(entry);
        }
    }

    /// What an earlier controller had open, and nobody saw the end of.
    pub(crate) fn before(&self, host: &HostName, before: Before) {
        let mut by_host = self.by_host();
        let history = by_host.entry(host.clone()).or_default();
        history.attempts += before.attempts;
        for (opened_ms, process) in before.opened {
            history.entries.push(Entry {
                number: 0,
                connection: Connection {
                    opened_ms,
                    closed_ms: None,
                    why: Closing::ControllerGone,
                    here: Here::Ended,
                    there: There::Unknown("its controller did not see its end, and the host was not asked".into()),
                    identity: None,
                },
                identity: PeerIdentity { process, ..PeerIdentity::default() },
                on_record: true,
                over: true,
            });
        }
    }

    /// A session was opened.
    pub(crate) fn opened(&self, host: &Arc<Host>, number: u64, remote: bool) {
        let opened_ms = self.clock.now_ms();
        let there = match remote {
            true => There::Unknown("the host does not tell which of its processes serves it".into()),
            false => There::Local,
        };
        let here = Here::Unknown("its end was not seen here".into());
        let mut by_host = self.by_host();
        let history = by_host.entry(host.name.clone()).or_default();
        history.host = Some(Arc::clone(host));
        history.entries.push(Entry {
            number,
            connection: Connection { opened_ms, closed_ms: None, why: Closing::Done, here, there, identity: None },
            identity: PeerIdentity::default(),
            on_record: false,
            over: false,
        });
    }

    /// Who answered.
    pub(crate) fn identified(&self, host: &HostName, number: u64, identity: PeerIdentity) {
        self.change(host, number, |entry| {
            if identity.process.is_some() {
                entry.connection.there = There::Unknown("the host was not asked".into());
            }
            entry.identity = identity;
        });
    }

    /// A record of its opening says who answered.
    pub(crate) fn on_record(&self, host: &HostName, number: u64) {
        self.change(host, number, |entry| entry.on_record = true);
    }

    /// An attempt was carried out there.
    pub(crate) fn carried(&self, host: &HostName) {
        self.by_host().entry(host.clone()).or_default().attempts += 1;
    }

    /// A session is being closed.
    pub(crate) fn closing(&self, host: &HostName, number: u64, why: Closing) {
        self.change(host, number, |entry| entry.connection.why = why);
    }

    /// It was closed.
    pub(crate) fn closed(&self, host: &HostName, number: u64, here: Here) {
        let now_ms = self.clock.now_ms();
        self.change(host, number, |entry| {
            entry.connection.closed_ms = Some(now_ms);
            entry.connection.here = here;
            entry.over = true;
        });
    }

    /// What the host says of the process that served a connection.
    pub(crate) fn seen(&self, host: &HostName, process: &str, there: &There) {
        if let Some(history) = self.by_host().get_mut(host) {
            for entry in &mut history.entries {
                if entry.identity.process.as_deref() == Some(process) {
                    entry.connection.there = there.clone();
                }
            }
        }
    }

    /// There is no network to the host, whoever opened something.
    pub(crate) fn local(&self, host: &HostName) {
        if let Some(history) = self.by_host().get_mut(host) {
            history.entries.iter_mut().for_each(|entry| entry.connection.there = There::Local);
        }
    }

    /// The host was asked over this connection, and over none after it.
    pub(crate) fn last_word(&self, host: &HostName, number: u64) {
        self.change(host, number, |entry| entry.connection.there = There::LastWord);
    }

    /// Why the host could not be asked about those of which nothing is known yet.
    pub(crate) fn unasked(&self, host: &HostName, why: &str) {
        if let Some(history) = self.by_host().get_mut(host) {
            for entry in &mut history.entries {
                if matches!(entry.connection.there, There::Unknown(_)) {
                    entry.connection.there = There::Unknown(why.to_owned());
                }
            }
        }
    }

    /// Processes on the host that served connections other than `but`, and of which it is not known that they are gone.
    pub(crate) fn processes(&self, host: &HostName, but: Option<u64>) -> Vec<String> {
        let by_host = self.by_host();
        let entries = by_host.get(host).map_or(&[][..], |history| &history.entries);
        entries
            .iter()
            .filter(|entry| Some(entry.number) != but)
            .filter(|entry| matches!(entry.connection.there, There::Unknown(_) | There::LastWord))
            .filter_map(|entry| entry.identity.process.clone())
            .collect()
    }

    /// A controller that died had a connection to it, which lives for a moment longer.
    pub(crate) fn outlives_a_controller(&self, host: &HostName) -> bool {
        self.by_host()
            .get(host)
            .is_some_and(|history| history.entries.iter().any(|entry| entry.connection.why == Closing::ControllerGone))
    }

    /// Some connection did not end as it should on this side.
    pub(crate) fn in_doubt(&self, host: &HostName) -> bool {
        self.by_host()
            .get(host)
            .is_some_and(|history| history.entries.iter().any(|entry| !matches!(entry.connection.here, Here::Ended)))
    }

    /// All sessions to it are over here.
    pub(crate) fn is_over(&self, host: &HostName) -> bool {
        self.by_host().get(host).is_none_or(|history| history.entries.iter().all(|entry| entry.over))
    }

    /// Where something was opened, and its end is not on record.
    pub(crate) fn places(&self) -> Vec<Arc<Host>> {
        self.by_host().values().filter_map(|history| history.host.clone()).collect()
    }

    /// The record of the end of all that was open to the host. What is opened to it later begins anew.
    pub(crate) fn take(&self, host: &HostName, look: Look) -> SessionClose {
        let History { attempts, entries, .. } = self.by_host().remove(host).unwrap_or_default();
        let unnamed = entries.len().saturating_sub(CONNECTIONS_MAX);
        let mut told: Vec<PeerIdentity> = Vec::new();
        let connections = entries.into_iter().skip(unnamed).map(|entry| {
            let mut connection = entry.connection;
            let plain = PeerIdentity { process: None, ..entry.identity.clone() };
            if !entry.on_record && told.len() < IDENTITIES_MAX && !told.contains(&plain) {
                told.push(plain);
                connection.identity = Some(Box::new(entry.identity));
            }
            connection
        });
        let (connections, unnamed) = (connections.collect(), unnamed as u64);
        SessionClose { attempts, connections, unnamed, look, access: None }
    }
}
