//! A program of whoever is told: signed as the Standard Webhooks specification says.

use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::units::rfc3339_ms;
use runbook_ports::SecretBytes;
use runbook_ports::notifier::{Delivered, Message, Notifier, NotifyError};
use runbook_wire::Tls;
use serde_json::json;
use serde_json::value::RawValue;

use crate::hook::{self, Address};

/// What the specification asks for: 192 to 512 bits.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that both sides know.
#[derive(Clone)]
pub struct Secret(SecretBytes);

impl Secret {
    /// From its form in the specification: `whsec_` and the key in base64.
    ///
    /// # Errors
    /// When it is not in this form; the text is not in the error.
    pub fn parse(text: &SecretBytes) -> Result<Self, String> {
        let wrong = "the webhook's secret is not `whsec_` and 24 to 64 bytes in base64, as `echo whsec_$(openssl rand -base64 32)` makes one";
        let encoded = text.expose().strip_prefix(b"whsec_").ok_or(wrong)?;
        let key = STANDARD.decode(encoded).map_err(|_| wrong)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(SecretBytes::new(key))) } else { Err(wrong.into()) }
    }

    fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

/// A program that is told.
pub struct Webhook {
    /// The channel's name.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to.
    pub tls: Tls,
    /// The key.
    pub secret: Secret,
}

#[async_trait]
impl Notifier for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn to(&self) -> String {
        self.address.site()
    }

    async fn deliver(&self, message: Message<'_>, within: Duration) -> Result<Delivered, NotifyError> {
        let body = body(&message);
        let seconds = message.now_ms / 1_000;
        let headers = [
            ("webhook-id", message.id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", self.secret.sign(message.id, seconds, &body)),
        ];
        hook::post(&self.address, &self.tls, &headers, body.into_bytes(), within).await
    }

    async fn reach(&self, within: Duration) -> Result<String, NotifyError> {
        hook::reach(&self.address, &self.tls, within).await
    }
}

/// The same bytes however often it is sent.
fn body(message: &Message<'_>) -> String {
    // The news is ours, and JSON already.
    let news: Box<RawValue> =
        RawValue::from_string(message.news.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let mut body = String::new();
    let _ = write!(
        body,
        "{{\"type\":{},\"timestamp\":{},\"data\":{{\"subject\":{},\"text\":{},\"news\":{news}}}}}",
        json!(format!("run.{}", message.kind)),
        json!(rfc3339_ms(message.made_ms)),
        json!(message.subject),
        json!(message.text),
    );
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The vector of the reference libraries.
        let secret = Secret::parse(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_short_or_of_another_form_is_none() {
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_§"] {
            let error = Secret::parse(&wrong.into()).err().unwrap();
            assert!(!error.contains("c2hvcnQ"), "{error}");
        }
    }
}
