//! The workloads that are built in, and changes to a workload from the command line.

use toml::Value;

use crate::Outcome;

/// Workloads that the program carries with it.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../workloads/default.toml")),
    ("metrics-ingestion", include_str!("../workloads/metrics-ingestion.toml")),
    ("small-records", include_str!("../workloads/small-records.toml")),
    ("kilobyte", include_str!("../workloads/kilobyte.toml")),
    ("single", include_str!("../workloads/single.toml")),
    ("one", include_str!("../workloads/one.toml")),
    ("narrow", include_str!("../workloads/narrow.toml")),
    ("wide", include_str!("../workloads/wide.toml")),
    ("fetch-1m", include_str!("../workloads/fetch-1m.toml")),
    ("fetch-8m", include_str!("../workloads/fetch-8m.toml")),
    ("fan-out", include_str!("../workloads/fan-out.toml")),
    ("groups", include_str!("../workloads/groups.toml")),
    ("cold-reader", include_str!("../workloads/cold-reader.toml")),
    ("logs", include_str!("../workloads/logs.toml")),
    ("kafka-perf-test", include_str!("../workloads/kafka-perf-test.toml")),
    ("redpanda-1gb", include_str!("../workloads/redpanda-1gb.toml")),
    ("omb-1-topic-16-partitions-1kb", include_str!("../workloads/omb-1-topic-16-partitions-1kb.toml")),
    ("omb-1-topic-100-partitions-1kb", include_str!("../workloads/omb-1-topic-100-partitions-1kb.toml")),
];

/// Sets `a.b=value` in a table; the value is TOML, or a text if it is not. `consumer.x` means every consumer.
pub fn apply(root: &mut Value, change: &str) -> Outcome<()> {
    let (path, text) = change.split_once('=').ok_or_else(|| format!("`{change}` is not PATH=VALUE"))?;
    let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(text.to_owned()));
    let steps: Vec<&str> = path.split('.').collect();
    set(root, &steps, value).ok_or_else(|| format!("`{path}` leads nowhere"))
}

fn set(at: &mut Value, steps: &[&str], value: Value) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    if let Value::Array(items) = at {
        return items.iter_mut().try_for_each(|item| set(item, steps, value.clone()));
    }
    let table = at.as_table_mut()?;
    if rest.is_empty() {
        table.insert((*step).to_owned(), value);
        return Some(());
    }
    let fresh = || match *step {
        "consumer" => Value::Array(vec![Value::Table(toml::Table::new())]),
        _ => Value::Table(toml::Table::new()),
    };
    set(table.entry((*step).to_owned()).or_insert_with(fresh), rest, value)
}
