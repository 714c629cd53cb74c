//! The shipped runbooks, carried out by the real program on real services under a real systemd: what is good is
//! installed, what is bad is taken back, byte for byte.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use runbook_e2e::action::library;
use runbook_e2e::program::{Project, Said};
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost, Update};

fn lab() -> Option<Lab> {
    lab::require_systemd().then(|| Lab::new(&[HostSpec::new("srv01").disk_mib(3072).systemd()]).unwrap())
}

fn apply(project: &Project, runbook: &str, parameters: &[&str]) -> Said {
    let runbook = library().join(runbook).display().to_string();
    let mut arguments = vec!["apply", &runbook, "--limit", "srv01", "--yes"];
    for parameter in parameters {
        arguments.extend(["-p", parameter]);
    }
    project.run(&arguments)
}

// Two texts of many lines; what differs is told, and no more.
#[track_caller]
fn same(now: &str, before: &str) {
    let only = |a: &str, b: &str| {
        let b: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(now == before, "before:\n{}now:\n{}", only(before, now), only(now, before));
}

const CERTIFICATE: &str = "/etc/ssl/certs/server.pem";
const KEY: &str = "/etc/ssl/private/server.key";

// A self-signed certificate and its key, below /root.
fn certificate(host: &LabHost, name: &str, days: u32, key: &str) {
    host.sh(&format!(
        "openssl req -x509 -newkey {key} -nodes -keyout /root/{name}.key -out /root/{name}.pem -days {days} -subj /CN={name} 2>/dev/null"
    ));
}

// What the service presents to a client on another machine, as a client of another make sees it.
fn presented(host: &LabHost) -> String {
    let connect = format!("{}:443", host.address());
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &connect])
        .stdin(Stdio::null())
        .output()
        .expect("openssl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or("nothing").trim().replace(' ', "")
}

// nginx with TLS and a first certificate, whose key a second account may read.
fn start_tls(host: &LabHost) {
    certificate(host, "first", 30, "rsa:2048");
    host.sh(&format!(
        "rm -rf /etc/nginx/conf.d/* /etc/nginx/sites-enabled/*
         mkdir -p /etc/ssl/private; chmod 710 /etc/ssl/private
         cp /root/first.pem {CERTIFICATE}; cp /root/first.key {KEY}
         chmod 640 {KEY}; chgrp www-data {KEY}; setfacl -m u:maint:r {KEY}
         echo 'server {{ listen 443 ssl; ssl_certificate {CERTIFICATE}; ssl_certificate_key {KEY}; root /srv; }}' >/etc/nginx/conf.d/lab.conf
         systemctl start nginx"
    ));
    assert_eq!(presented(host), "CN=first");
}

#[test]
fn a_certificate_is_rotated_and_a_bad_one_is_taken_back() {
    let Some(lab) = lab() else { return };
    let host = lab.host("srv01");
    start_tls(host);
    let project = Project::with_lab(&lab);
    let rotate = |name: &str, more: &[&str]| {
        let new = [format!("new_certificate=/root/{name}.pem"), format!("new_key=/root/{name}.key")];
        let parameters: Vec<&str> = new.iter().map(String::as_str).chain(more.iter().copied()).collect();
        apply(&project, "rotate-certificate.yaml", &parameters)
    };
    let files = || host.fingerprint(&[CERTIFICATE, KEY, "/etc/ssl/private", "/etc/nginx"]);
    let rights = || host.sh(&format!("stat -c '%a %U:%G' {CERTIFICATE} {KEY}; getfacl {KEY} 2>/dev/null"));

    // Good ones, both ways of letting the service read it.
    let (process, before) = (host.sh("systemctl show --property=MainPID --value nginx"), rights());
    for (name, how) in [("second", "how=reload"), ("third", "how=restart")] {
        certificate(host, name, 30, "rsa:2048");
        rotate(name, &[how]).expect_code(0);
        assert_eq!(presented(host), format!("CN={name}"));
        assert_eq!(
            host.sh(&format!("cat {CERTIFICATE} {KEY}")),
            host.sh(&format!("cat /root/{name}.pem /root/{name}.key"))
        );
        assert_eq!(rights(), before, "who may read them stays");
        let kept = host.sh("systemctl show --property=MainPID --value nginx") == process;
        assert_eq!(kept, how == "how=reload");
    }

    // What nginx does not take: it passes for a certificate, and its key is too short.
    certificate(host, "weak", 30, "rsa:1024");
    let before = files();
    for how in ["how=reload", "how=restart"] {
        rotate("weak", &[how]).expect_code(5);
        same(&files(), &before);
        assert_eq!(presented(host), "CN=third", "{how}");
        assert_eq!(project.outcomes(), "rolled_back srv01=rolled_back");
    }

    // A service that dies of reading it anew is not there to be told of the old one: it is started again.
    host.sh("mkdir -p /etc/systemd/system/nginx.service.d
             printf '[Service]\\nExecReload=\\nExecReload=/bin/kill -KILL $MAINPID\\n' >/etc/systemd/system/nginx.service.d/dies.conf
             systemctl daemon-reload");
    rotate("second", &[]).expect_code(5);
    host.sh("rm -r /etc/systemd/system/nginx.service.d; systemctl daemon-reload");
    same(&files(), &before);
    assert_eq!(presented(host), "CN=third");

    // What is seen to be bad beforehand touches nothing.
    certificate(host, "short", 3, "rsa:2048");
    rotate("short", &[]).expect_code(3);
    host.sh("cp /root/second.pem /root/mixed.pem; cp /root/third.key /root/mixed.key; ln -s first.pem /root/link.pem");
    rotate("mixed", &[]).expect_code(3);
    rotate("none", &[]).expect_code(3);
    rotate("second", &["certificate=/root/link.pem"]).expect_code(3);
    rotate("second", &["certificate=/root/first.pem"]).expect_code(3);
    same(&files(), &before);
    assert_eq!(presented(host), "CN=third");
}

// A real PostgreSQL with data, and a backup of it.
struct Postgres<'a> {
    host: &'a LabHost,
    major: String,
}

