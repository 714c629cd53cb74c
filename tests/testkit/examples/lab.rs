//! A lab to look at: makes one host with the file service, runs the shell texts given as arguments on it (as root) and
//! prints what they say.

#![allow(clippy::print_stdout, reason = "it is an example")]

use runbook_testkit::lab::{HostSpec, Lab};

fn main() {
    let spec = HostSpec::new("fs01");
    let spec = if std::env::var_os("SYSTEMD").is_some() { spec.systemd() } else { spec };
    let lab = Lab::new(&[spec]).expect("a lab");
    let host = lab.host("fs01");
    if let Err(error) = host.install_service() {
        println!("{error}");
    }
    for text in std::env::args().skip(1) {
        println!("{:?}", host.try_sh(&text));
    }
}
