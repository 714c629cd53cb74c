//! A small real service that comes as a Debian package, in a good and in several broken editions.
//!
//! `fileshare` serves `/srv/data` with nginx on port 8080. Its editions are built with dpkg-deb and put into the host's
//! own archive, from which the host's real apt installs them.

use std::fmt::Write as _;
use std::path::Path;

use super::command::must;
use super::{Error, LabHost};

/// An edition of the service's package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// 1.0: what hosts begin with.
    First,
    /// 1.1: works.
    Good,
    /// 1.2: installs well and runs, but serves on another port, and its migration spoils data, permissions and owners.
    BreaksService,
    /// 1.3: spoils data as 1.2 does, then its installation fails half-way, with the service down.
    FailsToInstall,
}

impl Update {
    /// Its version.
    pub fn version(self) -> &'static str {
        match self {
            Update::First => "1.0-1",
            Update::Good => "1.1-1",
            Update::BreaksService => "1.2-1",
            Update::FailsToInstall => "1.3-1",
        }
    }
}

impl LabHost {
    /// Offers an edition in the host's archive; earlier ones stay there. `apt-get update` is left to who needs it.
    ///
    /// # Errors
    /// When the package cannot be built.
    pub fn publish(&self, update: Update) -> Result<(), Error> {
        let version = update.version();
        let tree = self.folder().join(format!("fileshare-{version}"));
        if !tree.exists() {
            write_tree(&tree, update)?;
        }
        let archive = self.path("/var/lib/lab-repo");
        let package = archive.join(format!("fileshare_{version}_all.deb"));
        must("dpkg-deb", ["--root-owner-group".as_ref(), "-b".as_ref(), tree.as_os_str(), package.as_os_str()])?;
        self.offer()
    }

    /// Offers all packages that lie in the host's archive (`/var/lib/lab-repo`). `apt-get update` is left to who needs it.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn offer(&self) -> Result<(), Error> {
        let archive = self.path("/var/lib/lab-repo");
        let mut index = String::new();
        for entry in std::fs::read_dir(&archive).map_err(Error::io("reading the archive"))?.flatten() {
            if entry.path().extension().is_none_or(|extension| extension != "deb") {
                continue;
            }
            let path = entry.path();
            let control = must("dpkg-deb", ["-f".as_ref(), path.as_os_str()])?;
            let sum = must("sha256sum", [path.as_os_str()])?;
            let bytes = entry.metadata().map_err(Error::io("reading the archive"))?.len();
            let _ = write!(
                index,
                "{control}Filename: ./{}\nSize: {bytes}\nSHA256: {}\n\n",
                entry.file_name().to_string_lossy(),
                sum.split(' ').next().unwrap_or_default(),
            );
        }
        super::write(&archive.join("Packages"), &index)
    }

    /// Installs the first edition from the archive, fills `/srv/data` and starts the service.
    ///
    /// # Errors
    /// When the package cannot be built.
    ///
    /// # Panics
    /// When the host cannot install it.
    pub fn install_service(&self) -> Result<(), Error> {
        self.publish(Update::First)?;
        self.fill_data();
        self.sh("apt-get -qq update && apt-get -qq install -y fileshare >/dev/null");
        assert!(self.service_answers(), "a fresh service answers");
        Ok(())
    }

    /// Fills `/srv/data` with files of every kind: modes, owners, access control lists, links, holes, odd names.
    pub fn fill_data(&self) {
        self.sh("cd /srv/data
                 echo 'first report' >report.txt
                 echo 'second report' >'name with spaces.txt'
                 mkdir -p private/deep empty
                 echo secret >private/deep/key.txt
                 chmod 700 private
                 chmod 640 private/deep/key.txt
                 chown maint:maint private/deep/key.txt
                 chmod 2775 empty
                 head -c 300000 /dev/urandom >blob.bin
                 truncate -s 5M hole.bin
                 ln -s report.txt latest
                 ln blob.bin same-blob.bin
                 setfacl -m u:maint:rw,g:www-data:r report.txt
                 setfacl -d -m u:maint:rwx empty
                 printf x >\"$(printf 'line\\nend')\"");
    }

    /// Whether a client on the host gets the report over HTTP.
    pub fn service_answers(&self) -> bool {
        self.try_sh("curl -fsS --max-time 10 http://localhost:8080/report.txt")
            .is_ok_and(|output| output.ok() && output.stdout == "first report\n")
    }
}

