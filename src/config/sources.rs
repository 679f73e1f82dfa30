//! Where a setting may be set: flags, the environment, the TOML file. Gathers texts; judges only names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Problem;
use super::setting::Setting;
use super::suggest::did_you_mean;
use super::table::{find, settings};

/// Where a text came from, in rising precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    File,
    Environment,
    Flag,
}

/// A `WEIR_*` variable that is no setting: the file to read, and the client commands' broker.
const OTHER_VARIABLES: [&str; 2] = ["WEIR_CONFIG", "WEIR_BROKER"];

/// The texts gathered so far; for each setting the strongest source wins, whatever the order of calls.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    texts: BTreeMap<&'static str, (Source, String)>,
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl Sources {
    /// A flag that the command line gave. The command line itself refuses unknown flags.
    pub fn flag(&mut self, name: &str, text: impl Into<String>) {
        match find(name) {
            Some(setting) => self.put(setting, Source::Flag, text.into()),
            None => self.problem(format!("--{name}"), "is not a setting".to_owned()),
        }
    }

    /// Takes every `WEIR_*` variable.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (variable, text) in variables {
            if !variable.starts_with("WEIR_") || OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            match settings().iter().find(|s| s.variable() == variable) {
                Some(setting) => self.put(setting, Source::Environment, text),
                None => {
                    let known: Vec<String> = settings().iter().map(Setting::variable).collect();
                    let hint = did_you_mean(&variable, known.iter().map(String::as_str));
                    self.problem(variable, format!("is not a setting{hint}; unset it"));
                }
            }
        }
    }

    /// Reads the TOML file. That it cannot be read is a problem like any other.
    pub fn file(&mut self, path: &Path) {
        self.file = Some(path.to_owned());
        match std::fs::read_to_string(path) {
            Ok(text) => self.toml(&text),
            Err(error) => self.problem(format!("config file {}", path.display()), error.to_string()),
        }
    }

    /// Takes the text of a TOML file.
    pub fn toml(&mut self, text: &str) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => return self.problem(self.file_name(), error.to_string().trim_end().to_owned()),
        };
        for (key, value) in table {
            let place = format!("{key} in {}", self.file_name());
            let Some(setting) = find(&key) else {
                let hint = did_you_mean(&key, settings().iter().map(|s| s.name));
                self.problem(place, format!("is not a setting{hint}"));
                continue;
            };
            match value {
                toml::Value::String(text) => self.put(setting, Source::File, text),
                toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => {
                    self.put(setting, Source::File, value.to_string())
                }
                _ => self.problem(place, format!("must be {}", setting.allowed)),
            }
        }
    }

    /// The settings whose text is not the same here and there.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = |name: &&str| self.text(name) != other.text(name);
        settings().iter().map(|setting| setting.name).filter(differs).collect()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|(_, text)| text.as_str())
    }

    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// The setting as its user wrote it.
    pub(super) fn place(&self, setting: &Setting) -> String {
        match self.texts.get(setting.name) {
            Some((Source::File, _)) => format!("{} in {}", setting.name, self.file_name()),
            Some((Source::Environment, _)) => setting.variable(),
            Some((Source::Flag, _)) | None => format!("--{}", setting.flag_name()),
        }
    }

    fn put(&mut self, setting: &'static Setting, source: Source, text: String) {
        match self.texts.get(setting.name) {
            Some((stronger, _)) if *stronger > source => {}
            _ => {
                self.texts.insert(setting.name, (source, text));
            }
        }
    }

    fn problem(&mut self, setting: String, message: String) {
        self.problems.push(Problem { setting, message });
    }

    fn file_name(&self) -> String {
        self.file.as_ref().map_or("the config file".to_owned(), |p| p.display().to_string())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::File => "config file",
            Source::Environment => "environment",
            Source::Flag => "command line",
        })
    }
}
