use super::*;

const MACHINE: Machine = Machine { cores: 4, memory: 8 << 30 };

/// Builds from a TOML text, variables and flags, each `name=text`.
fn load(toml: &str, variables: &[&str], flags: &[&str]) -> Result<Config, String> {
    let pair = |s: &&str| {
        let (name, text) = s.split_once('=').unwrap();
        (name.to_owned(), text.to_owned())
    };
    let mut sources = Sources::default();
    for (name, text) in flags.iter().map(pair) {
        sources.flag(&name, text);
    }
    sources.environment(variables.iter().map(pair));
    sources.toml(toml);
    sources.build(&MACHINE).map_err(|e| e.to_string())
}

#[test]
fn every_setting_has_a_default_that_parses() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.data_dir.to_str(), Some("./weir-data"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9644");
    assert_eq!(config.shards, 4);
    assert_eq!(config.cache_memory, (8 << 30) / 10);
    assert_eq!(config.log_level, log::LevelFilter::Info);
    assert!(config.auto_create_topics);
    assert_eq!(config.advertised("127.0.0.1:4711".parse().unwrap()).to_string(), "127.0.0.1:4711");
}

#[test]
fn a_tiny_machine_still_gets_usable_budgets() {
    let machine = Machine { cores: 1, memory: 64 << 20 };
    let config = Sources::default().build(&machine).unwrap();
    assert_eq!(config.tail_memory, 16 << 20);
}

#[test]
fn defaults_fit_a_small_machine_and_what_is_set_stays() {
    let machine = Machine { cores: 64, memory: 128 << 20 };
    let config = Sources::default().build(&machine).unwrap();
    let budgets = config.cache_memory + config.tail_memory + config.request_memory + config.compaction_memory;
    assert_eq!((config.shards, budgets), (2, 64 << 20));
    let connections = (config.max_connections as u64, config.send_buffer);
    assert_eq!((config.max_request_size, connections), (16 << 20, (2048, 128 << 10)));
    let mut sources = Sources::default();
    for (name, text) in [("shards", "8"), ("max_request_size", "100MiB"), ("send_buffer", "1MiB")] {
        sources.flag(name, text);
    }
    let config = sources.build(&machine).unwrap();
    assert_eq!((config.shards, config.max_request_size, config.send_buffer), (8, 100 << 20, 1 << 20));
}

#[test]
fn flag_over_environment_over_file_over_default() {
    for (toml, variables, flags, expected) in [
        ("", &[][..], &[][..], 4),
        ("shards = 1", &[][..], &[][..], 1),
        ("shards = 1", &["WEIR_SHARDS=2"][..], &[][..], 2),
        ("shards = 1", &["WEIR_SHARDS=2"][..], &["shards=3"][..], 3),
        ("", &["WEIR_SHARDS=2"][..], &["shards=auto"][..], 4),
    ] {
        assert_eq!(load(toml, variables, flags).unwrap().shards, expected, "{toml} {variables:?} {flags:?}");
    }
}

#[test]
fn the_file_takes_numbers_booleans_and_texts() {
    let text = "cache_memory = '512MiB'\nauto_create_topics = false\ndefault_partitions = 12\nadmin = 'off'";
    let config = load(text, &[], &[]).unwrap();
    assert_eq!(config.cache_memory, 512 << 20);
    assert!(!config.auto_create_topics);
    assert_eq!(config.default_partitions, 12);
    assert_eq!(config.admin, None);
}

