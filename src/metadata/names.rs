//! Which topic names are allowed, as Kafka has it: they become file names and metric names.

use crate::model::limits::MAX_TOPIC_NAME;

/// The error says what is wrong with the name.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > MAX_TOPIC_NAME {
        return Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME}"
        ));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, \
             '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Names that differ only in `.` and `_` would share their metrics' names: they collide.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(250);
        let good = ["a", "a.b", "A_b-9", "...", "__x", &long[..249]];
        let bad = ["", ".", "..", "a b", "a/b", "ä", "a\0", "a:b", &long];
        for name in good {
            assert!(check_topic_name(name).is_ok(), "{name}");
        }
        for name in bad {
            assert!(check_topic_name(name).is_err(), "{name}");
        }
    }
}
