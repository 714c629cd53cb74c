//! Logins by user certificate, as the inventory names it, on hosts that trust an authority and know no key.

use std::path::Path;

use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, Lab};

const RUNBOOK: &str = "schema: runbook/v1\nname: who\nexecute:\n  - {name: Who is it?, run: id -un, idempotent: true}\nirreversible: it changes nothing\n";

// A project whose inventory names the key and the certificate; its ssh_config has no key that the host knows.
fn project(lab: &Lab, certificate: &Path) -> Project {
    let project = Project::with_lab(lab);
    let keys =
        format!("  fs01: {{identity: {}, certificate: {}, ", lab.certified_identity().display(), certificate.display());
    project.write("inventory.yaml", &lab.inventory().replace("  fs01: {", &keys));
    project.write("runbooks/who.yaml", RUNBOOK);
    project
}

#[test]
fn a_certificate_in_the_inventory_logs_in_and_one_that_is_over_says_so() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    // The authority alone is left, and the certificate that ssh would find beside the key is gone.
    lab.host("fs01").sh(": >/home/maint/.ssh/authorized_keys");
    std::fs::remove_file(lab.certificate()).unwrap();
    let apply = |certificate: &Path| {
        let project = project(&lab, certificate);
        let said = project.run(&["apply", "runbooks/who.yaml", "--limit", "fs01", "--yes"]);
        (project, said)
    };

    let good = lab.certify("good", "maint", "-5m:+1h").unwrap();
    let (_, said) = apply(&good);
    said.expect_code(0);
    let log = lab.host("fs01").sh("grep 'Accepted publickey for maint' /var/log/sshd.log");
    assert!(log.contains("ED25519-CERT") && log.contains("ID lab"), "the host says by what: {log}");

    let expired = lab.certify("expired", "maint", "-2h:-1h").unwrap();
    let later = lab.certify("later", "maint", "+1h:+2h").unwrap();
    let stranger = lab.certify("stranger's", "somebody", "-5m:+1h").unwrap();
    let missing = lab.folder().join("missing");
    let key = lab.certified_identity().with_extension("pub");
    for (certificate, why) in [
        (&expired, "has expired: it was valid until"),
        (&later, "is not valid yet: it begins at"),
        (&stranger, "is valid now, and names somebody"),
        (&missing, "cannot be read: No such file"),
        (&key, "is no OpenSSH certificate"),
    ] {
        let (project, said) = apply(certificate);
        said.expect_code(3);
        let told = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("the login was refused") && told.contains(why), "{why}: {said:?}");
        assert_eq!(project.outcomes(), "blocked fs01=blocked");
    }
}
