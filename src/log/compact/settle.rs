//! Replacements that an earlier run began, finished at a start. Blocking.

use std::path::Path;

use crate::log::LogError;
use crate::log::segment::SegmentMeta;
use crate::rt;
use crate::rt::fs::unlink;

use super::Swap;
use super::manifest::{Applied, CLEANED, Manifest, PARTIAL};

fn manifests(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| name.ends_with(".swap"))
}

/// What a start found of replacements.
#[derive(Debug, Default)]
pub struct Settled {
    /// The groups whose manifests are needed until the next checkpoint.
    pub swaps: Vec<Swap>,
    /// The base offsets of segments that the checkpoint lists and that are not the log's any more.
    pub replaced: Vec<i64>,
    /// Where groups began of which nothing stayed.
    pub emptied: Vec<i64>,
}

/// At a start: finishes what an earlier run began. Without a checkpoint (`None`) the files alone are put in order;
/// else its segments, its start offset and where its segments end are given.
pub fn settle(
    dir: &Path,
    names: &[String],
    mut listed: Option<(&mut Vec<SegmentMeta>, i64, i64)>,
) -> Result<Settled, LogError> {
    let io = |e| LogError::io(dir, e);
    let mut settled = Settled::default();
    for name in manifests(names) {
        let path = dir.join(name);
        let bytes = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?;
        let manifest = Manifest::decode(&path, &bytes)?;
        if !manifest.stands(dir) {
            log::warn!("{}: withdrawn, the segments that it names stay", path.display());
            unlink(&path).map_err(io)?;
            continue;
        }
        if let Some((segments, start_offset, end_offset)) = &mut listed {
            match manifest.apply(segments, *start_offset, *end_offset) {
                Applied::Now => settled.replaced.extend(manifest.old.iter().map(|old| old.base_offset)),
                Applied::Before => {}
                Applied::Misfit => {
                    return Err(LogError::corrupt(path, 0, "it names segments that no checkpoint lists"));
                }
            }
        }
        manifest.carry_out(dir).map_err(io)?;
        settled.emptied.extend(manifest.new.is_none().then_some(manifest.base()));
        match listed {
            Some(_) => settled.swaps.push(Swap { base: manifest.base(), end: manifest.end() }),
            None => unlink(&path).map_err(io)?,
        }
    }
    for name in names {
        let path = dir.join(name);
        let extension = path.extension().and_then(|e| e.to_str());
        if extension == Some(CLEANED) || extension == Some(PARTIAL) {
            unlink(&path).map_err(io)?;
        }
    }
    Ok(settled)
}
