//! Many points on several fields at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};

use crate::Error;
use crate::field::Field;
use crate::point::{self, Point, Variant};
use crate::trial::{Appends, Trial, Verdict};

/// The program that can be told to die, beside this one or, for a test, beside its folder.
///
/// # Panics
/// When it was not built.
pub fn mortal_program() -> PathBuf {
    let here = std::env::current_exe().expect("a program has a file");
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join("mortal-runbook"));
    beside.into_iter().find(|path| path.exists()).expect("mortal-runbook is built: cargo build -p runbook-sweep")
}

/// Both variants without a fault.
///
/// # Errors
/// When they cannot be carried out.
pub fn references(program: &Path) -> Result<(Appends, Appends), Error> {
    let mut field = Field::new()?;
    let good = Trial::new(&mut field, program)?.reference(Variant::Good)?;
    let bad = Trial::new(&mut field, program)?.reference(Variant::Bad)?;
    Ok((good, bad))
}

/// Every point of the runbook as it is now.
///
/// # Errors
/// When the number of its records cannot be found out.
pub fn all_points(program: &Path) -> Result<Vec<Point>, Error> {
    let (good, bad) = references(program)?;
    Ok(point::all(&good, &bad))
}

/// Tries the points on so many fields at once, and tells each verdict as it comes. A point that could not be tried is
/// a broken law.
///
/// # Errors
/// When no field can be made at all.
pub fn carry_out(
    program: &Path,
    points: Vec<Point>,
    fields: usize,
    mut tell: impl FnMut(&Verdict),
) -> Result<Vec<Verdict>, Error> {
    let queue = Mutex::new(VecDeque::from(points));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (say, hear) = mpsc::channel();
    let mut verdicts = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..fields)
            .map(|_| {
                let say = say.clone();
                let next = &next;
                scope.spawn(move || work(program, next, &say))
            })
            .collect();
        drop(say);
        for verdict in hear {
            tell(&verdict);
            verdicts.push(verdict);
        }
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker reports what goes wrong"))
    })?;
    Ok(verdicts)
}

fn work(program: &Path, next: &impl Fn() -> Option<Point>, say: &mpsc::Sender<Verdict>) -> Result<(), Error> {
    let mut field = None;
    while let Some(point) = next() {
        let mut own = match field.take() {
            Some(own) => own,
            None => Field::new()?,
        };
        let verdict = Trial::new(&mut own, program).and_then(|trial| trial.carry_out(point));
        let verdict = match verdict {
            Ok(verdict) => {
                // What broke a law may have broken the hosts too.
                field = verdict.broken.is_empty().then_some(own);
                verdict
            }
            // Its hosts may be cut off or stand still: they are given up.
            Err(error) => Verdict::untried(point, &error),
        };
        if say.send(verdict).is_err() {
            break;
        }
    }
    Ok(())
}