const INIT_SCRIPT: &str = r#"#!/bin/sh
### BEGIN INIT INFO
# Provides:          fileshare
# Required-Start:    $network
# Required-Stop:     $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: files over HTTP
### END INIT INFO
PATH=/usr/sbin:/usr/bin:/sbin:/bin
pid=/run/fileshare.pid
case "$1" in
start)
    start-stop-daemon --start --quiet --oknodo --pidfile $pid --exec /usr/sbin/nginx -- -c /etc/fileshare/nginx.conf
    ;;
stop)
    start-stop-daemon --stop --quiet --oknodo --retry 10 --pidfile $pid --exec /usr/sbin/nginx
    rm -f $pid
    ;;
restart|force-reload)
    "$0" stop && "$0" start
    ;;
reload)
    start-stop-daemon --stop --signal HUP --quiet --pidfile $pid --exec /usr/sbin/nginx
    ;;
status)
    # By name: only root may see which file another's process runs.
    if start-stop-daemon --status --pidfile $pid --name nginx; then
        echo "fileshare is running"
    else
        echo "fileshare is not running"
        exit 3
    fi
    ;;
*)
    echo "usage: $0 start|stop|restart|reload|status" >&2
    exit 2
    ;;
esac
"#;

// What the broken editions do to data that they should have left alone.
const MIGRATION: &str = r"
cd /srv/data
tr a-z A-Z <report.txt >report.new && mv report.new report.txt
chmod 0600 blob.bin
chown -R nobody private
rm -rf empty 'name with spaces.txt'
echo left behind >migrated
";

fn write_tree(tree: &Path, update: Update) -> Result<(), Error> {
    let version = update.version();
    let port = if update == Update::BreaksService { 8081 } else { 8080 };
    let migration = match update {
        Update::First | Update::Good => "",
        Update::BreaksService | Update::FailsToInstall => MIGRATION,
    };
    let last = if update == Update::FailsToInstall {
        "service fileshare stop\necho 'fileshare: the migration failed' >&2\nexit 1\n"
    } else {
        "update-rc.d fileshare defaults >/dev/null\ninvoke-rc.d fileshare restart\n"
    };
    let files = [
        (
            "DEBIAN/control",
            0o644,
            format!(
                "Package: fileshare\nVersion: {version}\nArchitecture: all\nMaintainer: Lab <lab@localhost>\n\
                 Description: serves /srv/data over HTTP\n"
            ),
        ),
        ("DEBIAN/conffiles", 0o644, "/etc/fileshare/nginx.conf\n/etc/init.d/fileshare\n".into()),
        ("DEBIAN/postinst", 0o755, format!("#!/bin/sh\nset -e\n[ \"$1\" = configure ] || exit 0\n{migration}{last}")),
        ("DEBIAN/prerm", 0o755, "#!/bin/sh\nset -e\n[ ! -x /etc/init.d/fileshare ] || service fileshare stop\n".into()),
        (
            "DEBIAN/postrm",
            0o755,
            "#!/bin/sh\nset -e\n[ \"$1\" != purge ] || update-rc.d fileshare remove >/dev/null\n".into(),
        ),
        ("etc/init.d/fileshare", 0o755, INIT_SCRIPT.into()),
        (
            "etc/fileshare/nginx.conf",
            0o644,
            format!(
                "user www-data;\npid /run/fileshare.pid;\nerror_log /var/log/fileshare.log;\nworker_processes 1;\n\
                 events {{}}\nhttp {{\n  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n    \
                 root /srv/data;\n  }}\n}}\n"
            ),
        ),
        ("usr/bin/fileshare-version", 0o755, format!("#!/bin/sh\necho {version}\n")),
    ];
    for (name, mode, text) in files {
        let path = tree.join(name);
        let parent = path.parent().expect("each file is in a folder");
        std::fs::create_dir_all(parent).map_err(Error::io(format!("making {}", parent.display())))?;
        super::write(&path, &text)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).map_err(Error::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}
