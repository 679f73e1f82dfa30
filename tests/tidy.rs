//! What reviewers would otherwise have to say again and again, as tests over the source text: layers, sizes, and
//! where the outside world may be touched. `tests/tidy-ratchet.txt` lists what is larger than it should be; its
//! numbers may only fall.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer may import those above it in this list. Modules on one line are siblings and may not import each
/// other, nor may anything import to its right.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["rt", "wire", "security", "config"],
    &["log", "metadata"],
    &["partition", "coordinator", "controller", "peer"],
    &["shard"],
    &["api"],
    &["server", "admin", "control"],
    &["client"],
    &["boot"],
    &["cli"],
];

/// Modules that keep to less than their layer would allow them.
const ONLY: &[(&str, &[&str])] = &[
    ("config", &["model"]),
    ("client", &["model", "wire"]),
    ("wire", &["model"]),
    ("coordinator", &["model", "wire"]),
    ("peer", &["model", "rt", "wire", "security", "metadata"]),
];

/// Modules that only these may import.
const IMPORTED_BY: &[(&str, &[&str])] = &[("client", &["cli"])];

/// What each program may use of the library.
const PROGRAMS: &[(&str, &[&str])] = &[("src/main.rs", &["cli"]), ("perf", &["client", "model", "wire"])];

/// Words that belong to certain places: the word, where it may stand, and why nowhere else.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("glommio", &["src/rt/executor"], "the executor hides behind rt"),
    ("async_task", &["src/rt/executor"], "the executor hides behind rt"),
    ("io_uring::", &["src/rt"], "the ring hides behind rt"),
    (
        "ErrorCode::",
        &[
            "src/api",
            "src/wire/error_code.rs",
            "src/shard/replication/codec.rs",
            "src/shard/txn_codec.rs",
            "src/client",
            "src/cli",
            "src/admin",
            "perf",
        ],
        "Kafka's codes are the API's words",
    ),
    ("openraft", &["src/control/raft"], "consensus hides behind the quorum's port"),
    ("bincode::", &["src/metadata/v1.rs", "src/log"], "only formats on disk are bincode's"),
];

/// Modules that run on a shard, where a blocking call stops every partition of the core.
const SHARD_CODE: &[&str] = &["log", "partition", "coordinator", "peer", "shard", "api", "server", "wire"];
const BLOCKING: &[&str] =
    &["std::fs", "std::thread", "thread::sleep", "SystemTime::now", "Instant::now", "tokio::"];

/// File operations on a shard: in a call of one of these, whose closure runs on a helper thread, or in what is named below.
const HELPED: &[&str] = &["blocking(", "with_files("];
/// Files of which nothing runs on a shard that serves: its start, and what works on a directory without a broker.
const NOT_SERVING: &[&str] = &[
    "src/log/directory/belongs.rs",
    "src/log/directory/holdings.rs",
    "src/log/files/layout.rs",
    "src/log/journal/inspect.rs",
    "src/log/journal/recovery.rs",
    "src/log/journal/sizing.rs",
    "src/log/offline/check.rs",
    "src/log/offline/evidence.rs",
    "src/log/offline/mend.rs",
    "src/log/offline/relayout.rs",
    "src/log/offline/repair.rs",
    "src/log/offline/set_aside.rs",
    "src/log/offline/survey.rs",
    "src/log/offline/unknown.rs",
    "src/log/partition/recover.rs",
    "src/log/shard_log/aside.rs",
    "src/log/shard_log/open.rs",
    "src/log/shard_log/sweep.rs",
];
/// Functions that only helper threads and a start call.
const ON_HELPERS: &[(&str, &[&str])] = &[
    ("src/log/formats/checkpoint/files.rs", &["ends_at", "look", "replace", "write"]),
    ("src/log/compact/manifest.rs", &["carry_out", "stands"]),
    ("src/log/compact/settle.rs", &["settle"]),
    ("src/log/files/discard.rs", &["cut_piece"]),
    ("src/log/journal/commit.rs", &["set_file_aside"]),
    ("src/log/files/owner.rs", &["foreign", "make_directory", "owner"]),
    ("src/log/segment/mod.rs", &["cut_to_size"]),
    (
        "src/log/files/dead.rs",
        &["forget_dead_of_before", "is_empty", "rename_dead", "rename_directory", "unlink_dead"],
    ),
    ("src/log/partition/snapshots.rs", &["unlink_others"]),
    ("src/log/shard_log/space.rs", &["drop_ballast"]),
    ("src/log/partition/cutting.rs", &["carry_out"]),
];
/// Functions that do it on a serving shard all the same, and why.
const QUICK: &[(&str, &str, &str)] = &[
    (
        "src/log/shard_log/create.rs",
        "create",
        "one look at a new partition's directory, which is hardly ever there",
    ),
    (
        "src/log/compact/files.rs",
        "drop",
        "a compaction that failed takes away what it wrote, before the next begins",
    ),
];

