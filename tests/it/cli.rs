//! `weir topic`, `weir group`, `weir produce`, `weir consume`: what a person and a script see.

use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::broker::{free_port, weir};
use crate::support::{shared, unique};

fn weir_with_input(args: &[&str], input: &str) -> Output {
    let mut command = weir();
    command.args(args).args(["--broker", &shared().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the weir binary starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("input");
    child.wait_with_output().expect("output")
}

/// Runs a command that must succeed: its standard output.
fn ok(args: &[&str]) -> String {
    ok_with_input(args, "")
}

fn ok_with_input(args: &[&str], input: &str) -> String {
    let output = weir_with_input(args, input);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn json(args: &[&str]) -> Value {
    let text = ok(args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
}

/// Runs a command that must fail: exit code and what it says.
fn fails(args: &[&str], code: i32, says: &str) {
    let output = weir_with_input(args, "");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    assert!(err.contains(says), "{args:?} should say {says:?}: {err}");
}

#[test]
fn a_topic_from_the_command_line() {
    let topic = unique("cli");
    ok(&["topic", "create", &topic, "-p", "3", "-c", "retention.ms=60000"]);
    assert!(ok(&["topic", "list"]).lines().any(|line| line.starts_with(&topic)));
    let described = json(&["topic", "describe", &topic, "--json"]);
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3), "{described}");
    assert!(ok(&["topic", "describe", &topic]).contains("retention.ms"));
    ok(&["topic", "alter", &topic, "-p", "4", "-s", "retention.ms=70000"]);
    let described = ok(&["topic", "describe", &topic]);
    assert!(described.contains("70000"), "{described}");
    fails(&["topic", "create", &topic], 1, &topic);
    ok(&["topic", "create", &topic, "--if-not-exists"]);
    ok(&["topic", "delete", &topic]);
    fails(&["topic", "describe", &topic], 1, &topic);
    ok(&["topic", "delete", &topic, "--if-exists"]);
}

#[test]
fn names_from_outside_are_shown_and_not_obeyed() {
    let topic = unique("cli-names");
    ok(&["topic", "create", &topic]);
    let group = format!("{topic}\u{1b}[2J\u{9b}31m\nforged\u{7}");
    let shown = format!("{topic}\\u{{1b}}[2J\\u{{9b}}31m\\nforged\\u{{7}}");
    ok(&["group", "reset-offsets", &group, "--topic", &topic, "--to", "beginning", "--execute"]);
    let quiet = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    for args in [
        &["group", "list"][..],
        &["group", "list", "--json"],
        &["group", "describe", &group],
        &["group", "describe", &group, "--json"],
        &["group", "delete", &group],
    ] {
        let text = ok(args);
        let as_json = args.last() == Some(&"--json");
        assert!(quiet(&text) && (as_json || text.contains(&shown)), "{args:?}: {text:?}");
    }
    let listed = json(&["group", "list", "--json"]);
    assert!(listed.as_array().is_some_and(|all| all.iter().all(|g| g["group"] != group.as_str())));
    let output = weir_with_input(&["group", "describe", &group], "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && quiet(&error) && error.contains(&shown), "{error:?}");
    let id = "txn\u{1b}]0;x\u{7}";
    let output = weir_with_input(&["txn", "describe", id], "");
    assert!(quiet(&String::from_utf8_lossy(&output.stderr)), "{output:?}");
}

#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let topic = unique("cli-gone");
    ok(&["topic", "create", &topic]);
    ok_with_input(&["produce", &topic], "x\n");
    let broker = shared().to_string();
    for args in
        [&["topic", "list"][..], &["topic", "describe", &topic], &["consume", &topic, "-e"], &["doctor"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = weir();
        command.args(args).env("WEIR_BROKER", &broker).stdout(writer).stderr(Stdio::piped());
        let output = command.spawn().expect("it starts").wait_with_output().expect("output");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code().is_some_and(|code| code <= 1) && error.is_empty(),
            "{args:?}: {output:?}"
        );
        // Nor is an error that nobody can be told a reason to panic.
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut command = weir();
        command.args(args).env("WEIR_BROKER", &broker).stdout(full()).stderr(full());
        assert_eq!(command.status().expect("it runs").code(), Some(1), "{args:?}");
    }
}

#[test]
fn lines_in_lines_out() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = unique("cli-lines");
        ok(&["topic", "create", &topic]);
        let input: String = (0..5_000).map(|i| format!("line {i}\n")).collect();
        ok_with_input(&["produce", &topic, "-c", codec], &input);
        assert_eq!(ok(&["consume", &topic, "-e"]), input, "{codec}");
        assert_eq!(ok(&["consume", &topic, "-o", "4998", "-e"]), "line 4998\nline 4999\n");
        assert_eq!(ok(&["consume", &topic, "-o", "-1", "-e"]), "line 4999\n");
        assert_eq!(ok(&["consume", &topic, "-m", "2", "-f", "%p/%o %s;"]), "0/0 line 0;0/1 line 1;");
    }
}

