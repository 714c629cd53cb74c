//! The project's schedule, checked.

use runbook_lang::{Diagnostic, Parsed, ScheduleFile, parse_schedule};
use runbook_model::Sha256;
use runbook_policy::Calendar;
use runbook_policy::schedule::Timetable;
use runbook_report::Palette;

use crate::authority::Windows;
use crate::failure::Failure;
use crate::project::Project;
use crate::{problems, sources};

/// What runs by itself, and when.
pub(crate) struct Scheduled {
    pub(crate) file: ScheduleFile,
    pub(crate) timetable: Timetable,
    pub(crate) sha256: Sha256,
    pub(crate) windows: Option<Windows>,
}

impl Scheduled {
    /// `None` when the project has no `schedule.yaml`.
    pub(crate) fn of(project: &Project, palette: Palette) -> Result<Option<Self>, Failure> {
        let Some((path, bytes)) = sources::of_project(project, "schedule.yaml")? else { return Ok(None) };
        let shown = sources::shown(&path);
        let windows = Windows::of(project, palette)?;
        let calendar = windows.as_ref().map(|windows| &windows.calendar);
        let parsed = schedule(&shown, &bytes, calendar).map_err(|found| problems::failure(&found, &shown, palette))?;
        problems::show(&parsed.warnings, palette);
        let (file, timetable) = parsed.value;
        Ok(Some(Self { file, timetable, sha256: Sha256::of(&bytes), windows }))
    }
}

/// The schedules in the bytes of the file called `name`, with the timetable that they make.
///
/// # Errors
/// All that is wrong with them, rules, zones and windows included.
pub(crate) fn schedule(
    name: &str,
    bytes: &[u8],
    calendar: Option<&Calendar>,
) -> Result<Parsed<(ScheduleFile, Timetable)>, Vec<Diagnostic>> {
    let Parsed { value: file, warnings } = parse_schedule(name, bytes)?;
    match Timetable::new(&file.schedules, calendar) {
        Ok(timetable) => Ok(Parsed { value: (file, timetable), warnings }),
        Err(misfits) => Err(misfits.iter().map(|(name, misfit)| file.misfit(name, misfit.to_string())).collect()),
    }
}
