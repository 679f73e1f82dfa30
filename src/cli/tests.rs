use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, String> {
    let words = line.split_whitespace();
    Cli::try_parse_from(std::iter::once("weir").chain(words)).map_err(|e| e.to_string())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn valid_lines() {
    for line in [
        "serve",
        "serve --data-dir /x --listen 0.0.0.0:9092 --advertised a:1 --shards 2 --auto-create-topics false",
        "topic create t -p 4 -c retention.ms=1 -c cleanup.policy=compact --json",
        "topic list --broker b:1",
        "topic describe t --all",
        "topic alter t --set a=b --unset c --partitions 3",
        "topic delete a b --if-exists",
        "txn list --state Ongoing --longer-than 5m --json",
        "txn describe my-id",
        "txn abort my-id --broker b:1",
        "txn abort --partition t:3 --producer-id 7",
        "produce t --key-separator : --partition 1 --acks 1 --codec zstd",
        "consume t -p 0 -p 1 --offset -5 -e --max 10 --format %k:%s\\n",
        "consume t --offset 2026-01-01T00:00:00Z --json",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).err().unwrap_or_default());
    }
}

#[test]
fn invalid_lines_say_what_is_allowed() {
    for (line, expected) in [
        ("serv", "similar subcommand exists: 'serve'"),
        ("serve --shard 1", "similar argument exists: '--shards'"),
        ("topic crate t", "'create'"),
        ("topic create t -c retention", "must be NAME=VALUE"),
        ("topic alter t", "required"),
        ("topic delete", "required"),
        ("produce t --acks 2", "must be all, 1 or 0"),
        ("produce t --codec zip", "must be one of none, gzip, snappy, lz4, zstd"),
        ("consume t --offset begining", "did you mean beginning?"),
        ("consume t --format %x", "%x means nothing"),
    ] {
        let error = parse(line).err().unwrap_or_default();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn every_setting_is_a_flag_of_serve() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for setting in crate::config::settings() {
        let flag = setting.flag_name();
        assert!(serve.get_arguments().any(|a| a.get_long() == Some(flag.as_str())), "{flag}");
    }
}
