//! Tables for people, JSON for programs. Whatever is printed is escaped: a name may hold anything.

use std::io::{self, Write};

use serde_json::Value;

use crate::boot::logger;
use crate::model::printable::{acts, printable};

/// Rows under a heading, columns as wide as they need to be.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heading: &[&str]) -> Self {
        Table { rows: vec![heading.iter().map(|h| h.to_string()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }

    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Lines as they are, and what is in them escaped.
pub fn lines(text: &str) -> String {
    let ends = text.ends_with('\n');
    let all: Vec<_> = text.strip_suffix('\n').unwrap_or(text).split('\n').map(printable).collect();
    all.join("\n") + if ends { "\n" } else { "" }
}

pub fn print(text: &str) -> io::Result<()> {
    print_raw(lines(text).as_bytes())
}

pub fn print_raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

pub fn print_json(value: &Value) -> io::Result<()> {
    print_raw(quiet_json(&format!("{value:#}\n")).as_bytes())
}

/// JSON in which what JSON itself leaves as it is, and a terminal does not, is escaped as well.
pub fn quiet_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if acts(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Tells the user something beside the answer. Where it cannot be told, it is not.
pub fn complain(text: &str) {
    logger::complain(&(lines(text) + "\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let mut table = Table::new(&["NAME", "PARTITIONS"]);
        table.row(["a-long-name".to_owned(), "1".to_owned()]);
        table.row(["b".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME         PARTITIONS\na-long-name  1\nb\n");
    }

    #[test]
    fn names_move_no_cursor_and_make_no_lines() {
        let mut table = Table::new(&["GROUP"]);
        table.row(["a\u{1b}[2J\nb".to_owned()]);
        assert_eq!(table.render(), "GROUP\na\\u{1b}[2J\\nb\n");
        assert_eq!(lines("one\n  \u{7}two\n"), "one\n  \\u{7}two\n");
        let value = serde_json::json!({"group": "a\u{9b}\u{1b}\n"});
        let text = quiet_json(&format!("{value:#}\n"));
        assert_eq!(text, "{\n  \"group\": \"a\\u009b\\u001b\\n\"\n}\n");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
