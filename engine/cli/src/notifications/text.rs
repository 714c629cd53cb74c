//! What a message says: by the program itself, or by the project's template.

use std::path::Path;

use handlebars::Handlebars;
use runbook_model::news::NewsKind;
use runbook_model::plan::Tier;
use runbook_model::units::rfc3339_ms;
use runbook_model::{HostOutcome, News, RunOutcome};
use runbook_report::list::short;
use runbook_report::text::count;
use serde_json::json;

/// The largest template that is read.
const TEMPLATE_BYTES_MAX: u64 = 64 << 10;
/// Characters of what a template makes, at most.
const CHARACTERS_MAX: usize = 20_000;

/// A subject and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wording {
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl Wording {
    /// By the template, when there is one. When it fails, what the program says of itself, with a line that says so:
    /// news is not kept back because of its form.
    pub(crate) fn of(news: &News, template: Option<&Path>) -> Self {
        let own = Self::own(news);
        let Some(path) = template else { return own };
        match by_template(path, news) {
            Ok(wording) => wording,
            Err(why) => Self { text: format!("{}\n\n(the template was not used: {why})", own.text), ..own },
        }
    }

    /// What the program says of itself.
    fn own(news: &News) -> Self {
        let what = if news.title.is_empty() { news.runbook.clone() } else { news.title.clone() };
        let what = if what.is_empty() { "runbook".to_owned() } else { what };
        let check = match (news.check_only, news.rehearses) {
            (true, _) => "check of ",
            (false, true) => "rehearsal of ",
            (false, false) => "",
        };
        let subject = format!("{}: {check}{what}", headline(news));
        let mut lines = Vec::new();
        let mut fact = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                lines.push(format!("{:<10}{value}", format!("{key}:")));
            }
        };
        fact("runbook", Some(news.runbook.clone()));
        fact("tier", news.tier.map(Tier::name).map(str::to_owned));
        fact("when", Some(rfc3339_ms(news.at_ms)));
        fact("due", news.due_ms.map(rfc3339_ms));
        fact("schedule", news.schedule.clone());
        let counts: Vec<String> =
            news.counts.iter().map(|(word, n)| format!("{n} {}", word.replace('_', " "))).collect();
        let hosts = news.hosts.map(|hosts| count(usize::try_from(hosts).unwrap_or(usize::MAX), "host"));
        fact("hosts", hosts.map(|hosts| [vec![hosts], counts].concat().join(", ")));
        fact("operator", news.operator.clone());
        fact("ticket", news.ticket.clone());
        fact("run", news.run.as_ref().map(|run| format!("{} on {}", run, news.controller)));
        fact("plan", news.plan_sha256.map(|digest| format!("sha256:{digest}")));
        fact("exit code", news.exit_code.map(|code| code.to_string()));
        for (title, texts) in [("", &news.lines), ("What to do", &news.next)] {
            if texts.is_empty() {
                continue;
            }
            lines.push(String::new());
            if !title.is_empty() {
                lines.push(format!("{title}:"));
            }
            lines.extend(texts.iter().map(|text| format!("- {text}")));
        }
        Self { subject, text: lines.join("\n") }
    }
}

fn headline(news: &News) -> String {
    let outcome = |outcome: RunOutcome| match outcome {
        // Whether it proves what it was for is for the record to say; the exit code here says it too.
        HostOutcome::RolledBack if news.rehearses && news.exit_code == Some(0) => "rehearsed".to_owned(),
        HostOutcome::Succeeded => "done".to_owned(),
        other => other.name().replace('_', " ").to_uppercase(),
    };
    match news.kind {
        NewsKind::Upcoming => "upcoming".into(),
        NewsKind::Started => "started".into(),
        NewsKind::Ended => news.outcome.map_or_else(|| "ended".into(), outcome),
        NewsKind::Refused => "REFUSED".into(),
        NewsKind::Missed => "MISSED".into(),
        NewsKind::Suspended => match news.outcome {
            Some(how) => format!("WAITS FOR AN OPERATOR ({})", outcome(how)),
            None => "WAITS FOR AN OPERATOR".into(),
        },
        NewsKind::Died => "INTERRUPTED".into(),
        NewsKind::ReviewDue => "REVIEW DUE".into(),
        NewsKind::Test => "test".into(),
    }
}

/// All that a template can name. What there is not is an empty text, so that a template can ask for it.
fn values(news: &News) -> serde_json::Value {
    let own = Wording::own(news);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    json!({
        "kind": news.kind.name(),
        "subject": own.subject,
        "text": own.text,
        "at": rfc3339_ms(news.at_ms),
        "due": news.due_ms.map(rfc3339_ms).unwrap_or_default(),
        "runbook": news.runbook,
        "title": news.title,
        "tier": news.tier.map(Tier::name).unwrap_or_default(),
        "plan": news.plan_sha256.map(|digest| digest.to_string()).unwrap_or_default(),
        "hosts": news.hosts.unwrap_or_default(),
        "schedule": text(&news.schedule),
        "run": news.run.as_ref().map(ToString::to_string).unwrap_or_default(),
        "run_short": news.run.as_ref().map(|run| short(run.as_str()).to_owned()).unwrap_or_default(),
        "check_only": news.check_only,
        "rehearses": news.rehearses,
        "outcome": news.outcome.map(HostOutcome::name).unwrap_or_default(),
        "counts": news.counts,
        "exit_code": news.exit_code.map(|code| code.to_string()).unwrap_or_default(),
        "operator": text(&news.operator),
        "ticket": text(&news.ticket),
        "controller": news.controller,
        "lines": news.lines,
        "next": news.next,
    })
}

