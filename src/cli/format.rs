//! How a consumed record is printed: a template such as `%o %k:%s\n`, or JSON.

use std::str::FromStr;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::Received;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
}

pub const HELP: &str = "How to print a record: %t topic, %p partition, %o offset, %k key, %s value, \
                        %T timestamp in ms, %h headers, %% a percent sign, \\n \\t \\0 \\\\";

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let next = match c {
                '%' | '\\' => chars.next(),
                _ => None,
            };
            let piece = match (c, next) {
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('k')) => Piece::Key,
                ('%', Some('s' | 'v')) => Piece::Value,
                ('%', Some('T')) => Piece::Timestamp,
                ('%', Some('h')) => Piece::Headers,
                ('%', None) => return Err("ends in a lone %; %% prints one".to_owned()),
                ('%', Some(other)) if other != '%' => {
                    return Err(format!("%{other} means nothing; there are %t %p %o %k %s %T %h %%"));
                }
                ('\\', None) => return Err("ends in a lone \\; \\\\ prints one".to_owned()),
                ('\\', Some(other)) => {
                    plain.push(escape(other)?);
                    continue;
                }
                _ => {
                    plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Format(pieces))
    }
}

fn escape(c: char) -> Result<u8, String> {
    match c {
        'n' => Ok(b'\n'),
        't' => Ok(b'\t'),
        'r' => Ok(b'\r'),
        '0' => Ok(0),
        '\\' => Ok(b'\\'),
        other => Err(format!("\\{other} means nothing; there are \\n \\t \\r \\0 \\\\")),
    }
}

impl Format {
    pub fn render(&self, topic: &str, partition: i32, record: &Received, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(topic.as_bytes()),
                Piece::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
                Piece::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Piece::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Piece::Timestamp => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Piece::Headers => headers(record, out),
            }
        }
    }
}

fn headers(record: &Received, out: &mut Vec<u8>) {
    for (i, (key, value)) in record.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

/// One record as JSON; bytes that are not UTF-8 appear as `{"hex": "…"}`.
pub fn to_json(topic: &str, partition: i32, record: &Received) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(key, value)| json!({"key": key, "value": bytes(value.as_ref())}))
        .collect();
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": bytes(record.key.as_ref()),
        "value": bytes(record.value.as_ref()),
        "headers": headers,
    })
}

fn bytes(bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            json!({ "hex": hex })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Received {
        Received {
            offset: 5,
            timestamp_ms: 9,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"\xffv")),
            headers: vec![("a".into(), Some(Bytes::from_static(b"1"))), ("b".into(), None)],
        }
    }

    #[test]
    fn templates() {
        for (template, expected) in [
            ("%s\\n", &b"\xffv\n"[..]),
            ("%t/%p@%o %k %T %h%%", &b"t/3@5 k 9 a=1,b=%"[..]),
            ("é\\t\\\\", "é\t\\".as_bytes()),
            ("", b""),
        ] {
            let mut out = Vec::new();
            template.parse::<Format>().unwrap().render("t", 3, &record(), &mut out);
            assert_eq!(out, expected, "{template}");
        }
        for template in ["%", "%x", "\\", "\\q"] {
            assert!(template.parse::<Format>().is_err(), "{template}");
        }
    }

    #[test]
    fn json_keeps_null_text_and_other_bytes_apart() {
        let value = to_json("t", 3, &record());
        assert_eq!((&value["key"], &value["value"]["hex"]), (&json!("k"), &json!("ff76")));
        assert_eq!(value["headers"][1], json!({"key": "b", "value": null}));
    }
}
