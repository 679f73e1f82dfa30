//! One setting, and what it is called where.

/// One setting. `default` is parsed by the same code as a value from the user.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub allowed: &'static str,
    pub help: &'static str,
    /// Kafka's name for it among its broker configs.
    pub kafka: Option<&'static str>,
}

impl Setting {
    /// The name as a flag without its dashes: `data-dir`.
    pub fn flag_name(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The name as a variable: `WEIR_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("WEIR_{}", self.name.to_ascii_uppercase())
    }
}