#[test]
fn keys_and_json() {
    let topic = unique("cli-keys");
    ok(&["topic", "create", &topic, "-p", "4"]);
    let input: String = (0..100).map(|i| format!("k{}={i}\n", i % 7)).collect();
    ok_with_input(&["produce", &topic, "-k", "="], &input);
    let text = ok(&["consume", &topic, "-e", "--json"]);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), 100);
    let mut homes = std::collections::HashMap::new();
    for row in &rows {
        let home = homes.entry(row["key"].to_string()).or_insert_with(|| row["partition"].clone());
        assert_eq!(home, &row["partition"], "a key stays in its partition");
    }
}

#[test]
fn mistakes_are_explained() {
    let topic = unique("cli-mistakes");
    ok(&["topic", "create", &topic]);
    fails(&["topic", "alter", &topic, "-p", "1"], 1, "partitions");
    fails(&["topic", "alter", &topic, "-s", "retention.ms=soon"], 1, "retention.ms");
    fails(&["topic", "alter", &topic], 2, "Usage");
    fails(&["consume", &unique("nowhere"), "-e"], 1, "nowhere");
    fails(&["consume", &topic, "-o", "99", "-e"], 2, "99");
    fails(&["produce", &topic, "-c", "rar"], 2, "rar");
    let dead = free_port().to_string();
    let output = weir().args(["topic", "list", "--broker", &dead]).output().expect("output");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&dead));
}

#[test]
fn a_group_from_the_command_line() {
    let (topic, group) = (unique("cli-grouped"), unique("cli-group"));
    ok(&["topic", "create", &topic, "-p", "2"]);
    let input: String = (0..50).map(|i| format!("key{i}=value{i}\n")).collect();
    ok_with_input(&["produce", &topic, "-k", "="], &input);
    let read = || {
        let mut lines: Vec<String> =
            ok(&["consume", &topic, "--group", &group, "-e"]).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut all: Vec<String> = (0..50).map(|i| format!("value{i}")).collect();
    all.sort();
    assert_eq!(read(), all);
    assert_eq!(read(), [""; 0], "what was printed is committed");
    ok_with_input(&["produce", &topic], "more\n");
    let lag = |wanted: i64| {
        let described = json(&["group", "describe", &group, "--json"]);
        assert_eq!(
            (&described["state"], &described["lag"]),
            (&"Empty".into(), &wanted.into()),
            "{described}"
        );
    };
    lag(1);
    assert_eq!(ok(&["consume", &topic, "-g", &group, "-m", "1"]), "more\n");
    lag(0);
    assert!(ok(&["group", "list"]).lines().any(|line| line.starts_with(&group)));
    assert!(!ok(&["group", "list", "--state", "stable"]).lines().any(|line| line.starts_with(&group)));
    assert!(ok(&["group", "describe", &group]).contains(&topic));
    let shown = ok(&["group", "reset-offsets", &group, "--to", "beginning"]);
    assert!(shown.contains("--execute"), "{shown}");
    lag(0);
    ok(&["group", "reset-offsets", &group, "--to", "beginning", "--execute"]);
    lag(51);
    ok(&["group", "reset-offsets", &group, "--to", "end", "-t", &format!("{topic}:0"), "--execute"]);
    ok(&["group", "reset-offsets", &group, "--to", "end", "--execute"]);
    ok(&["group", "reset-offsets", &group, "--by", "-1", "--execute"]);
    lag(2);
    fails(
        &["group", "reset-offsets", &group, "--to", "end", "-t", &format!("{topic}:7")],
        2,
        "not a partition",
    );
    fails(&["group", "describe", &group[1..]], 1, &group);
    ok(&["group", "delete", &group]);
    fails(&["group", "delete", &group], 1, "GROUP_ID_NOT_FOUND");
    ok(&["group", "delete", &group, "--if-exists"]);
}

#[test]
fn an_interrupted_member_commits_and_leaves() {
    let (topic, group) = (unique("cli-interrupted"), unique("cli-interrupted"));
    ok(&["topic", "create", &topic]);
    ok_with_input(&["produce", &topic], "first\n");
    let mut command = weir();
    command.args(["consume", &topic, "--group", &group, "--broker", &shared().to_string()]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the weir binary starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    assert_eq!(line, "first\n");
    // SAFETY: the child has not been waited for, so its pid is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    assert!(child.wait().expect("it ends").success());
    // A member that only stops is counted until its session is over.
    let described = json(&["group", "describe", &group, "--json"]);
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &0.into()), "{described}");
}
