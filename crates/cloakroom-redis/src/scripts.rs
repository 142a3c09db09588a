//! The scripts: each operation that writes is one.

use redis::Script;

/// A script, and its text for a server that does not know it yet.
pub(crate) struct Source {
    pub(crate) script: Script,
    pub(crate) text: &'static str,
}

/// Makes a text of the flags that Redis 7 reads in the first line, what all scripts share, and the script.
///
/// `allow-oom`: a server whose memory is full refuses new sessions, but logouts and "end all sessions" must go on.
macro_rules! source {
    ($flags:literal, $file:literal) => {{
        const TEXT: &str = concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!("scripts/common.lua"),
            include_str!(concat!("scripts/", $file, ".lua"))
        );
        Source { script: Script::new(TEXT), text: TEXT }
    }};
}

pub(crate) struct Scripts {
    pub(crate) insert: Source,
    pub(crate) replace: Source,
    pub(crate) touch: Source,
    pub(crate) remove: Source,
    pub(crate) remove_all: Source,
    pub(crate) standing: Source,
    pub(crate) raise: Source,
    pub(crate) end: Source,
    pub(crate) list: Source,
    pub(crate) claim: Source,
    pub(crate) check: Source,
    pub(crate) probe: Source,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            insert: source!("", "insert"),
            replace: source!(" flags=allow-oom", "replace"),
            touch: source!(" flags=allow-oom", "touch"),
            remove: source!(" flags=allow-oom", "remove"),
            remove_all: source!(" flags=allow-oom", "remove_all"),
            standing: source!(" flags=allow-oom", "standing"),
            raise: source!(" flags=allow-oom", "raise"),
            end: source!(" flags=allow-oom", "end"),
            list: source!(" flags=allow-oom", "list"),
            claim: source!(" flags=allow-oom", "claim"),
            check: source!(" flags=allow-oom", "check"),
            probe: source!("", "probe"),
        }
    }
}
