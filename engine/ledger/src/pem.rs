//! The Ed25519 public key as openssl and in-toto read it: SubjectPublicKeyInfo (RFC 8410) in PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A SEQUENCE of the algorithm's object identifier (1.3.101.112) and a BIT STRING of 32 bytes.
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key's PEM, with a line end.
pub fn public_key(public_key: &[u8; 32]) -> String {
    let der = [PREFIX.as_slice(), public_key].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pem_is_that_of_rfc_8410() {
        // The public key in RFC 8410, section 10.1.
        let key = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        let key: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap()).collect();
        let pem = super::public_key(&key.try_into().unwrap());
        assert_eq!(
            pem,
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
        );
    }
}
