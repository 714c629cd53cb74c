//! Rows of measurements, and the ratios between them.

use std::fmt::Write as _;

use crate::meter::Cost;

/// What was measured of one competitor, a value per round.
pub(crate) struct Row {
    /// What it is.
    pub(crate) name: String,
    /// Its rounds. A competitor that is too slow for every round has fewer.
    pub(crate) costs: Vec<Cost>,
}

impl Row {
    /// Nothing measured yet.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), costs: Vec::new() }
    }
}

/// Median and range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Of at least one value.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let median = if values.len().is_multiple_of(2) { (values[half - 1] + values[half]) / 2.0 } else { values[half] };
    Some(Spread { median, least, most })
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = |value: f64| match value.abs() {
            v if v >= 100.0 => 0,
            v if v >= 10.0 => 1,
            v if v >= 0.1 => 2,
            _ => 4,
        };
        let number = |value: f64| format!("{value:.*}", digits(value));
        if self.least == self.most {
            return f.write_str(&number(self.median));
        }
        write!(f, "{} [{}–{}]", number(self.median), number(self.least), number(self.most))
    }
}

/// The table: each row's wall and processor time per unit, and the first row's ratio to it, of the same round.
pub(crate) fn table(rows: &[Row], units: f64, unit: &str) -> String {
    let mut text = format!(
        "| | rounds | wall s | CPU s | CPU ms per {unit} | runbook's wall / this | runbook's CPU / this |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let first = &rows[0].costs;
    for row in rows {
        let cell = |value: &dyn Fn(&Cost) -> f64| {
            spread(row.costs.iter().map(value)).map_or_else(|| "–".into(), |spread| spread.to_string())
        };
        let ratio = |value: &dyn Fn(&Cost) -> f64| {
            let ratios = first.iter().zip(&row.costs).map(|(ours, theirs)| value(ours) / value(theirs));
            spread(ratios.filter(|ratio| ratio.is_finite())).map_or_else(|| "–".into(), |spread| spread.to_string())
        };
        let wall = |cost: &Cost| cost.wall_s;
        let cpu = |cost: &Cost| cost.cpu_s;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.costs.len(),
            cell(&wall),
            cell(&cpu),
            cell(&|cost| cost.cpu_s * 1e3 / units),
            ratio(&wall),
            ratio(&cpu),
        );
    }
    text
}
