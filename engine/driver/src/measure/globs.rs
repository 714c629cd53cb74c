//! Which paths are meant: `/usr/sbin/smbd`, `/etc/samba`, `/etc/samba/**`, `/var/log/*.log`.
//!
//! A path without wildcards means the file, or the folder with everything below it. `*`, `?` and `[…]` stay within one
//! folder; `**` crosses folders, and `/x/**` means `/x` itself too.

use globset::{Glob, GlobBuilder, GlobMatcher};

/// A set of patterns.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// The folder or file that holds all of it.
    base: String,
    /// How many folders deep below `base`; `None` without limit.
    depth: Option<usize>,
    matcher: Option<GlobMatcher>,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with `/`.
    #[error("`{0}` is not an absolute path")]
    NotAbsolute(String),
    /// It is no glob.
    #[error("`{pattern}` is not a path pattern: {why}")]
    NotAGlob {
        /// The pattern.
        pattern: String,
        /// Why.
        why: String,
    },
}

/// Where to look for what a set of patterns means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// Absolute path.
    pub path: String,
    /// How many folders deep; `None` without limit.
    pub depth: Option<usize>,
}

impl Globs {
    /// The set of these patterns.
    ///
    /// # Errors
    /// The first pattern that cannot be used.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        patterns.into_iter().map(Pattern::new).collect::<Result<_, _>>().map(|patterns| Self { patterns })
    }

    /// Whether a path is meant.
    pub fn covers(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// Nothing is meant.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Where to look, no place twice.
    pub fn roots(&self) -> Vec<Root> {
        let all: std::collections::BTreeSet<Root> =
            self.patterns.iter().map(|p| Root { path: p.base.clone(), depth: p.depth }).collect();
        let within =
            |inner: &Root, outer: &Root| inner != outer && outer.depth.is_none() && under(&inner.path, &outer.path);
        all.iter().filter(|root| !all.iter().any(|outer| within(root, outer))).cloned().collect()
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, Error> {
        if !text.starts_with('/') {
            return Err(Error::NotAbsolute(text.to_owned()));
        }
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let wild = |name: &&&str| name.contains(['*', '?', '[', '{', '\\']);
        let plain = names.iter().position(|name| wild(&name)).unwrap_or(names.len());
        let base = format!("/{}", names[..plain].join("/"));
        if plain == names.len() {
            return Ok(Self { base, depth: None, matcher: None });
        }
        let rest = &names[plain..];
        let depth = (!rest.iter().any(|name| name.contains("**"))).then_some(rest.len());
        let glob: Glob = GlobBuilder::new(&format!("/{}", names.join("/")))
            .literal_separator(true)
            .build()
            .map_err(|error| Error::NotAGlob { pattern: text.to_owned(), why: error.kind().to_string() })?;
        Ok(Self { base, depth, matcher: Some(glob.compile_matcher()) })
    }

    fn covers(&self, path: &str) -> bool {
        match &self.matcher {
            None => under(path, &self.base),
            Some(matcher) => matcher.is_match(path) || self.folder_itself(matcher, path),
        }
    }

    /// `/x/**` means `/x` too.
    fn folder_itself(&self, matcher: &GlobMatcher, path: &str) -> bool {
        matcher.glob().glob().ends_with("/**") && matcher.is_match(format!("{path}/x"))
    }
}

fn under(path: &str, base: &str) -> bool {
    base == "/" || path == base || path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_and_what_is_not() {
        for (pattern, yes, no) in [
            (
                "/etc/samba/**",
                &["/etc/samba", "/etc/samba/smb.conf", "/etc/samba/a/b"][..],
                &["/etc/sambax", "/etc"][..],
            ),
            ("/usr/sbin/smbd", &["/usr/sbin/smbd"], &["/usr/sbin/smbdx", "/usr/sbin"]),
            ("/etc/samba/", &["/etc/samba", "/etc/samba/x/y"], &["/etc/samba2"]),
            ("/var/log/*.log", &["/var/log/a.log", "/var/log/.log"], &["/var/log/a/b.log", "/var/log"]),
            ("/a/**/b", &["/a/b", "/a/x/y/b"], &["/a/x"]),
            ("/", &["/", "/x"], &[]),
        ] {
            let globs = Globs::new([pattern]).unwrap();
            for path in yes {
                assert!(globs.covers(path), "{pattern} means {path}");
            }
            for path in no {
                assert!(!globs.covers(path), "{pattern} does not mean {path}");
            }
        }
    }

    #[test]
    fn no_place_is_looked_at_twice() {
        let globs = Globs::new(["/etc", "/etc/samba/**", "/var/*/x", "/etcetera", "/var/log/*.log"]).unwrap();
        let roots: Vec<_> = globs.roots().into_iter().map(|root| (root.path, root.depth)).collect();
        let expected = [("/etc", None), ("/etcetera", None), ("/var", Some(2)), ("/var/log", Some(1))];
        assert_eq!(roots, expected.map(|(path, depth)| (path.to_owned(), depth)));
    }

    #[test]
    fn a_relative_path_and_a_broken_glob_are_refused() {
        assert!(matches!(Globs::new(["etc/x"]), Err(Error::NotAbsolute(_))));
        assert!(matches!(Globs::new(["/etc/[x"]), Err(Error::NotAGlob { .. })));
    }
}
