//! `weir serve`: its flags are the table of settings, read rather than repeated.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::output::complain;
use crate::boot::{self, Reloaded};
use crate::config::{ConfigError, Machine, Sources, settings};
use crate::model::printable::printable;

/// The flags that were given, not yet judged.
#[derive(Debug, Default)]
pub struct ServeArgs {
    config: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("WEIR_CONFIG")
            .value_parser(value_parser!(PathBuf))
            .help("TOML file of settings, named as the flags are with _ for -");
        let flags = settings().iter().map(|setting| {
            Arg::new(setting.name)
                .long(setting.flag_name())
                .value_name("VALUE")
                .help(format!("{} [default: {}]", setting.help, setting.default))
                .long_help(format!(
                    "{}.\n{}; {} in the environment. [default: {}]",
                    setting.help,
                    capitalized(setting.allowed),
                    setting.variable(),
                    setting.default
                ))
        });
        command.arg(config).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = ServeArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        for setting in settings() {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                self.flags.push((setting.name, text.clone()));
            }
        }
        Ok(())
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

impl ServeArgs {
    fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for (name, text) in &self.flags {
            sources.flag(name, text.clone());
        }
        let variables = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.to_string_lossy().into_owned())));
        sources.environment(variables);
        if let Some(path) = &self.config {
            sources.file(path);
        }
        sources
    }
}

pub fn run(args: ServeArgs) -> ExitCode {
    let started = args.sources();
    let config = match started.clone().build(&Machine::here()) {
        Ok(config) => config,
        Err(error) => return report(&error),
    };
    let reload = move || {
        let now = args.sources();
        let changed = started.differences(&now);
        Ok(Reloaded { config: now.build(&Machine::here())?, changed })
    };
    boot::serve(config, Box::new(reload))
}

fn report(error: &ConfigError) -> ExitCode {
    for problem in &error.problems {
        complain(&format!("weir: {}: {}", printable(&problem.setting), problem.message));
    }
    complain("weir: nothing was started; `weir serve --help` lists every setting");
    ExitCode::from(2)
}