const FILE_LINES: usize = 900;
const FILE_LINES_RATCHET: usize = 400;
const FUNCTION_LINES: usize = 70;
/// A ratchet entry may stand this far above what it describes before it has to be lowered.
const SLACK: usize = 40;
/// Likewise an entry of `tests/tidy-cycles.txt`.
const SLACK_FILES: usize = 4;

/// Files of `src/api` that serve no API of their own.
const API_HELPERS: &[&str] = &[
    "mod",
    "table",
    "authorize",
    "common",
    "dispatch",
    "errors",
    "features",
    "forward",
    "frames",
    "groups",
    "internal",
    "producer_ids",
    "request",
    "throttle",
    "transactions",
];

struct Source {
    path: String,
    text: String,
    /// The text without comments: what the compiler sees of words.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these directories whose name ends so, sorted.
fn files(dirs: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            match path.is_dir() {
                true if name.starts_with('.') && name != ".ci" => {}
                true if ["target", "node_modules", "weir-data"].contains(&name.as_ref()) => {}
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    dirs.iter().for_each(|dir| walk(&root().join(dir), &mut found));
    let named = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        extensions.is_empty() || extensions.contains(&extension.as_str())
    };
    found.retain(named);
    found.sort();
    found
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let load = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
        let path = path.strip_prefix(root()).expect("inside the repository").to_string_lossy().into_owned();
        Source { path, text, code }
    };
    files(dirs, &["rs"]).into_iter().map(load).collect()
}

/// Cuts a line at its comment. Strings that hold `//` follow a colon in practice (URLs).
fn without_comment(line: &str) -> &str {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| from + at) {
        if at == 0 || !line[..at].ends_with(':') {
            return &line[..at];
        }
        from = at + 2;
    }
    line
}

