//! When what ran, as a picture.

use super::markup::{text, wide};
use crate::style::{attempt_tone, words};
use crate::text::{elapsed, time_of_day};
use crate::view::RunView;

/// Hosts that the picture has room for.
const HOSTS_MAX: usize = 60;
/// Its width, of which the names take the first part.
const WIDTH: f64 = 1000.0;
const NAMES: f64 = 150.0;
const ROW: f64 = 22.0;

pub(super) fn section(view: &RunView) -> String {
    let mut out = String::from("<section aria-labelledby=\"timeline\">\n<h2 id=\"timeline\">Timeline</h2>\n");
    let (begin, end) = (view.started_ms(), view.ended_ms.unwrap_or(view.last_ms).max(view.started_ms() + 1));
    let hosts: Vec<_> = view.hosts.iter().filter(|(_, host)| host.started_ms.is_some()).collect();
    if hosts.len() > HOSTS_MAX {
        out.push_str(&format!(
            "<p class=\"dim\">The {HOSTS_MAX} first of {} hosts; each host's section has its times.</p>\n",
            hosts.len()
        ));
    }
    let shown = &hosts[..hosts.len().min(HOSTS_MAX)];
    if shown.is_empty() {
        out.push_str("<p>No host was started.</p>\n</section>\n");
        return out;
    }
    let at = |ms: u64| NAMES + (WIDTH - NAMES) * (ms.saturating_sub(begin) as f64) / ((end - begin) as f64);
    let height = ROW * (shown.len() as f64 + 1.0) + 6.0;
    let mut picture = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" role=\"img\" aria-label=\"When each step \
         ran on each host, from {} to {}\">\n",
        time_of_day(begin),
        time_of_day(end)
    );
    for quarter in 0..=4u64 {
        let ms = begin + (end - begin) * quarter / 4;
        let x = at(ms);
        let anchor = if quarter == 4 { "end" } else { "start" };
        picture.push_str(&format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{ROW}\" y2=\"{height}\" class=\"grid\"/><text x=\"{x:.1}\" y=\"14\" \
             text-anchor=\"{anchor}\" class=\"tick\">{}</text>\n",
            if quarter == 0 { time_of_day(begin) } else { format!("+{}", elapsed(ms - begin)) }
        ));
    }
    for (n, (name, host)) in shown.iter().enumerate() {
        let y = ROW * (n as f64 + 1.0);
        let short: String = name.as_str().chars().take(20).collect();
        picture.push_str(&format!("<text x=\"0\" y=\"{:.1}\" class=\"name\">{}</text>\n", y + 15.0, text(&short)));
        for (id, cell) in &host.steps {
            for attempt in &cell.attempts {
                let until = attempt.report.as_ref().map_or(end, |report| report.ended_ms);
                let (from, to) = (at(attempt.started_ms), at(until.min(end)));
                let class = match attempt.outcome.map(attempt_tone) {
                    Some(crate::style::Tone::Good) => "ok",
                    Some(crate::style::Tone::Bad) => "no",
                    _ => "other",
                };
                let word = attempt.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
                picture.push_str(&format!(
                    "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\" class=\"{class}\"><title>{}: {}, \
                     {}</title></rect>\n",
                    y + 4.0,
                    (to - from).max(1.5),
                    text(id.as_str()),
                    text(&word),
                    elapsed(until.saturating_sub(attempt.started_ms))
                ));
            }
        }
    }
    picture.push_str("</svg>");
    out.push_str(&wide("Timeline", &picture));
    out.push_str("</section>\n");
    out
}
