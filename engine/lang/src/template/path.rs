//! A name in a template: `param.package`, `steps.probe.json.version`, `this.name`, `@index`.

/// What a name starts from. Levels count `each` blocks outward, 0 is the innermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The names that every text has.
    Root,
    /// The item of an `each` block.
    Item(usize),
    /// Its number from 0, or its key.
    Index(usize),
    /// Whether it is the first.
    First(usize),
    /// Whether it is the last.
    Last(usize),
}

/// A parsed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) base: Base,
    pub(crate) segments: Vec<String>,
}

impl Path {
    /// As people write it, for messages and for the list of names used.
    pub(crate) fn text(&self) -> String {
        let mut text = match self.base {
            Base::Root => String::new(),
            Base::Item(_) => "this".to_owned(),
            Base::Index(_) => "@index".to_owned(),
            Base::First(_) => "@first".to_owned(),
            Base::Last(_) => "@last".to_owned(),
        };
        for segment in &self.segments {
            if !text.is_empty() {
                text.push('.');
            }
            let plain = segment.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
            text.push_str(&if plain { segment.clone() } else { format!("[{segment}]") });
        }
        text
    }
}

/// The names of an `each` block's item and index, when it gives them (`as |item index|`).
#[derive(Debug, Clone, Default)]
pub(crate) struct EachNames {
    pub(crate) item: Option<String>,
    pub(crate) index: Option<String>,
}

/// Reads a path as the template's parser accepted it. `blocks` are the `each` blocks around it, innermost last.
pub(crate) fn parse(raw: &str, blocks: &[EachNames]) -> Result<Path, String> {
    let mut rest = raw;
    let mut root = false;
    let mut up = 0;
    let mut this = false;
    if let Some(after) = rest.strip_prefix("@root") {
        root = true;
        rest = after.strip_prefix(['.', '/']).unwrap_or(after);
    }
    let local = rest.strip_prefix('@');
    rest = local.unwrap_or(rest);
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            up += 1;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("./").or_else(|| rest.strip_prefix("this.")) {
            this = true;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("this/") {
            this = true;
            rest = after;
        } else if rest == "this" || rest == "." {
            this = true;
            rest = "";
        } else {
            break;
        }
    }
    let segments = segments(rest);
    let depth = blocks.len();
    if local.is_some() {
        if up >= depth {
            return Err(format!("@{} means something only inside an each block", segments.join(".")));
        }
        let base = match segments.first().map(String::as_str) {
            Some("index" | "key") => Base::Index(up),
            Some("first") => Base::First(up),
            Some("last") => Base::Last(up),
            _ => return Err(format!("{raw} is not known; each blocks have @index, @key, @first and @last")),
        };
        return Ok(Path { base, segments: segments[1..].to_vec() });
    }
    if this {
        if up >= depth {
            return Err("`this` means something only inside an each block".into());
        }
        return Ok(Path { base: Base::Item(up), segments });
    }
    if up > depth {
        return Err(format!("{raw} goes up further than there are each blocks around it"));
    }
    if !root && up == 0 {
        for (level, names) in blocks.iter().rev().enumerate() {
            let first = segments.first();
            if names.item.as_ref().is_some_and(|name| Some(name) == first) {
                return Ok(Path { base: Base::Item(level), segments: segments[1..].to_vec() });
            }
            if names.index.as_ref().is_some_and(|name| Some(name) == first) {
                return Ok(Path { base: Base::Index(level), segments: segments[1..].to_vec() });
            }
        }
    }
    if segments.is_empty() {
        return Err(format!("{raw} names nothing"));
    }
    Ok(Path { base: Base::Root, segments })
}

fn segments(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            segments.push(inner[..end].to_owned());
            rest = inner.get(end + 1..).unwrap_or("");
        } else {
            let end = rest.find(['.', '/', '[']).unwrap_or(rest.len());
            if end > 0 {
                segments.push(rest[..end].to_owned());
            }
            rest = &rest[end..];
        }
        rest = rest.strip_prefix(['.', '/']).unwrap_or(rest);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_written() {
        let one = [EachNames::default()];
        let named = [EachNames { item: Some("user".into()), index: Some("n".into()) }];
        let table: [(&str, &[EachNames], Base, &[&str]); 10] = [
            ("param.package", &[], Base::Root, &["param", "package"]),
            ("host.labels.[my site]", &[], Base::Root, &["host", "labels", "my site"]),
            ("steps.a-b.json.list.[0].x", &[], Base::Root, &["steps", "a-b", "json", "list", "0", "x"]),
            ("this", &one, Base::Item(0), &[]),
            ("this.name", &one, Base::Item(0), &["name"]),
            ("../param.x", &one, Base::Root, &["param", "x"]),
            ("@root.param.x", &one, Base::Root, &["param", "x"]),
            ("@index", &one, Base::Index(0), &[]),
            ("user.name", &named, Base::Item(0), &["name"]),
            ("n", &named, Base::Index(0), &[]),
        ];
        for (raw, blocks, base, segments) in table {
            let path = parse(raw, blocks).unwrap();
            assert_eq!(path.base, base, "{raw}");
            assert_eq!(path.segments, segments, "{raw}");
        }
    }

    #[test]
    fn names_of_blocks_mean_nothing_outside() {
        for raw in ["this", "this.x", "@index", "../param.x", "@root", "@nonsense"] {
            assert!(parse(raw, &[]).is_err(), "{raw}");
        }
    }
}
