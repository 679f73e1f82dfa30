//! "Did you mean": the nearest known name to one that is unknown.

/// The candidate within a third of the word's length in edits, if there is one.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer word is no typo of ours, and the distance below is quadratic.
    if word.len() > 128 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(2);
    let nearest = candidates.into_iter().map(|c| (distance(word, c), c)).min_by_key(|(d, _)| *d)?;
    (nearest.0 <= limit).then_some(nearest.1)
}

/// ` (did you mean x?)`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or(String::new(), |c| format!(" (did you mean {c}?)"))
}

/// Levenshtein distance that takes `-` and `_`, and upper and lower case, for the same.
fn distance(a: &str, b: &str) -> usize {
    let fold = |s: &str| -> Vec<char> {
        s.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (fold(a), fold(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typos_only() {
        let known = ["data_dir", "listen", "shards"];
        for (word, expected) in [
            ("shard", Some("shards")),
            ("data-dir", Some("data_dir")),
            ("datadir", Some("data_dir")),
            ("LISTEN", Some("listen")),
            ("lsiten", Some("listen")),
            ("replication", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), expected, "{word}");
        }
    }
}