/// The modules named right after each `prefix` (`crate::` or `weir::`), groups in braces included.
fn imports(code: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let (mut depth, mut start) = (0, true);
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.push(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    found
}

fn module_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let name = rest.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `from` may not import `to`, if it may not.
fn objection(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let (Some(low), Some(high)) = (layer_of(to), layer_of(from)) else {
        return Some(format!("{to} or {from} is missing from the layer table"));
    };
    if let Some((_, allowed)) = ONLY.iter().find(|(module, _)| *module == from)
        && !allowed.contains(&to)
    {
        return Some(format!("{from} imports only {allowed:?}"));
    }
    if let Some((_, allowed)) = IMPORTED_BY.iter().find(|(module, _)| *module == to)
        && !allowed.contains(&from)
    {
        return Some(format!("{to} is only for {allowed:?}"));
    }
    let siblings = low == high;
    (siblings || low > high)
        .then(|| format!("{to} is {} {from}", if siblings { "a sibling of" } else { "right of" }))
}

fn assert_none(what: &str, mut problems: Vec<String>) {
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn modules_import_only_from_their_left() {
    let mut problems = Vec::new();
    for source in sources(&["src"]) {
        let module = module_of(&source.path).expect("a module");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        for to in imports(&source.code, "crate::") {
            if let Some(why) = objection(module, &to) {
                problems.push(format!("{}: crate::{to}: {why}", source.path));
            }
        }
    }
    assert_none("imports against the layer table", problems);
}

#[test]
fn programs_use_only_what_is_theirs() {
    let mut problems = Vec::new();
    for source in sources(&["src", "perf"]) {
        let Some((_, allowed)) = PROGRAMS.iter().find(|(prefix, _)| source.path.starts_with(prefix)) else {
            continue;
        };
        for to in imports(&source.code, "weir::") {
            if !allowed.contains(&to.as_str()) {
                problems.push(format!("{}: weir::{to}; it may use {allowed:?}", source.path));
            }
        }
    }
    assert_none("programs that reach too far", problems);
}

#[test]
fn the_layer_table_knows_every_module() {
    let mut problems = Vec::new();
    for source in sources(&["src"]) {
        let module = module_of(&source.path).expect("a module");
        if layer_of(module).is_none() && !["lib", "main"].contains(&module) {
            problems.push(format!("{module} has no layer"));
        }
    }
    assert_none("modules without a layer", problems);
}

#[test]
fn words_stay_where_they_belong() {
    let mut problems = Vec::new();
    for source in sources(&["src", "perf"]) {
        for (word, places, why) in CONFINED {
            if source.code.contains(word) && !places.iter().any(|place| source.path.starts_with(place)) {
                problems.push(format!("{}: `{word}`: {why}", source.path));
            }
        }
    }
    assert_none("words out of place", problems);
}

#[test]
fn shard_code_does_not_block() {
    let mut problems = Vec::new();
    for source in sources(&["src"]) {
        let module = module_of(&source.path).expect("a module");
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        if !SHARD_CODE.contains(&module) || is_test(&source.path) {
            continue;
        }
        for word in BLOCKING.iter().filter(|word| code.contains(*word)) {
            problems
                .push(format!("{}: `{word}`; time, threads, files and sockets come from rt", source.path));
        }
    }
    assert_none("shard code that may block its core", problems);
}

/// Where calls of these begin and end, arguments and all.
fn calls(code: &str, names: &[&str]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    for (at, name) in names.iter().flat_map(|name| code.match_indices(name)) {
        let mut depth = 0;
        let end = code[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0 && *c == ')'
        });
        found.push(at..end.map_or(code.len(), |(end, _)| at + end).max(at + name.len()));
    }
    found
}

/// The name of the function that has this place in it.
fn function_at(code: &str, at: usize) -> &str {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let line_start = code[..at].rfind('\n').map_or(0, |at| at + 1);
    let mut inner = indent(code[line_start..].lines().next().unwrap_or_default());
    for line in code[..line_start].lines().rev().filter(|line| !line.trim().is_empty()) {
        let declares = line.trim_start().starts_with("fn ") || line.contains(" fn ");
        if indent(line) < inner && declares && !line.trim_end().ends_with(';') {
            let name = line.split("fn ").nth(1).unwrap_or_default();
            return name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        }
        // The end of a signature is as far out as its beginning.
        if !line.trim_start().starts_with(')') {
            inner = inner.min(indent(line).max(1));
        }
    }
    ""
}

/// Operations on files by plain system calls: the words that stand for one in this file.
fn file_words(code: &str) -> Vec<String> {
    let mut words: Vec<String> =
        ["rt::fs::", "BlockingFile::", "set_len_blocking(", "read_blocking("].map(str::to_owned).into();
    for used in used(code).0.iter().filter_map(|path| path.strip_prefix("crate::rt::fs::")) {
        let is_type = used.starts_with(|c: char| c.is_uppercase());
        words.push(if is_type { format!("{used}::") } else { format!("{used}(") });
    }
    words
}

#[test]
fn files_are_not_waited_for_on_a_shard() {
    let (mut problems, mut seen) = (Vec::new(), BTreeSet::new());
    for source in sources(&["src"]) {
        let path = &source.path[..];
        if !SHARD_CODE.contains(&module_of(path).expect("a module"))
            || is_test(path)
            || NOT_SERVING.contains(&path)
        {
            continue;
        }
        let code = source.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let helped = calls(code, HELPED);
        let words = file_words(code);
        for (at, _) in words.iter().flat_map(|word| code.match_indices(&word[..])) {
            let line_start = code[..at].rfind('\n').map_or(0, |at| at + 1);
            let starts_word =
                !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
            let is_method =
                code[at..].starts_with("set_len_blocking") || code[at..].starts_with("read_blocking");
            let is_type =
                code[at..].strip_prefix("rt::fs::").is_some_and(|rest| rest.starts_with(char::is_uppercase));
            let is_use =
                is_type || code[line_start..at].contains("use ") || code[line_start..at].contains("fn ");
            if is_use || !(starts_word || is_method) || helped.iter().any(|call| call.contains(&at)) {
                continue;
            }
            let function = function_at(code, at);
            let named = ON_HELPERS.iter().any(|(file, names)| *file == path && names.contains(&function));
            let quick = QUICK.iter().any(|(file, name, _)| *file == path && *name == function);
            seen.insert((path.to_owned(), function.to_owned()));
            if !named && !quick {
                problems.push(format!("{path} {function}: waits for a file; use the ring or rt::blocking"));
            }
        }
    }
    let listed = ON_HELPERS.iter().flat_map(|(file, names)| names.iter().map(move |name| (*file, *name)));
    for (file, name) in listed.chain(QUICK.iter().map(|(file, name, _)| (*file, *name))) {
        if !seen.contains(&(file.to_owned(), name.to_owned())) {
            problems.push(format!("{file} {name}: touches no file any more; remove its entry"));
        }
    }
    assert_none("file operations that a serving shard would wait for", problems);
}

#[test]
fn every_api_is_in_the_table() {
    let table = fs::read_to_string(root().join("src/api/table.rs")).unwrap_or_default();
    let mut problems = Vec::new();
    for source in sources(&["src/api"]) {
        let rest = source.path.strip_prefix("src/api/").expect("an api file");
        let name = rest.strip_suffix(".rs").unwrap_or(rest);
        let helper = API_HELPERS.contains(&name) || name.ends_with("_tests") || name.contains('/');
        let dispatched = table.contains(&format!(", {name}, ")) || table.contains(&format!(" {name}::start"));
        if !helper && !dispatched {
            problems.push(format!("{}: api/table.rs does not dispatch to {name}", source.path));
        }
    }
    assert_none("APIs that nothing dispatches to", problems);
}

#[test]
fn modules_say_what_they_are_for() {
    let dirs = sources(&["src", "perf", "benches", "tests"]);
    let silent = |source: &&Source| !source.text.starts_with("//!") && !is_test(&source.path);
    let problems: Vec<String> = dirs.iter().filter(silent).map(|source| source.path.clone()).collect();
    assert_none("files that do not open with `//!`", problems);
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("tests") || name.ends_with("_tests.rs") || path.contains("/tests/")
}

/// Functions by name with their length, first line to closing brace. The code is rustfmt's, so a function ends at
/// the first brace that stands alone at its own indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words: Vec<&str> = code.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let modifiers = ["async", "unsafe", "const", "extern", "\"C\"", "default"];
        if !words[..at].iter().all(|word| {
            modifiers.contains(word)
                || word.starts_with("pub")
                || word.starts_with("in")
                || word.ends_with(')')
        }) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|l| l.trim_end() == closing).unwrap_or(0);
        let declared_only = lines[start..start + end]
            .iter()
            .any(|l| l.ends_with(';') && l.len() - l.trim_start().len() == indent);
        let one_line = code.ends_with('}');
        let name: String = words
            .get(at + 1)
            .map(|n| n.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
            .unwrap_or_default();
        if !one_line && !declared_only && !name.is_empty() {
            found.push((name, end + 1));
        }
    }
    found
}

