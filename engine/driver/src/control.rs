//! How a person reaches into a run that is being worked on.

use std::sync::{Arc, Mutex, PoisonError};

use runbook_model::event::Person;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::world::Message;

/// A handle on a run. Clones reach the same run; what is asked before it has begun is done as soon as it has.
#[derive(Clone, Default)]
pub struct Control {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    to: Option<UnboundedSender<Message>>,
    waiting: Vec<Message>,
    asked: Arc<Notify>,
}

impl Control {
    /// A handle for one run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels: no new step starts, running ones are ended, hosts that changed are taken back. Twice is harmless.
    pub fn cancel(&self, by: Person) {
        self.send(Message::Cancel(by));
    }

    /// Stops here and leaves the run as it is, for a resume. What is claimed goes on on its host.
    pub fn detach(&self) {
        self.send(Message::Detach);
    }

    /// Waits until somebody has asked for something before the run was taken up.
    pub(crate) async fn asked(&self) {
        loop {
            let asked = {
                let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if !inner.waiting.is_empty() {
                    return;
                }
                Arc::clone(&inner.asked)
            };
            asked.notified().await;
        }
    }

    /// Who asked to cancel before the run was taken up, if anybody.
    pub(crate) fn cancel_asked(&self) -> Option<Person> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.iter().find_map(|message| match message {
            Message::Cancel(by) => Some(by.clone()),
            _ => None,
        })
    }

    pub(crate) fn attach(&self, to: UnboundedSender<Message>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for message in inner.waiting.drain(..) {
            let _ = to.send(message);
        }
        inner.to = Some(to);
    }

    fn send(&self, message: Message) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &inner.to {
            Some(to) => {
                // A run that has ended meanwhile has nothing left to be asked.
                let _ = to.send(message);
            }
            None => {
                inner.waiting.push(message);
                inner.asked.notify_one();
            }
        }
    }
}
