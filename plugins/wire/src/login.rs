//! How we are let in somewhere, and that nobody repeats it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How we are let in. `S` is a secret: what it is, or where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login<S> {
    /// Everybody is.
    None,
    /// Name and password, or API token.
    Basic(String, S),
    /// A token.
    Bearer(S),
    /// Key and token of an application, as OAuth 1.0 has them, without a signature.
    Keys(S, S),
}

/// A secret as it can be said.
fn text<S: AsRef<[u8]>>(secret: &S) -> Option<&str> {
    let text = std::str::from_utf8(secret.as_ref()).ok()?.trim_end();
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

impl<S: AsRef<[u8]>> Login<S> {
    /// The header `authorization`; `None`: everybody is let in.
    ///
    /// # Errors
    /// A secret that cannot be said, without it.
    pub fn header(&self) -> Result<Option<String>, String> {
        let said = match self {
            Login::None => return Ok(None),
            Login::Basic(user, password) => text(password).map(|text| format!("Basic {}", basic(user, text))),
            Login::Bearer(token) => text(token).map(|text| format!("Bearer {text}")),
            Login::Keys(key, token) => text(key)
                .zip(text(token))
                .map(|(key, token)| format!("OAuth oauth_consumer_key=\"{key}\", oauth_token=\"{token}\"")),
        };
        said.map(Some).ok_or_else(|| "the secret of the login is empty, or no text in one line".to_owned())
    }

    /// `said` without what lets us in: servers like to repeat what they were asked with.
    pub fn without(&self, said: &str) -> String {
        self.secrets().iter().fold(said.to_owned(), |said, secret| said.replace(secret, "…"))
    }

    /// Whether what lets us in stands in it.
    pub fn is_in(&self, said: &[u8]) -> bool {
        let holds = |secret: &String| said.windows(secret.len()).any(|part| part == secret.as_bytes());
        self.secrets().iter().any(holds)
    }

    fn secrets(&self) -> Vec<String> {
        let said = |secret: &S| text(secret).map(str::to_owned);
        match self {
            Login::None => Vec::new(),
            Login::Basic(user, password) => {
                text(password).map(|text| vec![basic(user, text), text.to_owned()]).unwrap_or_default()
            }
            Login::Bearer(token) => said(token).into_iter().collect(),
            Login::Keys(key, token) => said(key).into_iter().chain(said(token)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_us_in_is_said_once_and_never_repeated() {
        let login = Login::Basic("me".into(), "pass word\n");
        assert_eq!(login.header(), Ok(Some("Basic bWU6cGFzcyB3b3Jk".into())));
        assert_eq!(login.without("you said bWU6cGFzcyB3b3Jk, and `pass word`"), "you said …, and `…`");
        assert!(login.is_in(b"{\"echo\": \"pass word\"}") && !login.is_in(b"password"));
        assert_eq!(Login::Bearer("t").header(), Ok(Some("Bearer t".into())));
        let keys = Login::Keys("k1", "t2");
        assert_eq!(keys.header(), Ok(Some("OAuth oauth_consumer_key=\"k1\", oauth_token=\"t2\"".into())));
        assert_eq!(keys.without("k1t2"), "……");
        assert_eq!((Login::<&str>::None.header(), Login::<&str>::None.is_in(b"x")), (Ok(None), false));
        for wrong in ["", " \n", "a\nb"] {
            assert!(Login::Bearer(wrong).header().is_err(), "{wrong:?}");
        }
    }
}
