//! A verdict for people.

use super::Verdict;
use crate::style::{Palette, Tone};
use crate::text::escape_line;

impl Verdict {
    /// The verdict in lines: what is wrong first, then what is missing, then what held, then what was not looked at.
    pub fn text(&self, palette: Palette) -> String {
        let tone = match self.code {
            0 | 10 => Tone::Good,
            11..=13 => Tone::Warn,
            _ => Tone::Bad,
        };
        let run = if self.run_id.is_empty() { "unknown" } else { self.run_id.as_str() };
        let mut out = format!(
            "{}  run {} (code {})\n",
            palette.paint(tone, &self.verdict.to_uppercase()),
            escape_line(run.as_bytes()),
            self.code
        );
        let mut section = |key: &str, tone: Tone, lines: &[String]| {
            for line in lines {
                out.push_str(&format!("  {} {}\n", palette.paint(tone, key), escape_line(line.as_bytes())));
            }
        };
        section("wrong:      ", Tone::Bad, &self.problems);
        let gaps: Vec<String> = self
            .gaps
            .iter()
            .map(|gap| {
                let place: Vec<&str> =
                    [gap.host.as_ref().map(|host| host.as_str()), gap.step.as_ref().map(|step| step.as_str())]
                        .into_iter()
                        .flatten()
                        .collect();
                if place.is_empty() { gap.what.clone() } else { format!("{}: {}", place.join("/"), gap.what) }
            })
            .collect();
        section("missing:    ", Tone::Warn, &gaps);
        section("checked:    ", Tone::Good, &self.checked);
        section("not checked:", Tone::Dim, &self.not_checked);
        if let Some(key) = &self.ledger_key {
            section("key:        ", Tone::Dim, std::slice::from_ref(key));
        }
        if let Some(root) = &self.root {
            section("root:       ", Tone::Dim, &[format!("{root} of {} records", self.size)]);
        }
        out
    }
}
