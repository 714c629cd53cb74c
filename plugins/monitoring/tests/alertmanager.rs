//! On a real Alertmanager; what it makes of our silences is said by `amtool`.

use std::collections::BTreeMap;
use std::time::Duration;

use runbook_model::{HostName, RunId};
use runbook_monitoring::{Alertmanager, Login, quoted};
use runbook_ports::SecretBytes;
use runbook_ports::monitor::{Matcher, Monitor as _, MonitorError, Mute, Muted};
use runbook_testkit::alertmanager as real;
use runbook_testkit::anchors::Pki;
use runbook_wire::Tls;

const WITHIN: Duration = Duration::from_secs(10);
const HOUR_MS: u64 = 3_600_000;

fn to(url: &str) -> Alertmanager {
    Alertmanager { name: "prod".into(), address: url.parse().unwrap(), tls: Tls::default(), login: Login::None }
}

fn hosts<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<HostName, Vec<Matcher>> {
    let own = |(no, name): (usize, &str)| {
        let value = format!("{}(:[0-9]+)?", quoted(name));
        (HostName::from(format!("h{no}").as_str()), vec![Matcher { name: "instance".into(), value, regex: true }])
    };
    names.into_iter().enumerate().map(own).collect()
}

async fn mute(
    to: &Alertmanager,
    run: &str,
    hosts: &BTreeMap<HostName, Vec<Matcher>>,
    for_ms: u64,
    known: Option<(&[String], u64)>,
) -> Result<Muted, MonitorError> {
    let run = RunId::from(run);
    to.mute(Mute { run: &run, hosts, for_ms, known, comment: "maintenance", by: "raj" }, WITHIN).await
}

#[tokio::test]
async fn the_alerts_of_the_hosts_are_silenced_and_afterwards_told_again() {
    let Some(am) = real::Alertmanager::start() else { return };
    for instance in ["fs01:9100", "fs02", "fs011:9100", "db01:9100"] {
        am.fire(&[("alertname", "Down"), ("instance", instance)]);
    }
    let to = to(&am.url());
    let muted = mute(&to, "r1", &hosts(["fs01", "fs02"]), HOUR_MS, None).await.unwrap();
    assert_eq!(am.silenced("instance"), ["fs01:9100", "fs02"]);
    assert_eq!(am.told("instance"), ["db01:9100", "fs011:9100"]);
    let silences = am.silences();
    assert_eq!(silences.len(), 1, "{silences:#?}");
    assert_eq!((silences[0]["id"].as_str(), silences[0]["createdBy"].as_str()), (Some(&*muted.ids[0]), Some("raj")));
    let said = String::from_utf8(muted.exchange).unwrap();
    assert!(said.contains("POST /api/v2/silences\n{") && said.contains(&muted.ids[0]), "{said}");

    let unmuted = to.unmute(&"r1".into(), &muted.ids, WITHIN).await.unwrap();
    assert_eq!(unmuted.ids, muted.ids);
    assert_eq!((am.silences().len(), am.silenced("instance").len(), am.told("instance").len()), (0, 0, 4));
    assert!(String::from_utf8(unmuted.exchange).unwrap().trim_end().ends_with(']'));
    // Once more harms nobody, and is the same proof.
    assert!(to.unmute(&"r1".into(), &muted.ids, WITHIN).await.unwrap().ids.is_empty());
}

#[tokio::test]
async fn the_same_run_mutes_once_and_lengthens_what_is_there() {
    let Some(am) = real::Alertmanager::start() else { return };
    let (to, hosts) = (to(&am.url()), hosts(["fs01"]));
    let first = mute(&to, "r1", &hosts, HOUR_MS, None).await.unwrap();
    let again = mute(&to, "r1", &hosts, HOUR_MS / 2, None).await.unwrap();
    assert_eq!((&again.ids, again.until_ms), (&first.ids, first.until_ms), "what lasts longer is left");
    let longer = mute(&to, "r1", &hosts, 2 * HOUR_MS, Some((&first.ids, first.until_ms))).await.unwrap();
    assert_eq!(longer.ids, first.ids, "it is the same silence");
    assert!(longer.until_ms >= first.until_ms + HOUR_MS, "{} {}", longer.until_ms, first.until_ms);
    // Another run's are its own.
    let other = mute(&to, "r2", &hosts, HOUR_MS, None).await.unwrap();
    assert_ne!(other.ids, first.ids);
    to.unmute(&"r1".into(), &first.ids, WITHIN).await.unwrap();
    let left = am.silences();
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some(&*other.ids[0])));
}

#[tokio::test]
async fn what_somebody_else_ended_is_not_muted_again_and_what_was_forgotten_is() {
    let Some(mut am) = real::Alertmanager::start() else { return };
    let (to, hosts) = (to(&am.url()), hosts(["fs01"]));
    let first = mute(&to, "r1", &hosts, HOUR_MS, None).await.unwrap();
    am.expire(&first.ids[0]);
    let again = mute(&to, "r1", &hosts, 2 * HOUR_MS, Some((&first.ids, first.until_ms))).await.unwrap();
    assert_eq!((again.ids.len(), &again.ended_by_others), (0, &first.ids));
    assert!(am.silences().is_empty());
    // A run that is taken up anew, after it had unmuted, mutes anew.
    let anew = mute(&to, "r1", &hosts, HOUR_MS, None).await.unwrap();
    assert_eq!(anew.ids.len(), 1);
    am.forget();
    am.begin();
    let anew = mute(&to, "r1", &hosts, HOUR_MS, Some((&anew.ids, anew.until_ms))).await.unwrap();
    assert_eq!((anew.ids.len(), am.silences().len()), (1, 1));
    am.forget();
    am.begin();
    assert!(to.unmute(&"r1".into(), &anew.ids, WITHIN).await.unwrap().ids.is_empty(), "what is gone is over");
}