/// What is over its limit: the file, or `file name` for a function, with its lines.
fn oversized() -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for source in sources(&["src", "perf"]) {
        if is_test(&source.path) {
            continue;
        }
        let lines = source.text.lines().count();
        if lines > FILE_LINES_RATCHET {
            all.insert(source.path.clone(), lines);
        }
        for (name, lines) in functions(&source.text) {
            if lines > FUNCTION_LINES {
                let entry = all.entry(format!("{} {name}", source.path)).or_default();
                *entry = lines.max(*entry);
            }
        }
    }
    all
}

#[test]
fn no_file_is_beyond_reading() {
    let long = |source: &Source| source.text.lines().count() > FILE_LINES;
    let mut all = sources(&["src", "perf", "benches", "tests"]);
    all.retain(long);
    assert_none("files over 900 lines", all.into_iter().map(|source| source.path).collect());
}

#[test]
fn sizes_only_shrink() {
    let ratchet = fs::read_to_string(root().join("tests/tidy-ratchet.txt")).expect("tests/tidy-ratchet.txt");
    let mut caps = BTreeMap::new();
    for line in ratchet.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (what, cap) = line.rsplit_once(' ').expect("`path [function] lines`");
        caps.insert(what.to_string(), cap.parse::<usize>().expect("a number of lines"));
    }
    let mut problems = Vec::new();
    let sizes = oversized();
    for (what, lines) in &sizes {
        match caps.get(what) {
            None => problems.push(format!("{what}: {lines} lines; split it")),
            Some(cap) if lines > cap => {
                problems.push(format!("{what}: {lines} lines, was at most {cap}; split it"))
            }
            Some(cap) if lines + SLACK < *cap => problems.push(format!("{what}: lower its entry to {lines}")),
            Some(_) => {}
        }
    }
    for what in caps.keys().filter(|what| !sizes.contains_key(*what)) {
        problems.push(format!("{what}: small enough now; remove its entry"));
    }
    assert_none("sizes against tests/tidy-ratchet.txt", problems);
}

