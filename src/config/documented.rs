//! `docs/configs.md`, made of the tables: the test fails where the file says something else. `WEIR_BLESS=1` writes it.

use std::fmt::Write;

use super::settings;
use crate::model::broker_config::{BrokerConfig, Change, HIDDEN, Value, broker_configs};
use crate::model::config_def::ConfigDef;
use crate::model::resource_configs::{CLIENT_METRICS_CONFIGS, GROUP_CONFIGS};
use crate::model::topic_config::TOPIC_CONFIGS;

const INTRODUCTION: &str = "\
# Kafka's configs, and what each is here

Made from the code's tables by a test, which also holds them against the names, types and defaults that Apache Kafka 4.3.1
answers to DescribeConfigs. Each config is a setting of `weir serve`, the default of a topic config, a fact about this
broker, or *without effect*: then it is kept, shown, and named in the log when somebody sets it.

Kafka's tools show and change all of them (`kafka-configs.sh --entity-type brokers|topics|groups|client-metrics`). What is set
for one broker goes before what is set for all, that before the settings that the broker was started with, and those before the
defaults. A change holds on every shard when it is answered, and survives a restart.

Unlike Kafka, a broker refuses names that nothing here knows (Kafka keeps them for plug-ins), configs of a single listener
(`listener.name.…`: there is one listener, which speaks plain text), host names in `max.connections.per.ip.overrides`, and
changes of `listeners` and `listener.security.protocol.map` while it runs.
";

/// A cell of a table: `|` would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn default(def: &ConfigDef) -> String {
    match def.default {
        None => "not set".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => format!("`{}`", cell(value)),
    }
}

fn effect(def: &ConfigDef) -> String {
    match def.idle {
        Some(why) => format!("*without effect*: {}", cell(why)),
        None => cell(def.doc),
    }
}

fn setting_of(kafka: &str) -> Option<String> {
    let setting = settings().iter().find(|setting| setting.kafka == Some(kafka))?;
    Some(format!("`{}`", setting.name))
}

fn broker_row(config: &BrokerConfig) -> String {
    let def = &config.def;
    let changes = match config.change {
        Change::Restart => "no",
        Change::Anywhere => "yes",
        Change::OneBroker => "one broker",
        Change::Listener => "refused",
    };
    let setting = setting_of(def.name).map_or(String::new(), |setting| format!("setting {setting}: "));
    let here = match config.value {
        Value::Topic(topic) if def.idle.is_none() => format!("{setting}default of topics' `{topic}`"),
        Value::Setting(_) => format!("{setting}{}", cell(def.doc)),
        Value::Fact(_) => format!("fact: {setting}{}", cell(def.doc)),
        Value::Topic(_) | Value::Idle(_) => effect(def),
    };
    format!("| `{}` | {} | {} | {changes} | {here} |", def.name, def.type_name(), default(def))
}

fn made() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut section = |title: &str, head: &str, rows: Vec<String>| {
        let rule = "|---".repeat(head.matches('|').count() - 1);
        let _ = write!(text, "\n## {title}\n\n{head}\n{rule}|\n{}\n", rows.join("\n"));
    };
    let named = settings().iter().filter_map(|setting| {
        let kafka = setting.kafka?;
        let (default, help) = (cell(setting.default), cell(setting.help));
        Some(format!("| `{}` | `{default}` | {} | `{kafka}` | {help} |", setting.name, cell(setting.allowed)))
    });
    section(
        "Settings that Kafka's brokers have too",
        "| setting | default | accepts | Kafka's name | is |",
        named.collect(),
    );
    section(
        "Brokers",
        "| config | type | Kafka's default | changes while running | here |",
        broker_configs().iter().chain(HIDDEN).map(broker_row).collect(),
    );
    let rows = |defs: &[ConfigDef]| {
        let row = |def: &ConfigDef| {
            format!("| `{}` | {} | {} | {} |", def.name, def.type_name(), default(def), effect(def))
        };
        defs.iter().map(row).collect()
    };
    let head = "| config | type | default | here |";
    section("Topics", head, rows(TOPIC_CONFIGS));
    section("Groups", head, rows(GROUP_CONFIGS));
    section("Client metrics subscriptions", head, rows(CLIENT_METRICS_CONFIGS));
    text
}

#[test]
fn the_docs_are_what_the_tables_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configs.md");
    let made = made();
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let differs = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert_eq!(differs, None, "docs/configs.md; WEIR_BLESS=1 writes it");
    assert_eq!(written.len(), made.len(), "docs/configs.md; WEIR_BLESS=1 writes it");
}
