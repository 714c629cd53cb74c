//! A lab to look at: makes one host with the file service, runs the shell texts given as arguments on it (as root) and
//! prints what they say.

#![allow(clippy::print_stdout, reason = "it is an example")]

use runbook_testkit::lab::Lab;

fn main() {
    let lab = Lab::with_hosts(&["fs01"]).expect("a lab");
    let host = lab.host("fs01");
    if let Err(error) = host.install_service() {
        println!("{error}");
    }
    for text in std::env::args().skip(1) {
        println!("{:?}", host.try_sh(&text));
    }
}