/// Renders the template in `path`: its first line is the subject when it begins with `Subject:`, the rest is the text.
///
/// # Errors
/// What is wrong with it, in a sentence.
fn by_template(path: &Path, news: &News) -> Result<Wording, String> {
    let shown = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?.len();
    if length > TEMPLATE_BYTES_MAX {
        return Err(format!("{shown} is larger than 64 KiB"));
    }
    let source = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    // Each channel escapes for itself.
    engine.register_escape_fn(handlebars::no_escape);
    let rendered = engine
        .render_template(&source, &values(news))
        .map_err(|error| format!("{shown}: {}", error.to_string().replace('\n', " ")))?;
    let rendered: String = rendered.chars().take(CHARACTERS_MAX).collect();
    let (subject, text) = match rendered.strip_prefix("Subject:") {
        Some(rest) => rest.split_once('\n').map_or((rest, ""), |(subject, text)| (subject, text)),
        None => ("", rendered.as_str()),
    };
    let subject = match subject.trim() {
        // A mail without one looks like a mistake.
        "" => Wording::own(news).subject,
        subject => subject.to_owned(),
    };
    if rendered.trim().is_empty() {
        return Err(format!("{shown} makes an empty text"));
    }
    let text = text.trim().to_owned();
    Ok(Wording { subject, text })
}

/// Checks a template with news of every kind.
///
/// # Errors
/// What is wrong with it, and with which kind of news.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    for kind in NewsKind::ALL.into_iter().chain([NewsKind::Test]) {
        for full in [true, false] {
            by_template(path, &sample(kind, full))
                .map_err(|why| format!("{why} (with news of kind {})", kind.name()))?;
        }
    }
    Ok(())
}

/// News as an example: with everything that there can be, or with as little as there may be.
pub(crate) fn sample(kind: NewsKind, full: bool) -> News {
    let mut news = News::new(kind, "sample", 1_700_000_000_000);
    news.runbook = "patch-web".into();
    if full {
        news.title = "Patch the web servers".into();
        news.tier = Some(Tier::Routine);
        news.hosts = Some(2);
        news.schedule = Some("monthly".into());
        news.due_ms = Some(1_700_000_000_000);
        news.run = Some("019aab00-0000-7000-8000-000000000001".into());
        news.outcome = Some(HostOutcome::RolledBack);
        news.counts = [("rolled_back".to_owned(), 1), ("succeeded".to_owned(), 1)].into();
        news.exit_code = Some(5);
        news.operator = Some("ada".into());
        news.ticket = Some("CHG-1".into());
        news.controller = "ops01".into();
        news.lines = vec!["rolled back: web2".into()];
        news.next = vec!["mend it and apply again".into()];
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_subject_says_what_became_of_it_and_the_text_what_to_do() {
        let wording = Wording::of(&sample(NewsKind::Ended, true), None);
        assert_eq!(wording.subject, "ROLLED BACK: Patch the web servers");
        for wanted in ["hosts:    2 hosts, 1 rolled back, 1 succeeded", "- rolled back: web2", "What to do:\n- mend it"]
        {
            assert!(wording.text.contains(wanted), "{}", wording.text);
        }
    }

    #[test]
    fn a_template_has_all_names_whatever_the_news() {
        let file = template(
            "Subject: [{{tier}}] {{runbook}} {{outcome}}\n\n{{#each counts}}{{@key}}={{this}} {{/each}}\n{{text}}\n{{#if ticket}}{{ticket}}{{/if}}",
        );
        assert_eq!(check(file.path()), Ok(()));
        let wording = Wording::of(&sample(NewsKind::Ended, true), Some(file.path()));
        assert_eq!(wording.subject, "[routine] patch-web rolled_back");
        assert!(
            wording.text.starts_with("rolled_back=1 succeeded=1") && wording.text.ends_with("CHG-1"),
            "{wording:?}"
        );
    }

    #[test]
    fn a_template_that_fails_keeps_no_news_back_and_check_says_why() {
        for (text, wanted) in [("{{runbok}}", "runbok"), ("{{#if runbook}}", "if"), ("  \n", "empty text")] {
            let file = template(text);
            assert!(check(file.path()).unwrap_err().contains(wanted), "{text}");
            let wording = Wording::of(&sample(NewsKind::Ended, true), Some(file.path()));
            assert!(wording.text.contains("rolled back: web2") && wording.text.contains("was not used"), "{wording:?}");
        }
        assert!(check(Path::new("/nowhere")).unwrap_err().contains("cannot be read"));
    }
}