// An edition of the package that is installed, made from it.
#[derive(Clone, Copy)]
enum Minor {
    // The same programs, which call themselves .90.
    Good,
    // A server that tells its version, .91, and does not start.
    DoesNotStart,
}

impl<'a> Postgres<'a> {
    fn start(host: &'a LabHost) -> Self {
        let major = host.sh("basename /usr/lib/postgresql/*").trim().to_owned();
        host.sh(&format!(
            "rm -rf /etc/postgresql/* /var/lib/postgresql/*
             install -d -o root -g postgres -m 1775 /var/log/postgresql
             pg_createcluster {major} main --port=5432 -- --data-checksums >/dev/null
             systemctl daemon-reload
             systemctl start postgresql"
        ));
        let postgres = Self { host, major };
        postgres.sql("create table parts (id integer primary key, name text, drawing bytea)");
        postgres
            .sql("insert into parts select n, 'part ' || n, sha256(n::text::bytea) from generate_series(1, 5000) as n");
        host.sh("borg init -e none /root/backup 2>/dev/null
                 su postgres -c 'pg_dump postgres' | borg create /root/backup::first - 2>/dev/null");
        postgres
    }

    fn sql(&self, text: &str) -> String {
        self.host.sh(&format!("su postgres -c \"psql -XAtq -d postgres -c \\\"{text}\\\"\""))
    }

    // Publishes an edition in the host's archive.
    fn publish(&self, minor: Minor) {
        let (number, change) = match minor {
            Minor::Good => ("90", ""),
            // Its version is all that it tells.
            Minor::DoesNotStart => (
                "91",
                "printf '#!/bin/sh\\ncase $1 in --version | -V) echo \"postgres (PostgreSQL) $major.91\" ;; *) echo out of luck >&2; exit 1 ;; esac\\n' >$bin/postgres",
            ),
        };
        self.host.sh(&format!(
            "major={major}; package=postgresql-$major
             mkdir -p /var/tmp/edition; cd /var/tmp/edition
             [ -d tree ] || {{ dpkg-repack --generate $package >/dev/null 2>&1; mv dpkg-repack* tree; }}
             bin=tree/usr/lib/postgresql/$major/bin
             minor=$($bin/postgres --version | sed \"s/.*(PostgreSQL) $major\\.\\([0-9]*\\).*/\\1/\")
             # Two digits each, so that nothing moves.
             [ ${{#minor}} -eq 2 ]
             sed -i \"s/$major\\.$minor/$major.{number}/g\" $bin/*
             sed -i 's/^Version: .*/Version: {major}.{number}-0/' tree/DEBIAN/control
             {change}
             dpkg-deb -Zgzip -z1 -b tree /var/lib/lab-repo/$package.{number}.deb >/dev/null",
            major = self.major,
        ));
        self.host.offer().unwrap();
    }

    // What must be as before: packages, programs, configuration, and every row.
    fn state(&self) -> String {
        let major = &self.major;
        let programs = format!("/usr/lib/postgresql/{major}/bin");
        let files = self.host.fingerprint(&[&programs, "/etc/postgresql", "/etc/postgresql-common"]);
        format!("{}{files}{}", self.host.packages(), self.data())
    }

    fn data(&self) -> String {
        self.host.sh("su postgres -c 'pg_dump postgres' | grep -v '^.\\(un\\)\\?restrict ' | sha256sum; su postgres -c 'psql -XAtq -d postgres -c \"show server_version\"'")
    }

    fn rows(&self) -> String {
        self.host.sh("su postgres -c \"psql -XAtq -d postgres -c 'select id, name, drawing from parts order by id'\" | sha256sum")
    }

    // The server reads each page and compares it with its checksum.
    fn checksums_fit(&self) {
        let failures = self.sql("select coalesce(sum(checksum_failures), 0) from pg_stat_database");
        assert_eq!(failures.trim(), "0");
        self.host.sh(&format!(
            "systemctl stop postgresql@{major}-main
             su postgres -c '/usr/lib/postgresql/{major}/bin/pg_checksums --check -D /var/lib/postgresql/{major}/main' >/dev/null
             systemctl start postgresql",
            major = self.major
        ));
    }
}

#[test]
fn postgresql_is_upgraded_and_a_bad_release_is_taken_back_with_the_data_whole() {
    let Some(lab) = lab() else { return };
    if !lab::require_programs(&["pg_createcluster", "dpkg-repack", "borg"]) {
        return;
    }
    let host = lab.host("srv01");
    let postgres = Postgres::start(host);
    let major = &postgres.major;
    let project = Project::with_lab(&lab);
    let parameters = [format!("major={major}"), "backup_repository=/root/backup".into(), "backup_tool=borg".into()];
    let upgrade = |more: &[&str]| {
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).chain(more.iter().copied()).collect();
        apply(&project, "upgrade-postgres-minor.yaml", &parameters)
    };
    let rows = postgres.rows();

    // Without a fresh backup nothing begins.
    postgres.publish(Minor::Good);
    let before = postgres.state();
    upgrade(&["backup_max_age=0s"]).expect_code(3);
    same(&postgres.state(), &before);

    upgrade(&[]).expect_code(0);
    assert_eq!(postgres.sql("show server_version").split(' ').next(), Some(format!("{major}.90").as_str()));
    assert_eq!(postgres.rows(), rows);

    postgres.publish(Minor::DoesNotStart);
    let before = postgres.state();
    upgrade(&[]).expect_code(5);
    same(&postgres.state(), &before);
    assert_eq!(project.outcomes(), "rolled_back srv01=rolled_back");
    assert_eq!(postgres.rows(), rows);
    postgres.checksums_fit();
}

#[test]
fn a_host_with_dnf_is_patched_and_a_broken_update_is_taken_back() {
    if !lab::require_programs(&["dnf", "rpm", "rpmbuild", "createrepo_c"]) {
        return;
    }
    let Some(lab) = lab() else { return };
    let host = lab.host("srv01");
    host.become_fedora().unwrap();
    host.fill_data();
    host.publish_rpm(Update::First).unwrap();
    host.sh("dnf -q -y install fileshare >/dev/null; echo owner=me >>/etc/fileshare/site.conf
             systemctl is-active fileshare");
    assert!(host.service_answers());
    let project = Project::with_lab(&lab);
    let state = || {
        let paths = ["/etc/fileshare", "/usr/bin/fileshare-version", "/usr/lib/systemd/system/fileshare.service"];
        let service = host.try_sh("systemctl is-active fileshare").unwrap().stdout;
        format!("{}{}{service}{}", host.sh("rpm -qa | LC_ALL=C sort"), host.fingerprint(&paths), host.service_answers())
    };
    let patch = || apply(&project, "patch-linux.yaml", &["services=fileshare", "min_free=10MiB"]);

    host.publish_rpm(Update::Good).unwrap();
    patch().expect_code(0);
    assert_eq!(host.sh("fileshare-version"), "1.1\n");
    assert!(host.service_answers());

    host.publish_rpm(Update::BreaksService).unwrap();
    let before = state();
    patch().expect_code(5);
    same(&state(), &before);
    assert_eq!(project.outcomes(), "rolled_back srv01=rolled_back");
}
