//! `inventory/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::runbook::Secret;
use super::values::{Anything, Duration, Flag, Port, Text};

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Inventory {
    /// The kind and version of this file.
    schema: String,
    /// For every host that does not say otherwise.
    defaults: Option<Host>,
    /// The hosts, by name.
    hosts: Option<BTreeMap<String, Option<Host>>>,
    /// The groups, by name.
    groups: Option<BTreeMap<String, Option<Group>>>,
    /// Further files.
    include: Option<Vec<Include>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Host {
    /// Host name or IP address to connect to.
    address: Option<Text>,
    /// TCP port.
    port: Option<Port>,
    /// How it is reached: ssh, ssh-native, winrm, ssm, local, or a plugin's name.
    transport: Option<Text>,
    /// The kind of system: linux, windows and so on.
    os: Option<Text>,
    /// Login account.
    user: Option<Text>,
    /// Another host to go through.
    jump: Option<Text>,
    /// Private key file.
    identity: Option<Text>,
    /// User certificate.
    certificate: Option<Text>,
    /// Where the password comes from (winrm only).
    password: Option<Secret>,
    /// How to authenticate (winrm).
    auth: Option<Auth>,
    /// TLS (winrm).
    tls: Option<Tls>,
    /// Instance id (ssm).
    instance: Option<Text>,
    /// Region (ssm).
    region: Option<Text>,
    /// Profile (ssm).
    profile: Option<Text>,
    /// Endpoint (ssm).
    endpoint: Option<Text>,
    /// For selecting: `site=hq`.
    labels: Option<BTreeMap<String, Text>>,
    /// Values for templates.
    vars: Option<BTreeMap<String, Anything>>,
    /// Groups that it is in.
    groups: Option<Vec<Text>>,
    /// Holds Controlled Unclassified Information.
    cui: Option<Flag>,
    /// Who answers for the system.
    owner: Option<Text>,
    /// Who answers for the CUI on it.
    cui_owner: Option<Text>,
    /// low, moderate, high, or the firm's own word.
    risk: Option<Text>,
    /// The account that steps become.
    r#as: Option<Text>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Auth {
    Negotiate,
    Ntlm,
    Kerberos,
    Basic,
    Certificate,
    Credssp,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tls {
    /// The certificate is verified; true unless said otherwise.
    verify: Option<Flag>,
    /// A file with certificate authorities.
    ca: Option<Text>,
    /// The SHA-256 fingerprint that the certificate must have.
    pin: Option<Text>,
    /// True unless said otherwise.
    enabled: Option<Flag>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Group {
    /// Groups that it is made of.
    groups: Option<Vec<Text>>,
    /// Hosts in it.
    hosts: Option<Vec<Text>>,
    /// Values for the templates of its hosts.
    vars: Option<BTreeMap<String, Anything>>,
    /// Keys of its hosts.
    defaults: Option<Host>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Include {
    /// A further inventory.
    Own(Text),
    /// An inventory in another form, or somebody else who knows hosts.
    Foreign(Box<Foreign>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Foreign {
    /// An inventory of Ansible, INI or YAML.
    ansible: Option<Text>,
    /// A CSV file.
    csv: Option<Text>,
    /// A program that prints hosts, with its arguments; relative to this file.
    #[schemars(length(min = 1))]
    command: Option<Vec<Text>>,
    /// What the program prints.
    format: Option<Format>,
    /// How long the program may take; 60s unless said otherwise.
    within: Option<Duration>,
    /// NetBox.
    netbox: Option<Netbox>,
    /// A table of ServiceNow.
    servicenow: Option<ServiceNow>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Format {
    Yaml,
    Csv,
    Ansible,
    AnsibleJson,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Netbox {
    /// Where it is: https://netbox.example.com.
    url: Text,
    /// Its token.
    token: Secret,
    /// Devices unless said otherwise.
    of: Option<List>,
    /// Names and values of the query; `status: active` unless it says otherwise.
    filter: Option<BTreeMap<String, Values>>,
    /// Keys of a host, and where they stand in a record.
    fields: Option<BTreeMap<String, Text>>,
    /// A file with certificate authorities.
    ca: Option<Text>,
    /// How long all of it may take; 60s unless said otherwise.
    within: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum List {
    Devices,
    VirtualMachines,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Values {
    One(Text),
    Several(Vec<Text>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ServiceNow {
    /// Where it is: https://example.service-now.com.
    url: Text,
    /// The account.
    user: Option<Text>,
    /// Its password.
    password: Option<Secret>,
    /// A bearer token, in place of both.
    token: Option<Secret>,
    /// cmdb_ci_server unless said otherwise.
    table: Option<Text>,
    /// An encoded query.
    query: Option<Text>,
    /// Keys of a host, and the fields that they are taken from.
    fields: Option<BTreeMap<String, Text>>,
    /// A file with certificate authorities.
    ca: Option<Text>,
    /// How long all of it may take; 60s unless said otherwise.
    within: Option<Duration>,
}
