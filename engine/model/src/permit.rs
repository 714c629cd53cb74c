//! What is allowed to a controller. Kept as a blob; the run's opening, its resumption, or the change of it names it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::id::HostName;

/// When which hosts may be begun. The default restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// Digest of the file with the windows that were in force; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Sha256>,
    /// Hosts that may be begun at certain times only. Each host is in one class at most; those in none may be begun at
    /// any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// No further host may be begun, and why: the windows cannot be made out. What has begun is brought to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

impl Permit {
    /// What both this and `bound` allow: times that were changed after they were approved can only take away.
    pub fn within(&self, bound: &Permit) -> Permit {
        let (own, other) = (self.class_of(), bound.class_of());
        let mut pairs: BTreeMap<(Option<usize>, Option<usize>), Vec<HostName>> = BTreeMap::new();
        for host in own.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
            let pair = (own.get(host).copied(), other.get(host).copied());
            pairs.entry(pair).or_default().push((*host).clone());
        }
        let class = |((own, other), hosts): ((Option<usize>, Option<usize>), Vec<HostName>)| {
            let (own, other) = (own.map(|no| &self.classes[no]), other.map(|no| &bound.classes[no]));
            match (own, other) {
                (Some(own), Some(other)) => Some(Class { hosts, ..own.within(other) }),
                (Some(only), None) | (None, Some(only)) => Some(Class { hosts, ..only.clone() }),
                (None, None) => None,
            }
        };
        let classes = pairs.into_iter().filter_map(class).collect();
        let closed = self.closed.clone().or_else(|| bound.closed.clone());
        Permit { windows: self.windows, classes, closed }
    }

    fn class_of(&self) -> BTreeMap<&HostName, usize> {
        let of = |(no, class): (usize, &'_ Class)| class.hosts.iter().map(move |_| no).collect::<Vec<_>>();
        let numbers = self.classes.iter().enumerate().flat_map(of);
        self.classes.iter().flat_map(|class| &class.hosts).zip(numbers).collect()
    }
}

/// Hosts with the same times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The hosts.
    pub hosts: Vec<HostName>,
    /// Names of the windows that are for them; empty when only blackouts or freezes are.
    pub windows: Vec<String>,
    /// When a host may be begun and must have ended, in order and apart from each other. None of them: not at all.
    pub stretches: Vec<Stretch>,
    /// What closes in between, in order, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closings: Vec<Closing>,
    /// How long a host is expected to take, with what is kept free for its way back.
    pub needs_ms: u64,
    /// Where `needs_ms` comes from, for people.
    pub estimate: String,
}

/// A blackout or a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// Unix ms of the first moment.
    pub start_ms: u64,
    /// Unix ms of the moment at which it is over.
    pub end_ms: u64,
    /// What it is, and why.
    pub what: String,
}

/// From a moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Unix ms of the first moment.
    pub start_ms: u64,
    /// Unix ms of the moment at which it is over.
    pub end_ms: u64,
}

/// Why a host is not begun at a time that its windows have now and had not when they were approved.
pub const NOT_APPROVED: &str = "this time was in no window when the plan was approved";

impl Class {
    /// The times that are in both, and what closes the others.
    fn within(&self, bound: &Class) -> Class {
        let mut stretches = Vec::new();
        let mut closings = self.closings.clone();
        for own in &self.stretches {
            let mut from = own.start_ms;
            let shared =
                bound.stretches.iter().filter(|other| other.start_ms < own.end_ms && own.start_ms < other.end_ms);
            for other in shared {
                let start_ms = other.start_ms.max(own.start_ms);
                closings.extend(not_approved(from, start_ms));
                from = other.end_ms.min(own.end_ms);
                stretches.push(Stretch { start_ms, end_ms: from });
            }
            closings.extend(not_approved(from, own.end_ms));
        }
        closings.sort_by_key(|closing| closing.start_ms);
        Class { stretches, closings, ..self.clone() }
    }
}

fn not_approved(start_ms: u64, end_ms: u64) -> Option<Closing> {
    (start_ms < end_ms).then(|| Closing { start_ms, end_ms, what: NOT_APPROVED.to_owned() })
}

impl Stretch {
    /// Whether the moment lies in it.
    pub fn contains(&self, now_ms: u64) -> bool {
        self.start_ms <= now_ms && now_ms < self.end_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(hosts: &[&str], stretches: &[(u64, u64)]) -> Class {
        Class {
            hosts: hosts.iter().map(|host| HostName::from(*host)).collect(),
            windows: vec!["nights".into()],
            stretches: stretches.iter().map(|&(start_ms, end_ms)| Stretch { start_ms, end_ms }).collect(),
            closings: Vec::new(),
            needs_ms: 5,
            estimate: String::new(),
        }
    }

    fn permit(classes: &[Class]) -> Permit {
        Permit { windows: None, classes: classes.to_vec(), closed: None }
    }

    fn times(permit: &Permit, host: &str) -> Option<Vec<(u64, u64)>> {
        let class = permit.classes.iter().find(|class| class.hosts.contains(&HostName::from(host)))?;
        Some(class.stretches.iter().map(|one| (one.start_ms, one.end_ms)).collect())
    }

    #[test]
    fn times_that_were_changed_after_they_were_approved_only_take_away() {
        let approved = permit(&[class(&["a", "b"], &[(10, 20), (30, 40)]), class(&["c"], &[(0, 100)])]);
        let now = permit(&[class(&["a"], &[(5, 15), (18, 35)]), class(&["c", "d"], &[(50, 200)])]);
        let both = now.within(&approved);
        assert_eq!(times(&both, "a"), Some(vec![(10, 15), (18, 20), (30, 35)]));
        assert_eq!(times(&both, "b"), Some(vec![(10, 20), (30, 40)]), "no window is for it any more, and then one was");
        assert_eq!(times(&both, "c"), Some(vec![(50, 100)]));
        assert_eq!(times(&both, "d"), Some(vec![(50, 200)]), "it could be begun at any time");
        assert_eq!(times(&both, "e"), None);
        let of = |host: &str| both.classes.iter().find(|class| class.hosts.contains(&HostName::from(host))).unwrap();
        let closed: Vec<(u64, u64)> = of("a").closings.iter().map(|one| (one.start_ms, one.end_ms)).collect();
        assert_eq!(closed, [(5, 10), (20, 30)]);
        assert_eq!(of("c").closings[0], Closing { start_ms: 100, end_ms: 200, what: NOT_APPROVED.to_owned() });
        assert_eq!(approved.within(&approved), approved);
        assert_eq!(approved.within(&Permit::default()), approved);
        let shut = Permit { closed: Some("why".into()), ..Permit::default() };
        assert_eq!(now.within(&shut).closed.as_deref(), Some("why"));
    }
}
