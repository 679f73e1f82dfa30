use super::*;

#[test]
fn the_table_is_sorted_without_repeats() {
    assert!(broker_configs().is_sorted_by(|a, b| a.def.name < b.def.name));
    for config in broker_configs() {
        let def = &config.def;
        assert_eq!(def.default.map_or(Ok(()), |value| def.validate(value)), Ok(()), "{}", def.name);
        assert!(!def.documentation().is_empty(), "{}", def.name);
    }
}

#[test]
fn values_are_of_their_configs_types() {
    let settings = BrokerSettings::default();
    for config in broker_configs() {
        if let Some(value) = static_value(&settings, config)
            && config.def.kind != ConfigType::List
        {
            assert_eq!(config.def.validate(&value), Ok(()), "{}", config.def.name);
        }
    }
}

/// Every name that Kafka answers to DescribeConfigs, of whatever it is asked of.
#[test]
fn every_name_of_kafkas_is_known_with_its_type_and_default() {
    use crate::model::resource_configs::{CLIENT_METRICS_CONFIGS, GROUP_CONFIGS};
    let facts = include_str!("../../../tests/data/kafka-4.3.1-configs.tsv");
    let broker = |name: &str| broker_config(name).map(|config| config.def);
    let one_of = |defs: &[ConfigDef], name: &str| defs.iter().find(|def| def.name == name).copied();
    let mut counts = [0; 2];
    for line in facts.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [resource, name, kind, default, sensitive, changes] = columns[..] else { panic!("{line}") };
        let def = match resource {
            "topic" => one_of(TOPIC_CONFIGS, name),
            "broker" => broker(name),
            "group" => one_of(GROUP_CONFIGS, name),
            "client_metrics" => one_of(CLIENT_METRICS_CONFIGS, name),
            _ => panic!("{line}"),
        };
        let def = def.unwrap_or_else(|| panic!("{line}: not in the table"));
        let default = (default != "\\N").then_some(default);
        assert_eq!((def.type_name(), def.default), (kind, default), "{line}");
        assert_eq!(def.is_sensitive(), sensitive == "sensitive", "{line}");
        if resource == "broker" {
            counts[0] += 1;
            counts[1] += usize::from(check_change(name, changes));
        }
    }
    assert_eq!(counts[0], broker_configs().len(), "no name that Kafka does not have");
    assert_eq!(counts[1], 2, "what Kafka lets change and this broker does not");
}

/// Whether Kafka lets a config change that stands fast here.
fn check_change(name: &str, changes: &str) -> bool {
    let config = broker_config(name).expect("looked up before");
    let ours = match config.change {
        Change::Restart => "no",
        Change::Anywhere => "cluster",
        Change::OneBroker => "broker",
        Change::Listener => "listener",
    };
    let stands_fast = matches!(config.value, Value::Fact(_)) && changes != "no" && ours == "no";
    assert!(ours == changes || stands_fast, "{name}: {ours}, not {changes}");
    stands_fast
}

#[test]
fn what_can_be_changed_has_an_effect_or_says_that_it_has_none() {
    for config in broker_configs().iter().filter(|config| config.is_dynamic()) {
        let live = matches!(config.value, Value::Setting(_)) && super::super::Live::has(config.def.name);
        let told = config.def.idle.is_some();
        assert!(live || told || matches!(config.value, Value::Topic(_)), "{}", config.def.name);
    }
}
