//! Canonical JSON: the bytes that are hashed and signed.
//!
//! Object keys sorted by their UTF-8 bytes, no white space, no floating point, serde_json's minimal escapes. The same
//! value gives the same bytes on every platform, whatever the order in which its keys were inserted.

use serde::Serialize;
use serde_json::Value;

use crate::digest::Sha256;

/// The canonical bytes of `value`.
///
/// # Panics
/// When `value` holds a floating-point number or a map whose keys are not text: the types of this crate have neither,
/// so that would be our own defect.
pub fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("stored types are representable as JSON");
    let mut out = Vec::new();
    write(&value, &mut out);
    out
}

/// The digest of the canonical bytes of `value`.
pub fn digest<T: Serialize + ?Sized>(value: &T) -> Sha256 {
    Sha256::of(&bytes(value))
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_scalar(&Value::String(key.clone()), out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Number(number) => {
            assert!(!number.is_f64(), "canonical JSON holds no floating-point numbers, found {number}");
            write_scalar(value, out);
        }
        _ => write_scalar(value, out),
    }
}

fn write_scalar(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value = serde_json::from_str(r#"{"b":[{"z":1,"a":null}],"a":"é\n"}"#).unwrap();
        assert_eq!(String::from_utf8(bytes(&value)).unwrap(), r#"{"a":"é\n","b":[{"a":null,"z":1}]}"#);
    }
}
