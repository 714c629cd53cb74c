//! The shipped runbooks, carried out by the real program on real services under a real systemd: what is good is
//! installed, what is bad is taken back, byte for byte.

use std::process::{Command, Stdio};

use runbook_e2e::action::library;
use runbook_e2e::program::{Project, Said};
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost};

fn lab() -> Option<Lab> {
    lab::require_systemd().then(|| Lab::new(&[HostSpec::new("srv01").disk_mib(1024).systemd()]).unwrap())
}

fn apply(project: &Project, runbook: &str, parameters: &[&str]) -> Said {
    let runbook = library().join(runbook).display().to_string();
    let mut arguments = vec!["apply", &runbook, "--limit", "srv01", "--yes"];
    for parameter in parameters {
        arguments.extend(["-p", parameter]);
    }
    project.run(&arguments)
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
        assert_eq!(files(), before, "{how}");
        assert_eq!(presented(host), "CN=third", "{how}");
        assert_eq!(project.outcomes(), "rolled_back srv01=rolled_back");
    }

    // A service that dies of reading it anew is not there to be told of the old one: it is started again.
    host.sh("mkdir -p /etc/systemd/system/nginx.service.d
             printf '[Service]\\nExecReload=\\nExecReload=/bin/kill -KILL $MAINPID\\n' >/etc/systemd/system/nginx.service.d/dies.conf
             systemctl daemon-reload");
    rotate("second", &[]).expect_code(5);
    host.sh("rm -r /etc/systemd/system/nginx.service.d; systemctl daemon-reload");
    assert_eq!(files(), before);
    assert_eq!(presented(host), "CN=third");

    // What is seen to be bad beforehand touches nothing.
    certificate(host, "short", 3, "rsa:2048");
    rotate("short", &[]).expect_code(3);
    host.sh("cp /root/second.pem /root/mixed.pem; cp /root/third.key /root/mixed.key; ln -s first.pem /root/link.pem");
    rotate("mixed", &[]).expect_code(3);
    rotate("none", &[]).expect_code(3);
    rotate("second", &["certificate=/root/link.pem"]).expect_code(3);
    rotate("second", &["certificate=/root/first.pem"]).expect_code(3);
    assert_eq!(files(), before);
    assert_eq!(presented(host), "CN=third");
}
