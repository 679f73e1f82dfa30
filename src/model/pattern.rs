//! Patterns that clients filter names by, in RE2's syntax, which Kafka has them in (KIP-848, KIP-1152).
//!
//! The engine is that of the `regex` crate, whose syntax is nearly RE2's. What differs is translated or refused here, so
//! that a pattern means the same to both, or to neither. Matching takes time linear in the name.

use regex::{Regex, RegexBuilder};

/// The largest compiled pattern, in bytes.
const MOST_BYTES: usize = 256 << 10;
/// The deepest nesting of groups.
const MOST_DEPTH: u32 = 1000;
/// RE2's bound on counted repetition.
const MOST_REPEATS: u32 = 1000;

/// Matches whole names.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// `None` where RE2 has no such pattern, or it is too large.
    pub fn parse(text: &str) -> Option<Self> {
        let translated = Translator::new(text).run()?;
        let mut builder = RegexBuilder::new(&format!(r"\A(?:{translated})\z"));
        builder.size_limit(MOST_BYTES).dfa_size_limit(MOST_BYTES).nest_limit(MOST_DEPTH);
        builder.build().ok().map(Self)
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// What a repetition would repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    Repeated,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    last: Last,
    depth: u32,
    names: Vec<&'a str>,
}

impl<'a> Translator<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, out: String::new(), last: Last::Nothing, depth: 0, names: Vec::new() }
    }

    fn run(mut self) -> Option<String> {
        while let Some(c) = self.next() {
            match c {
                '\\' => self.escape()?,
                '[' => {
                    self.class()?;
                    self.last = Last::Atom;
                }
                '(' => self.open()?,
                ')' => {
                    self.depth = self.depth.checked_sub(1)?;
                    self.atom(")");
                }
                '|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '*' | '+' | '?' => self.repeat(&c.to_string())?,
                '{' => self.counted()?,
                '.' | '^' | '$' => self.atom(&c.to_string()),
                c => self.literal(c),
            }
        }
        (self.depth == 0).then_some(self.out)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest.strip_prefix(prefix);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = Last::Atom;
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&code_point(c));
        self.last = Last::Atom;
    }

    fn repeat(&mut self, operator: &str) -> Option<()> {
        if self.last != Last::Atom {
            return None;
        }
        self.out.push_str(operator);
        if self.take("?") {
            self.out.push('?');
        }
        self.last = Last::Repeated;
        Some(())
    }

    /// A brace: a counted repetition, or itself where it does not read as one.
    fn counted(&mut self) -> Option<()> {
        let before = self.rest;
        let least = self.take_while(|c| c.is_ascii_digit());
        let most = if self.take(",") { self.take_while(|c| c.is_ascii_digit()) } else { least };
        let number = |text: &str| text.len() == 1 || !text.starts_with('0');
        if least.is_empty() || !number(least) || !number(most) || !self.take("}") {
            self.rest = before;
            self.literal('{');
            return Some(());
        }
        let bound = |text: &str| text.parse().ok().filter(|n| *n <= MOST_REPEATS);
        let low: u32 = bound(least)?;
        if !most.is_empty() && bound(most)? < low {
            return None;
        }
        let operator = &before[..before.len() - self.rest.len()];
        self.repeat(&format!("{{{operator}"))
    }

    fn open(&mut self) -> Option<()> {
        self.last = Last::Nothing;
        if !self.take("?") {
            self.depth += 1;
            self.out.push('(');
            return Some(());
        }
        if self.take("P<") || self.take("<") {
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() || !self.take(">") || self.names.contains(&name) {
                return None;
            }
            self.names.push(name);
            self.depth += 1;
            self.out.push('(');
            return Some(());
        }
        let flags = self.take_while(|c| "imsU-".contains(c));
        if flags.ends_with('-') || flags.matches('-').count() > 1 {
            return None;
        }
        let end = self.next()?;
        match end {
            ':' => self.depth += 1,
            ')' if !flags.is_empty() => {}
            _ => return None,
        }
        self.out.push_str("(?");
        self.out.push_str(flags);
        self.out.push(end);
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        if self.take("Q") {
            let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
            self.rest = rest;
            quoted.chars().for_each(|c| self.literal(c));
            return Some(());
        }
        for assertion in ["A", "z", "b", "B"] {
            if self.take(assertion) {
                self.atom(&format!("\\{assertion}"));
                return Some(());
            }
        }
        if let Some(set) = self.set() {
            self.atom(&set?);
            return Some(());
        }
        let c = self.character()?;
        self.literal(c);
        Some(())
    }

    /// The set of characters that an escape stands for, if it is of that kind. RE2's are those of ASCII.
    fn set(&mut self) -> Option<Option<String>> {
        for (letter, set) in [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("s", "[\\t\\n\\f\\r ]"),
            ("S", "[^\\t\\n\\f\\r ]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
        ] {
            if self.take(letter) {
                return Some(Some(set.to_owned()));
            }
        }
        let negated = self.rest.starts_with('P');
        if !self.take("p") && !self.take("P") {
            return None;
        }
        Some(self.property(negated))
    }

    fn property(&mut self, negated: bool) -> Option<String> {
        let (not, name) = if self.take("{") {
            let inside = self.up_to('}')?;
            inside.strip_prefix('^').map_or((false, inside), |name| (true, name))
        } else {
            let before = self.rest;
            (false, &before[..self.next()?.len_utf8()])
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
            return None;
        }
        let letter = if negated != not { 'P' } else { 'p' };
        Some(format!("\\{letter}{{{name}}}"))
    }

    fn up_to(&mut self, end: char) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(taken)
    }

    /// The one character that an escape stands for.
    fn character(&mut self) -> Option<char> {
        match self.next()? {
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            't' => Some('\t'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            'v' => Some('\x0b'),
            'x' => self.hexadecimal(),
            first @ '0'..='7' => self.octal(first),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.take("{") {
            self.up_to('}')?
        } else {
            let digits = self.rest.get(..2)?;
            self.rest = &self.rest[2..];
            digits
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
    }

    /// Up to three digits. One alone, but zero, would refer to a group, which RE2 cannot.
    fn octal(&mut self, first: char) -> Option<char> {
        let mut value = first.to_digit(8)?;
        for more in 0..2 {
            match self.rest.chars().next().and_then(|c| c.to_digit(8)) {
                Some(digit) => value = value * 8 + digit,
                None if more == 0 && first != '0' => return None,
                None => break,
            }
            self.next();
        }
        char::from_u32(value)
    }

    /// A class of characters, after its opening bracket.
    fn class(&mut self) -> Option<()> {
        let opening = if self.take("^") { "[^" } else { "[" };
        self.out.push_str(opening);
        let mut first = true;
        while first || !self.take("]") {
            first = false;
            if let Some(named) = self.named_class() {
                self.out.push_str(named?);
                continue;
            }
            let before = self.rest;
            if self.take("\\") {
                if let Some(set) = self.set() {
                    self.out.push_str(&set?);
                    continue;
                }
                self.rest = before;
            }
            let low = self.class_character()?;
            self.out.push_str(&code_point(low));
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                let high = self.class_character()?;
                if high < low {
                    return None;
                }
                self.out.push('-');
                self.out.push_str(&code_point(high));
            }
        }
        self.out.push(']');
        Some(())
    }

    /// `[:alpha:]` and its like; without the closing half, a bracket is a bracket.
    fn named_class(&mut self) -> Option<Option<&'a str>> {
        let inside = self.rest.strip_prefix("[:")?;
        let end = inside.find(":]")?;
        let (whole, rest) = self.rest.split_at(end + 4);
        self.rest = rest;
        let name = inside[..end].strip_prefix('^').unwrap_or(&inside[..end]);
        Some(NAMED_CLASSES.contains(&name).then_some(whole))
    }

    fn class_character(&mut self) -> Option<char> {
        match self.next()? {
            '\\' => self.character(),
            c => Some(c),
        }
    }
}

const NAMED_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// A character that stands for itself wherever it is.
fn code_point(c: char) -> String {
    if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:x}}}", u32::from(c)) }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
