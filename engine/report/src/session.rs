//! Sessions in words: who answered, how the way there was protected, and how it ended.

use runbook_model::HostName;
use runbook_model::host::{PeerIdentity, ToldBy};
use runbook_model::session::{Closing, Connection, Here, SessionClose, There};

use crate::text::count;
use crate::view::{Closed, HostView, RunView};

/// How the account got in, and who says so: `publickey ED25519 SHA256:… (as our client says)`. Empty when nobody does.
pub(crate) fn login(identity: &PeerIdentity) -> String {
    let by = match identity.methods_told_by {
        Some(ToldBy::Host) => " (the host says so)",
        Some(ToldBy::Client) => " (our client says so)",
        None => return identity.authenticated_by.clone(),
    };
    let methods: Vec<String> = identity.methods.iter().map(|method| method.text()).collect();
    format!("{}{by}", methods.join(", then "))
}

/// The hosts on the way, one text each.
pub(crate) fn hops(identity: &PeerIdentity) -> Vec<String> {
    let hop = |hop: &runbook_model::host::Hop| {
        let secured = hop.secured.as_ref().map(|secured| format!("; {}", secured.text())).unwrap_or_default();
        format!("{} as {}, {}, host key {}{secured}", hop.address, hop.account, hop.authenticated_by, hop.peer_key)
    };
    identity.hops.iter().map(hop).collect()
}

/// How the sessions to a host ended, in a sentence, and whether that is as it should be.
pub(crate) fn end(close: &SessionClose) -> (String, bool) {
    if let Some(left) = close.left() {
        return (format!("NOT closed: {left}"), false);
    }
    let n = close.connections.len() + close.unnamed as usize;
    let many = match n {
        0 | 1 => String::new(),
        n => format!("{} were opened; ", count(n, "connection")),
    };
    let local = close.connections.iter().all(|connection| connection.there == There::Local);
    if local && !close.connections.is_empty() {
        return (format!("{many}closed; it crossed no network"), true);
    }
    let mut said = vec![format!("{many}closed here")];
    let ended = close.connections.iter().filter(|connection| connection.there == There::Ended).count();
    let killed = close.connections.iter().filter(|connection| connection.here == Here::Killed).count();
    if killed > 0 {
        said.push(format!("{} had to be killed here", count(killed, "process")));
    }
    if ended > 0 {
        said.push(format!("{} that the host still had was ended there", count(ended, "connection")));
    }
    match (close.look.at_ms, close.look.afterwards, &close.unknown()) {
        (_, _, Some(why)) => {
            said.push(format!("what the host has left is NOT known: {why}"));
            return (said.join("; "), false);
        }
        (Some(_), true, None) => said.push("asked afterwards, the host has nothing left of it".into()),
        (Some(_), false, None) => said.push("asked just before, the host had nothing left but that question".into()),
        (None, ..) => {}
    }
    if close.look.others > 0 {
        said.push(format!("{} that steps started goes on", count(close.look.others as usize, "process")));
    }
    (said.join("; "), true)
}

/// One connection in a line, without its times.
pub(crate) fn connection(connection: &Connection) -> String {
    let here = match &connection.here {
        Here::Ended => "ended here".to_owned(),
        Here::Killed => "killed here, for it did not end when it was asked to".to_owned(),
        Here::Left(what) => format!("STILL HELD here: {what}"),
        Here::Unknown(why) => format!("its end here is not known: {why}"),
    };
    let here = if connection.why == Closing::ControllerGone { "with its controller".to_owned() } else { here };
    let there = match &connection.there {
        There::Gone => "gone on the host".to_owned(),
        There::Ended => "ended on the host, which still had it".to_owned(),
        There::Left(process) => format!("STILL THERE on the host: process {process}"),
        There::LastWord => "the host was asked over it last".to_owned(),
        There::Local => "no network between".to_owned(),
        There::Unknown(why) => format!("its end on the host is not known: {why}"),
    };
    format!("{}; {here}; {there}", connection.why.words())
}

/// Hosts and other places of which something of a session is left open.
pub(crate) fn left_open(view: &RunView) -> Vec<(HostName, String)> {
    let all = view.hosts.iter().map(|(name, host)| (name, &host.closed)).chain(&view.elsewhere);
    all.flat_map(|(name, closed)| closed.iter().filter_map(move |closed| Some((name.clone(), closed.close.left()?))))
        .collect()
}

impl HostView {
    /// A session to it was opened, and its end is not on record.
    pub(crate) fn has_open_session(&self) -> bool {
        let last = self.closed.last().map(|closed: &Closed| closed.seq);
        self.identity.is_some() && self.opened_seq > last
    }
}
