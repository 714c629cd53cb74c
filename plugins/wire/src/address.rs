//! Where a system is that is logged in to.

use std::str::FromStr;

use crate::Url;

/// The beginning of a system's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl FromStr for Address {
    type Err = String;

    /// `https://…`; `http://…` only to this machine.
    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse()?;
        if url.path().contains('?') {
            return Err(format!("`{text}` has a query; write where the system is, such as https://system.example.com"));
        }
        if url.is_private() {
            Ok(Self(url))
        } else {
            Err("it must begin with https://: over http:// others could read the login, and do what they want with it"
                .into())
        }
    }
}

impl Address {
    /// As people should be told of it.
    pub fn site(&self) -> String {
        self.0.to_string().trim_end_matches('/').to_owned()
    }

    /// With more of a path.
    pub fn join(&self, part: &str) -> Url {
        self.0.join(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in
            ["https://am.example/alerts/", "http://127.0.0.1:9093", "http://localhost:9093", "http://[::1]:9093"]
        {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for wrong in [
            "http://am.example",
            "https://me:secret@am.example",
            "https://am.example/?x=1",
            "am.example",
            "http://127.0.0.1.example",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        assert_eq!("https://am.example/alerts/".parse::<Address>().unwrap().site(), "https://am.example/alerts");
    }
}
