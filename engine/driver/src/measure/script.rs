//! The texts that are sent to a host's `sh`. Pure.
//!
//! The list: records that end with NUL, so that any name can stand in them. First `@time SECONDS`; then for each path
//! `KIND⇥MODE⇥OWNER⇥GROUP⇥BYTES⇥MTIME⇥CTIME⇥INODE⇥PATH` and, as a record of its own, the target when it is a link (else
//! empty); then `@acl` with what getfacl prints, `@services` with what systemctl shows, and `@end`.
//!
//! The hash: paths on standard input, NUL after each; `sha256sum`'s lines on standard output.

use std::fmt::Write as _;

use runbook_model::shell::quote_posix;

use super::globs::Globs;

/// The exit code with which a script says that the host lacks what it needs.
pub const UNABLE: i32 = 64;

const GNU: &str = r#"
walk() { find "$@" -printf '%y\t%m\t%u\t%g\t%s\t%T@\t%C@\t%i\t%p\0%l\0'; }
"#;

/// `stat` prints one line for each argument, in order, so names never have to be read back. When one of them has just
/// vanished the lines would be out of step: then one by one.
const PLAIN: &str = r#"
one='
t=$(printf "\t")
form="%f$t%a$t%U$t%G$t%s$t%Y$t%Z$t%i"
show() {
  l=
  if [ -h "$2" ]; then l=$(readlink -- "$2"; echo x); l=${l%x}; l=${l%?}; fi
  printf "%s\t%s\0%s\0" "$1" "$2" "$l"
}
if m=$(stat -c "$form" -- "$@" 2>/dev/null); then
  printf "%s\n" "$m" | for f do IFS= read -r line; show "$line" "$f"; done
else
  for f do if line=$(stat -c "$form" -- "$f" 2>/dev/null); then show "$line" "$f"; fi; done
fi'
walk() { find "$@" -exec sh -c "$one" sh {} +; }
"#;

const COMMON: &str = r#"
unable() { printf '%s\n' "$1" >&2; exit 64; }
command -v find >/dev/null 2>&1 || unable 'there is no `find` on the host'
command -v sha256sum >/dev/null 2>&1 || command -v shasum >/dev/null 2>&1 || unable 'there is no `sha256sum` on the host'
printf '@time %s\0' "$(date +%s)"
acl=no
if command -v getfacl >/dev/null 2>&1 && command -v xargs >/dev/null 2>&1; then acl=yes; fi
each() {
  p=$1; shift
  if [ -h "$p" ] && [ -d "$p" ]; then
    "$how" "$p" -maxdepth 0
    "$how" "$p/" -mindepth 1 "$@"
  elif [ -e "$p" ] || [ -h "$p" ]; then
    "$how" "$p" "$@"
  fi
}
facl() { find "$@" ! -type l -print0 | xargs -0 getfacl -p -s -n -E -- 2>/dev/null; }
"#;

const SERVICES: &str = r#"
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
  units=$(systemctl list-units --type=service --state=running --no-legend --no-pager --plain | cut -d ' ' -f 1)
  printf '@services\n'
  [ -z "$units" ] || systemctl show --no-pager -p Id -p UnitFileState -- $units
  printf '\0'
fi
"#;

/// Lists paths. With `plain`, without what only GNU find has, even where it is.
pub fn list(globs: &Globs, services: bool, plain: bool) -> String {
    let mut text = String::from(COMMON);
    let gnu_test = if plain { "false" } else { "find /dev/null -maxdepth 0 -printf '' >/dev/null 2>&1" };
    let _ = write!(text, "if {gnu_test}; then\n{GNU}\nelse\nstat -c %f / >/dev/null 2>&1 || ");
    let _ = writeln!(text, "unable 'neither GNU find nor `stat -c` is on the host'\n{PLAIN}\nfi");
    let _ = write!(text, "all() {{\n:\n");
    for root in globs.roots() {
        let mut line = format!("each {}", quote_posix(&root.path));
        if let Some(depth) = root.depth {
            // Folders on the way are not meant, and looking at them does no harm.
            let _ = write!(line, " -maxdepth {depth}");
        }
        if root.path == "/" {
            line.push_str(r" \( -path /proc -o -path /sys -o -path /dev -o -path /run \) -prune -o");
        }
        let _ = writeln!(text, "{line}");
    }
    text.push_str("}\nhow=walk; all\n");
    text.push_str("if [ $acl = yes ]; then printf '@acl\\n'; how=facl; all; printf '\\0'; fi\n");
    if services {
        text.push_str(SERVICES);
    }
    text.push_str("printf '@end\\0'\nexit 0\n");
    text
}

/// Hashes the files named on standard input.
pub fn hash() -> &'static str {
    r#"
if command -v sha256sum >/dev/null 2>&1; then xargs -0 sha256sum --
else xargs -0 shasum -a 256 --; fi
exit 0
"#
}
