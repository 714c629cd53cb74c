//! `serve`.

use std::path::Path;

use crate::arguments::schedule::Serve;
use crate::failure::{Failure, fault};
use crate::output::{self, Output};
use crate::person;
use crate::project::Project;
use crate::serve::Daemon;

/// Runs `serve`.
pub(crate) async fn run(project: &Project, arguments: &Serve, output: Output) -> Result<u8, Failure> {
    let root = project.folder()?;
    if arguments.print_unit {
        let program = std::env::current_exe().map_err(fault)?;
        let account = arguments.user.clone().unwrap_or_else(|| person::operator().name);
        output::data(unit(root, &program, &account)?)?;
        return Ok(0);
    }
    let daemon = Daemon::new(project, output.error_palette, arguments.json_lines);
    if arguments.once { daemon.once().await } else { daemon.watch().await }
}

/// The unit. `KillMode=process`: runs are processes of their own, and go on when the daemon is stopped or replaced.
fn unit(root: &Path, program: &Path, account: &str) -> Result<String, Failure> {
    let word = |path: &Path| -> Result<String, Failure> {
        let text = path.to_str().filter(|text| !text.contains(['\n', '"', '\\']));
        let text = text.ok_or_else(|| {
            Failure::usage("RB0617", format!("{} cannot stand in a unit", path.display()))
                .next("move it to a path without quotes, backslashes and line ends")
        })?;
        // A unit replaces what stands behind `%`, and `$` in a command.
        Ok(text.replace('%', "%%"))
    };
    let (root, program) = (word(root)?, word(program)?.replace('$', "$$"));
    let in_command = root.replace('$', "$$");
    Ok(format!(
        "[Unit]\n\
         Description=runbook: what is scheduled in {root}\n\
         Documentation=man:runbook(1)\n\
         Wants=network-online.target time-sync.target\n\
         After=network-online.target time-sync.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         User={account}\n\
         WorkingDirectory={root}\n\
         ExecStart=\"{program}\" --project \"{in_command}\" serve\n\
         Restart=always\n\
         RestartSec=5\n\
         WatchdogSec=180\n\
         # A run is a process of its own: it goes on when this is stopped or replaced, and is found again.\n\
         KillMode=process\n\
         UMask=0077\n\
         NoNewPrivileges=no\n\
         ProtectSystem=full\n\
         ProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\n\
         ProtectControlGroups=yes\n\
         RestrictRealtime=yes\n\
         LockPersonality=yes\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_in_a_unit_as_it_is() {
        let made = unit(Path::new("/srv/a b%c$d"), Path::new("/usr/bin/runbook"), "maint").unwrap();
        assert!(made.contains("ExecStart=\"/usr/bin/runbook\" --project \"/srv/a b%%c$$d\" serve\n"), "{made}");
        assert!(made.contains("WorkingDirectory=/srv/a b%%c$d\nExec") && made.contains("User=maint\n"), "{made}");
        assert!(unit(Path::new("/srv/\"x"), Path::new("/usr/bin/runbook"), "maint").is_err());
    }
}
