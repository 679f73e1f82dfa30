//! Changes of many records, which are spread over several commits and take effect at the last of them.

use crate::metadata::records::{Bracket, Record};

/// The commits of one change, none with more than `most` records. `open`: an earlier change was left without its end, by a
/// controller that lost its office, and is given up.
pub fn split(mut records: Vec<Record>, most: usize, open: bool) -> Vec<Vec<Record>> {
    let large = |part| Record::Large { part };
    if open {
        records.insert(0, large(Bracket::Abort));
    }
    if records.len() <= most {
        return vec![records];
    }
    records.insert(usize::from(open), large(Bracket::Begin));
    records.push(large(Bracket::End));
    let mut parts = Vec::with_capacity(records.len().div_ceil(most));
    let mut rest = records.into_iter();
    loop {
        let part: Vec<Record> = rest.by_ref().take(most).collect();
        if part.is_empty() {
            return parts;
        }
        parts.push(part);
    }
}

/// How many commits a change of so many records takes.
pub fn commits(records: usize, most: usize, open: bool) -> usize {
    let all = records + usize::from(open);
    if all <= most { 1 } else { (all + 2).div_ceil(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_change_is_in_brackets() {
        let record = |next| Record::ProducerIds { next };
        for open in [false, true] {
            for count in 1..=25 {
                let parts = split((0..count).map(record).collect(), 10, open);
                assert_eq!(parts.len(), commits(count as usize, 10, open), "{count} {open}");
                assert!(parts.iter().all(|part| part.len() <= 10));
                let all: Vec<Record> = parts.concat();
                let of = |part| all.iter().filter(|r| **r == Record::Large { part }).count();
                let bracketed = usize::from(parts.len() > 1);
                assert_eq!((of(Bracket::Begin), of(Bracket::End)), (bracketed, bracketed));
                assert_eq!(all.len(), count as usize + 2 * bracketed + usize::from(open));
                assert_eq!(all[0] == Record::Large { part: Bracket::Abort }, open);
            }
        }
    }
}