/// The files of a module, by their paths as Rust names them: `["log", "store"]` is `src/log/store/mod.rs`.
type Modules<'a> = BTreeMap<Vec<String>, &'a Source>;

fn path_of(file: &str) -> Vec<String> {
    let name = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// Every path that a `use` tree names, from its start on.
fn leaves(tree: &str, before: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{before}{name}");
        found.push(path.trim_end_matches("::self").to_owned());
        return;
    };
    let before = format!("{before}{}", &tree[..open]);
    let inside = tree[open + 1..].rsplit_once('}').map_or("", |(inside, _)| inside);
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[from..at].trim().is_empty() {
                    leaves(&inside[from..at], &before, found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The trees of a file's `use`s with where they are, and whether it hands on what they name (`pub use`).
fn use_trees(code: &str) -> impl Iterator<Item = (std::ops::Range<usize>, bool)> {
    code.match_indices("use ").filter_map(|(at, word)| {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let passes = line == "pub" || line.starts_with("pub(") && line.ends_with(')');
        let from = at + word.len();
        let end = code[from..].find(';').map_or(code.len(), |end| from + end);
        (line.is_empty() || passes).then_some((from..end, passes))
    })
}

/// What a file uses, and what of it it hands on.
fn used(code: &str) -> (Vec<String>, Vec<String>) {
    let (mut uses, mut passed) = (Vec::new(), Vec::new());
    for (tree, passes) in use_trees(code) {
        let into = if passes { &mut passed } else { &mut uses };
        leaves(&code[tree].replace('\n', " "), "", into);
    }
    (uses, passed)
}

/// Paths that stand in a file's code without a `use`. Where `pub(in …)` says who sees something, nothing is used.
fn named(code: &str) -> Vec<String> {
    let trees: Vec<_> = use_trees(code).map(|(tree, _)| tree).collect();
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in ["super::", "crate::", "self::"].iter().flat_map(|start| code.match_indices(start)) {
        let before = &code[..at];
        let is_elsewhere =
            before.ends_with(is_of_path) || before.ends_with("pub(in ") || before.ends_with('$');
        if !is_elsewhere && !trees.iter().any(|tree| tree.contains(&at)) {
            let path = code[at..].split(|c| !is_of_path(c)).next().unwrap_or_default();
            found.push(path.trim_end_matches(':').to_owned());
        }
    }
    found
}

/// The file that a path leads to from `from`: through what modules hand on, to where the thing is.
fn resolve(modules: &Modules, from: &[String], path: &str, depth: usize) -> Option<Vec<String>> {
    let mut segments: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut at = match segments[0] {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from[..from.len().saturating_sub(1)].to_vec(),
        child if modules.contains_key(&[from, &[child.to_owned()]].concat()) => {
            segments.insert(0, "self");
            from.to_vec()
        }
        _ => return None,
    };
    let mut rest = segments[1..].iter().peekable();
    while let Some(segment) = rest.peek() {
        match **segment {
            "super" => drop(at.pop()),
            name if modules.contains_key(&[&at[..], &[name.to_owned()]].concat()) => at.push(name.to_owned()),
            _ => break,
        }
        rest.next();
    }
    let source = modules.get(&at)?;
    let Some(name) = rest.next() else { return Some(at) };
    let handed = used(&source.code).1;
    let named = handed.iter().find(|path| path.rsplit("::").next() == Some(name));
    match named {
        Some(path) if depth < 4 => resolve(modules, &at, path, depth + 1).or(Some(at)),
        _ => Some(at),
    }
}

/// For each module, how many of its files import each other in a loop.
fn cyclic() -> BTreeMap<String, usize> {
    let mut all = sources(&["src"]);
    all.retain(|source| !is_test(&source.path) && !source.path.contains("testing"));
    for source in &mut all {
        source.code = source.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    }
    let modules: Modules = all.iter().map(|source| (path_of(&source.path), source)).collect();
    let mut reach: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (path, source) in &modules {
        let (mut uses, passed) = used(&source.code);
        uses.extend(named(&source.code));
        // A module's own file is its front: what it hands on is not its own need.
        if !source.path.ends_with("/mod.rs") {
            uses.extend(passed);
        }
        let to = uses.iter().filter_map(|used| resolve(&modules, path, used, 0));
        let inside = to.filter(|to| to[0] == path[0] && to != path);
        reach.insert(path.clone(), inside.collect());
    }
    loop {
        let before: usize = reach.values().map(BTreeSet::len).sum();
        for path in modules.keys() {
            let further: BTreeSet<_> = reach[path].iter().flat_map(|to| &reach[to]).cloned().collect();
            reach.get_mut(path).expect("a file").extend(further);
        }
        if reach.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let mut count = BTreeMap::new();
    for (path, _) in reach.iter().filter(|(path, to)| to.contains(*path)) {
        *count.entry(path[0].clone()).or_default() += 1;
    }
    count
}

#[test]
fn files_of_a_module_import_in_one_direction() {
    let ratchet = fs::read_to_string(root().join("tests/tidy-cycles.txt")).expect("tests/tidy-cycles.txt");
    let mut caps = BTreeMap::new();
    for line in ratchet.lines().filter(|line| !line.starts_with('#')) {
        let (module, files) = line.split_once(' ').expect("`module files`");
        caps.insert(module.to_owned(), files.parse::<usize>().expect("a number of files"));
    }
    let found = cyclic();
    let modules: BTreeSet<&String> = found.keys().chain(caps.keys()).collect();
    let problems = modules.into_iter().filter_map(|module| {
        let (now, cap) = (*found.get(module).unwrap_or(&0), *caps.get(module).unwrap_or(&0));
        match now > cap {
            true => Some(format!("{module}: {now} files import each other in a loop, were {cap}; break it")),
            false if now + SLACK_FILES < cap => Some(format!("{module}: lower its entry to {now}")),
            false => None,
        }
    });
    assert_none("loops of imports against tests/tidy-cycles.txt", problems.collect());
}

#[test]
fn the_repository_stands_alone() {
    // Spelled in two parts, or this line would find itself.
    let needle = concat!("..", "/shared");
    let mut problems = Vec::new();
    for path in files(&[""], &[]) {
        let text = fs::read(&path).unwrap_or_default();
        if text.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            problems.push(path.display().to_string());
        }
    }
    assert_none("files that refer outside the repository", problems);
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(imports("use crate::{a::b, c::{d, e}, f};", "crate::"), ["a", "c", "f"]);
    assert_eq!(imports("let x = crate::rt::now(); $crate::y::Z", "crate::"), ["rt", "y"]);
    assert_eq!(imports("mycrate::a::b; other::crate::c", "crate::"), [""; 0]);
    assert_eq!(without_comment("a(); // b"), "a(); ");
    assert_eq!(without_comment("\"http://x\" // y"), "\"http://x\" ");
    assert!(objection("model", "rt").is_some() && objection("rt", "wire").is_some());
    assert!(objection("wire", "model").is_none() && objection("cli", "client").is_none());
    assert!(objection("api", "client").is_some());
    let mut found = Vec::new();
    leaves("crate::a::{b, c::{d, e as f}, g::{self}}", "", &mut found);
    assert_eq!(found, ["crate::a::b", "crate::a::c::d", "crate::a::c::e", "crate::a::g"]);
    let (uses, passed) = used("use a::b;\npub use c::D;\npub(crate) use e;\nlet x = because use f;");
    assert_eq!((uses, passed), (vec!["a::b".to_owned()], vec!["c::D".to_owned(), "e".to_owned()]));
    let code =
        "use super::a;\nfn f() -> super::b::C { crate::d::e(x::super::g) }\npub(in crate::h) fn i() {}";
    assert_eq!(named(code), ["super::b::C", "crate::d::e"]);
    let text = "impl X {\n    pub(crate) async fn long(\n        a: u8,\n    ) {\n        a;\n    }\n    fn short() {}\n}\n";
    assert_eq!(functions(text), [("long".to_string(), 5)]);
    let code = "fn f() {\n    let x = blocking(move || rename(a, b(c)));\n    rename(d);\n}\n";
    let helped = calls(code, HELPED);
    let at: Vec<usize> = code.match_indices("rename(").map(|(at, _)| at).collect();
    assert_eq!(
        at.iter().map(|at| helped.iter().any(|call| call.contains(at))).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(function_at(code, at[1]), "f");
    assert!(file_words("use crate::rt::fs::{BlockingFile, unlink};\n").contains(&"unlink(".to_owned()));
}
