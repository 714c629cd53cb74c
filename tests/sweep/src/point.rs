//! What goes wrong, and where.

use std::fmt;

use runbook_model::Sha256;

use crate::script::STEPS;
use crate::trial::Appends;

/// How the run would end without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// Everything is as it should be.
    Good,
    /// The verification fails on one of the two hosts, which is taken back.
    Bad,
}

/// On which side of a record the program dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What it records has happened, and nothing of it is on disk.
    Before,
    /// It is durable, and nothing that depends on it has begun.
    After,
}

/// What happens to the first host, or to the way to it, while one step stands in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Packets are lost; the cable is mended when the step has had its effect.
    Cut,
    /// Packets are lost until the program has given the connection up.
    Lost,
    /// sshd ends the connection.
    Closed,
    /// The connection is reset at both ends.
    Reset,
    /// sshd and its sessions are stopped until the step has had its effect.
    Frozen,
    /// They are stopped until the program has given the connection up.
    FrozenLong,
    /// Every process of the host is stopped until the program has given the connection up.
    Paused,
    /// The disk is full when the step is to have its effect, and until that step's end is on record.
    Full,
    /// The host's clock is stepped by an hour, forward.
    HostAhead,
    /// The same, back.
    HostBehind,
    /// The clock of the machine on which the program runs is stepped by an hour, forward.
    OwnAhead,
    /// The same, back.
    OwnBehind,
    /// The host restarts.
    Reboot,
}

const FAULTS: [(Fault, &str); 13] = [
    (Fault::Cut, "cut"),
    (Fault::Lost, "lost"),
    (Fault::Closed, "closed"),
    (Fault::Reset, "reset"),
    (Fault::Frozen, "frozen"),
    (Fault::FrozenLong, "frozen-long"),
    (Fault::Paused, "paused"),
    (Fault::Full, "full"),
    (Fault::HostAhead, "host-ahead"),
    (Fault::HostBehind, "host-behind"),
    (Fault::OwnAhead, "own-ahead"),
    (Fault::OwnBehind, "own-behind"),
    (Fault::Reboot, "reboot"),
];

/// One thing that goes wrong at one place of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The program is killed at a record of the ledger, counted from 0.
    Kill(Variant, Side, u64),
    /// Every process that works on the run is killed as soon as so many of its appends are durable.
    Lives(Variant, u64),
    /// Something happens to a host in the middle of the step (a place in [`STEPS`]).
    Fault(Fault, usize),
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = |variant: &Variant| match variant {
            Variant::Good => "good",
            Variant::Bad => "bad",
        };
        match self {
            Self::Kill(kind, Side::Before, record) => write!(out, "kill/{}/before/{record}", variant(kind)),
            Self::Kill(kind, Side::After, record) => write!(out, "kill/{}/after/{record}", variant(kind)),
            Self::Lives(kind, appends) => write!(out, "lives/{}/{appends}", variant(kind)),
            Self::Fault(fault, step) => write!(out, "{}/{}", fault.name(), STEPS[*step]),
        }
    }
}

impl Fault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Fault> {
        FAULTS.iter().map(|(fault, _)| *fault)
    }

    /// Its name in a point's name.
    pub fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, _)| *fault == self).map_or("?", |(_, name)| name)
    }
}

impl Point {
    /// What points are counted together: the name but for the place.
    pub fn kind(&self) -> String {
        let name = self.to_string();
        name.rsplit_once('/').map_or(name.clone(), |(kind, _)| kind.to_owned())
    }

    /// How the run would end without the fault.
    pub fn variant(&self) -> Variant {
        match self {
            Self::Kill(variant, ..) | Self::Lives(variant, _) => *variant,
            Self::Fault(..) => Variant::Good,
        }
    }
}

/// How many appends a process lives in [`Point::Lives`]. With fewer than these, three in a row can die in the same read-only
/// step; it is then given up, and its host is blocked or taken back, as after any three unknown outcomes.
const LIVES: [u64; 4] = [5, 7, 9, 12];

/// Every point. `good` and `bad` say which records went into which append of a run without a fault: the program is killed
/// before the first and after the last of each, because nobody can die between two records of one append.
pub fn all(good: &Appends, bad: &Appends) -> Vec<Point> {
    let mut points = Vec::new();
    for (variant, appends) in [(Variant::Good, good), (Variant::Bad, bad)] {
        for (first, end) in appends {
            points.push(Point::Kill(variant, Side::Before, *first));
            points.push(Point::Kill(variant, Side::After, end - 1));
        }
        points.extend(LIVES.map(|appends| Point::Lives(variant, appends)));
    }
    for (fault, _) in FAULTS {
        points.extend((0..STEPS.len()).map(|step| Point::Fault(fault, step)));
    }
    points
}

/// `count` of the points, chosen by the seed alone; in an order that has nothing to do with theirs.
pub fn sample(mut points: Vec<Point>, seed: &str, count: usize) -> Vec<Point> {
    points.sort_by_cached_key(|point| Sha256::of(format!("{seed} {point}").as_bytes()));
    points.truncate(count);
    points
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let (good, bad) = (vec![(0, 5), (5, 6)], vec![(0, 4), (4, 5), (5, 9)]);
        let points = all(&good, &bad);
        let names: BTreeSet<String> = points.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), points.len());
        assert_eq!(points.len(), 2 * (2 + 3) + 2 * LIVES.len() + FAULTS.len() * STEPS.len());
    }

    #[test]
    fn a_seed_chooses_the_same_points_each_time_and_another_seed_others() {
        let chosen = |seed| sample(all(&vec![(0, 5)], &vec![(0, 4)]), seed, 10);
        assert_eq!(chosen("one"), chosen("one"));
        assert_ne!(chosen("one"), chosen("two"));
        assert_eq!(chosen("one").len(), 10);
    }
}
