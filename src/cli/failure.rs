//! How a client command fails: one message, perhaps what to do, and an exit code.

use std::io;
use std::process::ExitCode;

use super::output::complain;
use crate::client::{Client, ClientError};
use crate::config::closest;
use crate::model::printable::printable;

#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that makes no sense: exit 2.
    Usage(String),
    Client(ClientError),
    /// A client error with advice.
    Advised {
        error: ClientError,
        advice: String,
    },
    /// A data directory cannot be used, or is not whole.
    Storage(String),
    Io {
        what: &'static str,
        error: io::Error,
    },
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Connect { .. } => {
                let advice = "Is a broker running there? `weir serve` starts one; --broker names another.";
                Failure::Advised { error, advice: advice.to_owned() }
            }
            _ => Failure::Client(error),
        }
    }
}

impl Failure {
    /// Adds the names that come near, when the error is that a topic does not exist.
    pub fn about_topic(client: &mut Client, error: ClientError) -> Failure {
        let ClientError::UnknownTopic(name) = &error else { return error.into() };
        let topics = client.topics().unwrap_or_default();
        let advice = match closest(name, topics.iter().map(|t| t.name.as_str())) {
            Some(near) => format!("Did you mean {near}?"),
            None => "`weir topic list` shows what there is; `weir topic create` creates one.".to_owned(),
        };
        Failure::Advised { error, advice }
    }

    pub fn stdout(error: io::Error) -> Failure {
        Failure::Io { what: "cannot write to standard output", error }
    }

    pub fn report(self) -> ExitCode {
        match self {
            Failure::Usage(message) => {
                complain(&format!("weir: {message}"));
                return ExitCode::from(2);
            }
            // The reader has gone, as in `weir consume … | head`: it saw what it wanted.
            Failure::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Storage(message) => complain(&format!("weir: {message}")),
            Failure::Client(error) => complain(&format!("weir: {}", printable(&error.to_string()))),
            Failure::Advised { error, advice } => {
                complain(&format!("weir: {}\n  {}", printable(&error.to_string()), printable(&advice)));
            }
            Failure::Io { what, error } => complain(&format!("weir: {what}: {error}")),
        }
        ExitCode::from(1)
    }
}