#[test]
fn problems_name_the_setting_and_what_is_allowed() {
    for (toml, variables, flags, expected) in [
        ("shard = 1", &[][..], &[][..], "shard in the config file: is not a setting (did you mean shards?)"),
        ("replicas = 1", &[][..], &[][..], "replicas in the config file: is not a setting"),
        (
            "",
            &["WEIR_SHARD=1"][..],
            &[][..],
            "WEIR_SHARD: is not a setting (did you mean WEIR_SHARDS?); unset it",
        ),
        (
            "shards = 0",
            &[][..],
            &[][..],
            "shards in the config file: \"0\" must be a number from 1 to 256, or auto",
        ),
        (
            "shards = [1]",
            &[][..],
            &[][..],
            "shards in the config file: must be a number from 1 to 256, or auto",
        ),
        (
            "",
            &["WEIR_LOG_LEVEL=loud"][..],
            &[][..],
            "WEIR_LOG_LEVEL: \"loud\" must be off, error, warn, info, debug or trace",
        ),
        (
            "",
            &[][..],
            &["listen=9092"][..],
            "--listen: \"9092\" must be an IP address and port such as 127.0.0.1:9092 or 0.0.0.0:9092",
        ),
        ("", &[][..], &["cache_memory=1k"][..], "--cache-memory: 1024 bytes is too little: at least 16MiB"),
        (
            "",
            &[][..],
            &["advertised=0.0.0.0:9092"][..],
            "--advertised: 0.0.0.0:9092 is every address, and no client can connect to that: \
             say a host name or an address that leads clients here",
        ),
        (
            "",
            &["WEIR_ADVERTISED=[::]:9092"][..],
            &[][..],
            "WEIR_ADVERTISED: [::]:9092 is every address, and no client can connect to that: \
             say a host name or an address that leads clients here",
        ),
        (
            "log_retention_ms = '-2h'",
            &[][..],
            &[][..],
            "log_retention_ms in the config file: \"-2h\" must be a number from -1 of milliseconds, \
             or a duration such as 36h or 7d",
        ),
        (
            "",
            &[][..],
            &["group_min_session_timeout=31m"][..],
            "--group-min-session-timeout: must not be longer than group_max_session_timeout",
        ),
        ("", &[][..], &["admin=127.0.0.1:9092"][..], "--admin: 127.0.0.1:9092 is the listen address too"),
        (
            "",
            &[][..],
            &["listen=0.0.0.0:9092"][..],
            "--advertised: must be set when listening on every address (0.0.0.0:9092): \
             clients need a host and port to connect to",
        ),
    ] {
        assert_eq!(load(toml, variables, flags).unwrap_err(), expected);
    }
}

#[test]
fn defaults_of_topics_are_settings() {
    let config =
        load("log_retention_ms = '36h'", &["WEIR_LOG_SEGMENT_BYTES=2MiB"], &["min_insync_replicas=2"]);
    let set = config.unwrap().topic_defaults;
    let pairs: Vec<_> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        pairs,
        [("min.insync.replicas", "2"), ("retention.ms", "129600000"), ("segment.bytes", "2097152")]
    );
    assert!(load("", &[], &[]).unwrap().topic_defaults.is_empty(), "what was not set is not there");
    let error =
        load("log_cleaner_max_compaction_lag_ms = 5\nlog_cleaner_min_compaction_lag_ms = 6", &[], &[]);
    assert!(error.unwrap_err().contains("min.compaction.lag.ms (6) > max.compaction.lag.ms (5)"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let error = load("shard = 1\nlog_level = 'x'", &["WEIR_X=1"], &["shards=x"]).unwrap_err();
    assert_eq!(error.lines().count(), 4, "{error}");
}

#[test]
fn budgets_must_fit_the_machine_together() {
    let error = load("", &[], &["cache_memory=90%"]).unwrap_err();
    assert!(error.contains("8192 MiB"), "{error}");
}

#[test]
fn broken_toml_and_missing_files_say_where() {
    let error = load("shards = ", &[], &[]).unwrap_err();
    assert!(error.starts_with("the config file: TOML parse error at line 1"), "{error}");
    let mut sources = Sources::default();
    sources.file(std::path::Path::new("/nonexistent/weir.toml"));
    let error = sources.build(&MACHINE).unwrap_err().to_string();
    assert!(error.starts_with("config file /nonexistent/weir.toml: "), "{error}");
}

#[test]
fn variables_of_others_are_left_alone() {
    assert!(load("", &["HOME=/root", "WEIR_CONFIG=x", "WEIR_BROKER=y"], &[]).is_ok());
}
