//! How many descriptors the process may have: each connection takes one, and its way to the application another.

/// Below this many, the gateway warns at start.
const FEW: u64 = 4096;
/// What the store, the logs and the listener need.
const ASIDE: u64 = 64;

/// Raises the limit of this process as far as it may itself, and lowers the number of connections to what fits below it, so that
/// a flood of connections does not take the descriptors of the store and of the way to the application. Returns what to warn
/// of.
///
/// A limit cannot be read everywhere; then nothing is changed.
pub fn prepare(connections: &mut usize) -> Vec<String> {
    let Some(limit) = raise() else { return Vec::new() };
    fit(limit, connections)
}

#[cfg(unix)]
fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // None is no limit.
    if raised.is_ok() { maximum } else { current }
}

#[cfg(not(unix))]
const fn raise() -> Option<u64> {
    None
}

fn fit(limit: u64, connections: &mut usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if limit < FEW {
        warnings.push(format!(
            "the limit of open files is {limit}, and the gateway wants {FEW} at least: raise it (LimitNOFILE= in systemd, \
             ulimit -Hn)"
        ));
    }
    let fits = usize::try_from(limit.saturating_sub(ASIDE) / 2).unwrap_or(usize::MAX).max(1);
    if fits < *connections {
        warnings.push(format!(
            "limits.connections = {connections} does not fit below the limit of open files, {limit}: {fits} are accepted"
        ));
        *connections = fits;
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_open_files_lowers_the_number_of_connections_and_is_warned_of() {
        for (limit, wanted, accepted, warnings) in [
            (1_048_576, 4096, 4096, 0),
            (8256, 4096, 4096, 0),
            (8255, 4096, 4095, 1),
            (4096, 1000, 1000, 0),
            (4095, 1000, 1000, 1),
            (1024, 4096, 480, 2),
            (10, 4096, 1, 2),
        ] {
            let mut connections = wanted;
            assert_eq!(fit(limit, &mut connections).len(), warnings, "{limit}");
            assert_eq!(connections, accepted, "{limit}");
        }
    }
}