#[tokio::test]
async fn a_silence_that_was_not_recorded_is_found_by_the_run_and_ended() {
    let Some(am) = real::Alertmanager::start() else { return };
    let to = to(&am.url());
    mute(&to, "r1", &hosts(["fs01"]), HOUR_MS, None).await.unwrap();
    assert_eq!(to.unmute(&"r1".into(), &[], WITHIN).await.unwrap().ids.len(), 1);
    assert!(am.silences().is_empty());
}

#[tokio::test]
async fn hostile_names_mute_their_own_alerts_alone() {
    let Some(am) = real::Alertmanager::start() else { return };
    let names = [".*", "a|b", "x\"} or {y=\"", "(?i)c", "ü\\d+[", "d"];
    for instance in names.into_iter().chain(["a", "b", "C", "innocent", "ü1"]) {
        am.fire(&[("alertname", "Down"), ("instance", instance)]);
    }
    let to = to(&am.url());
    let muted = mute(&to, "r1", &hosts(names), HOUR_MS, None).await.unwrap();
    let mut expected: Vec<String> = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!((muted.ids.len(), am.silenced("instance")), (1, expected));
    assert_eq!(am.told("instance"), ["C", "a", "b", "innocent", "ü1"]);
}

#[tokio::test]
async fn five_hundred_hosts_are_a_few_silences() {
    let Some(am) = real::Alertmanager::start() else { return };
    let names: Vec<String> = (0..500).map(|no| format!("web{no:03}.prod.example.com")).collect();
    am.fire(&[("alertname", "Down"), ("instance", "web499.prod.example.com:9100")]);
    am.fire(&[("alertname", "Down"), ("instance", "web500.prod.example.com:9100")]);
    let to = to(&am.url());
    let muted = mute(&to, "r1", &hosts(names.iter().map(String::as_str)), HOUR_MS, None).await.unwrap();
    assert!((1..=4).contains(&muted.ids.len()), "{}", muted.ids.len());
    assert_eq!(am.silenced("instance"), ["web499.prod.example.com:9100"]);
    let unmuted = to.unmute(&"r1".into(), &muted.ids, WITHIN).await.unwrap();
    assert_eq!((unmuted.ids.len(), am.silences().len()), (muted.ids.len(), 0));
}

#[tokio::test]
async fn it_is_believed_by_its_certificate_and_lets_in_whoever_has_the_password() {
    let pki = Pki::new();
    pki.certify_server("am");
    let Some(am) = real::Alertmanager::guarded(&pki, "am") else { return };
    let tls = Tls { ca: Some(pki.path("ca.pem")), client: None };
    let with = |login: Login<SecretBytes>, tls: &Tls| Alertmanager { login, tls: tls.clone(), ..to(&am.url()) };
    let basic = |password: &str| Login::Basic(real::USER.into(), password.into());
    let good = with(basic(real::PASSWORD), &tls);
    assert!(good.reach(WITHIN).await.unwrap().contains("lets us in"));
    assert_eq!(mute(&good, "r1", &hosts(["fs01"]), HOUR_MS, None).await.unwrap().ids.len(), 1);
    assert_eq!(am.silences().len(), 1);
    for wrong in [basic("wrong password"), Login::None, Login::Bearer("wrong password".into())] {
        let error = mute(&with(wrong, &tls), "r2", &hosts(["fs02"]), HOUR_MS, None).await.unwrap_err();
        assert!(error.why.contains("does not let us in (401") && !error.maybe, "{error:?}");
        assert!(!error.why.contains("wrong"), "{error:?}");
    }
    // A certificate that nobody of ours signed is no Alertmanager of ours.
    let error = with(basic(real::PASSWORD), &Tls::default()).reach(WITHIN).await.unwrap_err();
    assert!(error.why.contains("certificate"), "{error:?}");
    assert_eq!(am.silences().len(), 1);
}

#[tokio::test]
async fn nobody_there_and_somebody_who_says_nothing_are_told_apart_from_what_may_be_muted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = to(&url);
    let hosts = hosts(["fs01"]);
    let run = RunId::from("r1");
    let asked = Mute { run: &run, hosts: &hosts, for_ms: HOUR_MS, known: None, comment: "", by: "" };
    let error = silent.mute(asked, Duration::from_millis(200)).await.unwrap_err();
    assert!(error.why.contains("did not answer within 0.2 s") && !error.maybe, "{error:?}");
    drop(listener);
    let error = mute(&silent, "r1", &hosts, HOUR_MS, None).await.unwrap_err();
    assert!(!error.maybe, "{error:?}");
    let error = mute(&silent, "r1", &hosts, HOUR_MS, Some((&["a".to_owned()], 1))).await.unwrap_err();
    assert!(error.maybe, "what was muted before may be muted still: {error:?}");
}

#[tokio::test]
async fn what_alertmanager_refuses_is_told_in_its_words() {
    let Some(am) = real::Alertmanager::start() else { return };
    let wrong = Matcher { name: "instance".into(), value: "a{1001}(".into(), regex: true };
    let hosts = BTreeMap::from([(HostName::from("a"), vec![wrong])]);
    let error = mute(&to(&am.url()), "r1", &hosts, HOUR_MS, None).await.unwrap_err();
    assert!(error.why.contains("invalid regular expression"), "{error:?}");
}
