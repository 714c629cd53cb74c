//! Packages of the other family on a lab host: real `dnf` and `rpm`, with a repository of the host's own.

use std::fmt::Write as _;

use super::{Error, LabHost, Update};

const SETUP: &str = r"
mkdir -p /etc/rpm /etc/yum.repos.d /etc/dnf/vars /var/lib/lab-rpm /var/tmp/rpm
rm -f /etc/yum.repos.d/*
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
printf '[main]\ngpgcheck=0\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\nplugins=0\n' >/etc/dnf/dnf.conf
echo 12 >/etc/dnf/vars/releasever
printf '[lab]\nname=lab\nbaseurl=file:///var/lib/lab-rpm\nenabled=1\nmetadata_expire=0\n' >/etc/yum.repos.d/lab.repo
rpm --initdb
";

impl LabHost {
    /// Makes it a host of the other family: `dnf` with an empty repository and an empty data base of packages, the
    /// release file that they have, and none of Debian's programs for packages.
    ///
    /// # Errors
    /// When a package cannot be built.
    pub fn become_fedora(&self) -> Result<(), Error> {
        self.sh(SETUP);
        // Packages ask for it, and no other one has it.
        self.build_rpm("base", "1.0", "Provides: /bin/sh", "", "")?;
        self.build_rpm("glibc", "2.36", "", "", "")?;
        self.offer_rpms();
        self.sh("dnf -q -y install base glibc >/dev/null
             printf 'ID=fedora\\nID_LIKE=\\nVERSION_ID=40\\nNAME=\"Lab\"\\n' >/etc/os-release
             mkdir -p /root/debian
             mv /usr/bin/apt-get /usr/bin/dpkg /root/debian/");
        Ok(())
    }

    /// Offers an edition of the service `fileshare` as an RPM in the host's repository; earlier ones stay there. With the
    /// one that breaks the service it does not start at all.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn publish_rpm(&self, update: Update) -> Result<(), Error> {
        let version = update.version().trim_end_matches("-1");
        let line = if update == Update::BreaksService { "listen nowhere;" } else { "listen 127.0.0.1:8080;" };
        let fails =
            if update == Update::FailsToInstall { "%pretrans -p <lua>\nerror('the migration failed')\n" } else { "" };
        let files = format!(
            "mkdir -p %{{buildroot}}/etc/fileshare %{{buildroot}}/usr/bin %{{buildroot}}/usr/lib/systemd/system\n\
             printf 'user www-data;\\npid /run/fileshare.pid;\\nerror_log /var/log/fileshare.log;\\nevents {{}}\\nhttp {{ access_log off; server {{ {line} root /srv/data; }} }}\\n' >%{{buildroot}}/etc/fileshare/nginx.conf\n\
             printf '# of {version}\\nowner=nobody\\n' >%{{buildroot}}/etc/fileshare/site.conf\n\
             printf '#!/bin/sh\\necho {version}\\n' >%{{buildroot}}/usr/bin/fileshare-version\n\
             printf '[Service]\\nType=forking\\nPIDFile=/run/fileshare.pid\\nExecStart=/usr/sbin/nginx -c /etc/fileshare/nginx.conf\\nExecReload=/bin/kill -HUP $MAINPID\\n' >%{{buildroot}}/usr/lib/systemd/system/fileshare.service\n"
        );
        let list = format!(
            "%config /etc/fileshare/nginx.conf\n%config(noreplace) /etc/fileshare/site.conf\n\
             %attr(755,root,root) /usr/bin/fileshare-version\n/usr/lib/systemd/system/fileshare.service\n{fails}\
             %posttrans\n[ ! -d /run/systemd/system ] || {{ systemctl daemon-reload; systemctl restart fileshare; }}\n"
        );
        self.build_rpm("fileshare", version, "", &files, &list)?;
        self.offer_rpms();
        Ok(())
    }

    /// Offers all packages that lie in `/var/lib/lab-rpm`, to be seen at once: dnf counts the age of what it knows in
    /// whole seconds, and takes what it read within this one for the newest.
    pub fn offer_rpms(&self) {
        self.sh("createrepo_c -q /var/lib/lab-rpm; dnf -q clean expire-cache");
    }

    fn build_rpm(&self, name: &str, version: &str, head: &str, install: &str, list: &str) -> Result<(), Error> {
        let mut spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: {name}\nLicense: MIT\nBuildArch: noarch\nAutoReqProv: no\n{head}\n"
        );
        let _ = write!(spec, "%description\n{name} of the lab\n%install\n{install}\n%files\n{list}\n");
        let path = format!("/var/tmp/rpm/{name}-{version}.spec");
        super::write(&self.path(&path), &spec)?;
        self.sh(&format!(
            "rpmbuild -bb --quiet --define '_topdir /var/tmp/rpm' --define '_rpmdir /var/lib/lab-rpm' --define '_build_id_links none' {path} 2>/dev/null"
        ));
        Ok(())
    }
}
