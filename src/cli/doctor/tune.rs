//! `weir tune`: makes, or shows how to make, what the doctor found wanting.

use std::fs;
use std::process::ExitCode;

use super::super::failure::Failure;
use super::super::output;
use super::{Check, Fix, State};

pub fn run(checks: &[Check], apply: bool) -> ExitCode {
    let mut text = String::new();
    let mut failed = false;
    for check in checks.iter().filter(|c| c.state != State::Good) {
        let Some(fix) = &check.fix else { continue };
        text += &format!("# {}: {}\n", check.name, check.found);
        match fix {
            Fix::Manual(words) => text += &format!("#   {words}\n"),
            Fix::Write { files, value } if apply => {
                for file in files {
                    match write(file, value) {
                        Ok(()) => text += &format!("set {file} to {value}\n"),
                        Err(e) => {
                            failed = true;
                            text += &format!("cannot set {file} to {value}: {e}\n");
                        }
                    }
                }
            }
            Fix::Write { .. } => text += &format!("{}\n", fix.words()),
        }
    }
    if text.is_empty() {
        text.push_str("# nothing to tune: `weir doctor` finds this machine as it should be\n");
    } else if apply {
        text.push_str("# until the next boot; /etc/sysctl.d and udev rules make it last\n");
    }
    if let Err(error) = output::print(&text) {
        return Failure::stdout(error).report();
    }
    if failed { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// The kernel may take a value and keep its own: what counts is what can be read afterwards.
fn write(file: &str, value: &str) -> Result<(), String> {
    fs::write(file, value).map_err(|e| e.to_string())?;
    let now = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let holds = |text: &str| text.split_whitespace().any(|w| w.trim_matches(['[', ']']) == value);
    if holds(&now) { Ok(()) } else { Err(format!("it stays {}", now.trim())) }
}
