//! Leaves a run on disk: a directory with what was run where, the result, the histograms and the picture.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Run, hdr, html, table};
use crate::Outcome;
use crate::options::OutputArgs;

/// Prints a run and leaves behind what was asked for.
pub fn deliver(run: &Run, output: &OutputArgs) -> Outcome<()> {
    let text = match output.json {
        true => serde_json::to_string_pretty(&run.report).map_err(|e| e.to_string())? + "\n",
        false => table::of(&run.report),
    };
    print(&text)?;
    if let Some(path) = &output.html {
        write(path, html::of_run(run).as_bytes())?;
    }
    if let Some(dir) = &output.record {
        let dir = record(run, dir)?;
        note!("recorded in {}", dir.display());
    }
    run.report.verdict()
}

/// Writes to standard output; whoever closed it does not want more.
pub fn print(text: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {e}")),
        _ => Ok(()),
    }
}

pub fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// A new directory below `parent`, named after the time and the workload.
pub fn directory(parent: &Path, started: &str, name: &str) -> Outcome<PathBuf> {
    let started: String = started.chars().filter(|c| *c != ':' && *c != '-').collect();
    let name: String = name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let dir = parent.join(format!("{started}-{name}"));
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

fn record(run: &Run, parent: &Path) -> Outcome<PathBuf> {
    let report = &run.report;
    let dir = directory(parent, &report.started, &report.workload.name)?;
    let json = serde_json::to_string_pretty(report).map_err(|e| e.to_string())?;
    write(&dir.join("run.json"), json.as_bytes())?;
    write(&dir.join("report.html"), html::of_run(run).as_bytes())?;
    let began = SystemTime::now() - std::time::Duration::from_secs_f64(report.seconds);
    for (nth, side) in report.sides.iter().enumerate() {
        let file = |extension: &str| {
            let path = dir.join(format!("{}.{extension}", side.name));
            File::create(&path).map(io::BufWriter::new).map_err(|e| format!("{}: {e}", path.display()))
        };
        let mut out = file("hgrm")?;
        hdr::hgrm(&mut out, &run.totals[nth]).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        let mut out = file("hlog")?;
        hdr::hlog(&mut out, &side.name, began, &run.intervals[nth])?;
        out.flush().map_err(|e| e.to_string())?;
    }
    Ok(dir)
}
