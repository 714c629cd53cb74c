//! Time stamps (RFC 3161): the request, and what a response says. Whether its signature is by an authority that one trusts
//! is another matter, which needs certificates: `openssl ts -verify` tells.
//!
//! The reader takes DER with definite lengths alone, as RFC 3161 asks of tokens, and never panics.

use std::fmt;

use runbook_model::Sha256;

/// The longest response that is read, in bytes: a token with a chain of certificates has a few thousand.
pub const RESPONSE_BYTES_MAX: usize = 256 << 10;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
const CONTEXT_1: u8 = 0xa1;

const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// Why a response is no time stamp of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not in the form.
    #[error("not a time stamp: {0}")]
    Malformed(&'static str),
    /// The authority refuses; its own words.
    #[error("the time stamp authority refuses: {0}")]
    Refused(String),
    /// The stamp, or its signature, is over a digest that is not believed any more.
    #[error("the time stamp rests on {0}, which is not taken")]
    WeakDigest(&'static str),
    /// The stamp is of something else.
    #[error("the time stamp is of something else")]
    OtherImprint,
    /// The stamp answers another request.
    #[error("the time stamp answers another request")]
    OtherNonce,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    /// SHA-256 of what was stamped.
    pub imprint: Sha256,
    /// When, by the authority's clock (Unix seconds; fractions are cut off).
    pub time_s: u64,
    /// The request's nonce, without leading zeros, if it had one.
    pub nonce: Option<Vec<u8>>,
}

impl TimeStamp {
    /// Whether it is of exactly these bytes.
    ///
    /// # Errors
    /// `OtherImprint`.
    pub fn must_be_of(&self, bytes: &[u8]) -> Result<(), Error> {
        if self.imprint == Sha256::of(bytes) { Ok(()) } else { Err(Error::OtherImprint) }
    }

    /// Whether it answers the request with this nonce.
    ///
    /// # Errors
    /// `OtherNonce`.
    pub fn must_answer(&self, nonce: &[u8; 8]) -> Result<(), Error> {
        if self.nonce.as_deref() == Some(stripped(nonce)) { Ok(()) } else { Err(Error::OtherNonce) }
    }
}

/// The request (DER) for a stamp of `imprint`, with the authority's certificates.
pub fn request(imprint: &Sha256, nonce: &[u8; 8]) -> Vec<u8> {
    let mut algorithm = element(OID, SHA256);
    algorithm.extend(element(NULL, &[]));
    let mut message = element(SEQUENCE, &algorithm);
    message.extend(element(OCTET_STRING, &imprint.0));
    let mut number = stripped(nonce).to_vec();
    if number.first().is_none_or(|first| first & 0x80 != 0) {
        number.insert(0, 0);
    }
    let mut body = element(INTEGER, &[1]);
    body.extend(element(SEQUENCE, &message));
    body.extend(element(INTEGER, &number));
    body.extend(element(BOOLEAN, &[0xff]));
    element(SEQUENCE, &body)
}

/// Reads a response (DER `TimeStampResp`). What it says is only to be believed when its signature was verified.
///
/// # Errors
/// When the authority refuses, it is not in the form, or rests on a weak digest.
pub fn parse(response: &[u8]) -> Result<TimeStamp, Error> {
    if response.len() > RESPONSE_BYTES_MAX {
        return Err(Error::Malformed("it is too long"));
    }
    let mut outer = Der(response);
    let mut response = Der(outer.take(SEQUENCE)?);
    outer.end()?;
    let mut status = Der(response.take(SEQUENCE)?);
    let granted = status.take(INTEGER)?;
    if granted != [0] && granted != [1] {
        return Err(Error::Refused(refusal(granted, status)));
    }
    let mut content = Der(response.take(SEQUENCE)?);
    response.end()?;
    if content.take(OID)? != SIGNED_DATA {
        return Err(Error::Malformed("its token is not signed data"));
    }
    let mut signed = Der(Der(content.take(CONTEXT_0)?).take(SEQUENCE)?);
    signed.take(INTEGER)?;
    signed.take(SET)?;
    let mut encapsulated = Der(signed.take(SEQUENCE)?);
    if encapsulated.take(OID)? != TST_INFO {
        return Err(Error::Malformed("its token signs something else"));
    }
    let info = Der(encapsulated.take(CONTEXT_0)?).take(OCTET_STRING)?;
    while matches!(signed.peek(), Some(CONTEXT_0 | CONTEXT_1)) {
        signed.any()?;
    }
    let mut signers = Der(signed.take(SET)?);
    let mut signer = Der(signers.take(SEQUENCE)?);
    // RFC 3161: exactly one signer.
    signers.end()?;
    signer.take(INTEGER)?;
    signer.any()?;
    strong(Der(signer.take(SEQUENCE)?).take(OID)?)?;
    tst_info(info)
}

fn tst_info(info: &[u8]) -> Result<TimeStamp, Error> {
    let mut outer = Der(info);
    let mut info = Der(outer.take(SEQUENCE)?);
    outer.end()?;
    if info.take(INTEGER)? != [1] {
        return Err(Error::Malformed("its version is not 1"));
    }
    info.take(OID)?;
    let mut message = Der(info.take(SEQUENCE)?);
    let algorithm = Der(message.take(SEQUENCE)?).take(OID)?;
    strong(algorithm)?;
    let imprint = message.take(OCTET_STRING)?;
    if algorithm != SHA256 {
        return Err(Error::OtherImprint);
    }
    let imprint = imprint.try_into().map_err(|_| Error::Malformed("its imprint has not the length of its digest"))?;
    info.take(INTEGER)?;
    let time_s = time(info.take(GENERALIZED_TIME)?).ok_or(Error::Malformed("its time does not read"))?;
    if info.peek() == Some(SEQUENCE) {
        info.any()?;
    }
    if info.peek() == Some(BOOLEAN) {
        info.any()?;
    }
    let nonce = match info.peek() {
        Some(INTEGER) => Some(stripped(info.take(INTEGER)?).to_vec()),
        _ => None,
    };
    Ok(TimeStamp { imprint: Sha256(imprint), time_s, nonce })
}

fn strong(algorithm: &[u8]) -> Result<(), Error> {
    match algorithm {
        SHA256 | SHA384 | SHA512 => Ok(()),
        SHA1 => Err(Error::WeakDigest("SHA-1")),
        _ => Err(Error::WeakDigest("a digest that is none of SHA-2")),
    }
}

/// What a refusal says: the authority's text, and the name of the failure.
fn refusal(status: &[u8], mut rest: Der<'_>) -> String {
    let mut words = Vec::new();
    if rest.peek() == Some(SEQUENCE)
        && let Ok(texts) = rest.take(SEQUENCE)
    {
        let mut texts = Der(texts);
        while let Ok(text) = texts.take(UTF8_STRING) {
            words.push(String::from_utf8_lossy(text).into_owned());
        }
    }
    if let Ok([_, first, more @ ..]) = rest.take(BIT_STRING) {
        let bit =
            |at: usize| [first].into_iter().chain(more).nth(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
        let names = [
            (0, "it does not know the digest"),
            (2, "it does not permit this request"),
            (5, "the request does not read for it"),
            (14, "its clock is not available"),
            (15, "it does not know the policy"),
            (16, "it does not know an extension"),
            (17, "it cannot give what was asked for"),
            (25, "it has a fault"),
        ];
        words.extend(names.into_iter().filter(|(at, _)| bit(*at)).map(|(_, name)| name.to_owned()));
    }
    if words.is_empty() { format!("status {}", Hex(status)) } else { words.join("; ") }
}

/// `YYYYMMDDhhmmss[.f…]Z` in Unix seconds.
fn time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let part = |from: usize, to: usize| whole[from..to].parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    // Days since 1970-03-01 shifted so that a year begins in March and leap days are its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// A number without its leading zeros.
fn stripped(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    // Nothing that is written here is longer than a short length says.
    out.push(u8::try_from(content.len()).ok().filter(|length| *length < 0x80).expect("a request is short"));
    out.extend(content);
    out
}

/// What is left to read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        match self.peek() {
            Some(found) if found == tag => self.any(),
            Some(_) => Err(Error::Malformed("an element is not of the type that belongs there")),
            None => Err(Error::Malformed("an element is missing")),
        }
    }

    /// The content of the next element.
    fn any(&mut self) -> Result<&'a [u8], Error> {
        let cut = Error::Malformed("an element is cut off");
        let [tag, length, rest @ ..] = self.0 else { return Err(cut) };
        if tag & 0x1f == 0x1f {
            return Err(Error::Malformed("a tag has a form that time stamps do not have"));
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f)).ok_or(cut.clone())?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return Err(Error::Malformed("a length has a form that DER does not have")),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(cut)?;
        self.0 = rest;
        Ok(content)
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed("something follows its end")) }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_the_one_that_openssl_reads() {
        let bytes = request(&Sha256([0xab; 32]), &[0x80, 0, 0, 0, 0, 0, 0, 1]);
        let mut expected = vec![0x30, 0x44, 2, 1, 1, 0x30, 0x31, 0x30, 0x0d, 6, 9];
        expected.extend(SHA256);
        expected.extend([5, 0, 4, 32]);
        expected.extend([0xab; 32]);
        expected.extend([2, 9, 0, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0xff]);
        assert_eq!(bytes, expected);
        // A nonce that begins with zeros is a shorter number.
        assert!(request(&Sha256([1; 32]), &[0, 0, 0, 0, 0, 0, 0, 5]).ends_with(&[2, 1, 5, 1, 1, 0xff]));
        assert!(request(&Sha256([1; 32]), &[0; 8]).ends_with(&[2, 1, 0, 1, 1, 0xff]));
    }

    #[test]
    fn times_are_read_as_the_calendar_has_them() {
        assert_eq!(time(b"19700101000000Z"), Some(0));
        assert_eq!(time(b"20240229235959.5Z"), Some(1_709_251_199));
        assert_eq!(time(b"20240301000000Z"), Some(1_709_251_200));
        assert_eq!(time(b"20261127201759Z"), Some(1_795_810_679));
        for wrong in ["", "20240229235959", "20241329235959Z", "20240229235959.Z", "2024022923595Z", "19690101000000Z"]
        {
            assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_authoritys_words() {
        // status 2 (rejection), "no", badAlg
        let response = [0x30, 0x0f, 0x30, 0x0d, 2, 1, 2, 0x30, 4, 0x0c, 2, b'n', b'o', 3, 2, 7, 0x80];
        assert_eq!(parse(&response), Err(Error::Refused("no; it does not know the digest".into())));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = tst_info(&bytes);
        }

        #[test]
        fn no_lengths_make_the_reader_panic(
            bytes in prop::collection::vec(prop::sample::select(vec![0x30_u8, 2, 1, 0, 0x82, 0x84, 0xff, 0x31, 0xa0, 6]), 0..60),
        ) {
            let _ = parse(&bytes);
        }
    }
}
