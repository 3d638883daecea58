//! How long builds of a function took, so that the next one can say what to expect.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The record of one function, beside its build context.
#[derive(Debug)]
pub(super) struct Times {
    file: PathBuf,
    taken: Taken,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Taken {
    /// With all that it depends on.
    first: Option<u64>,
    /// After a change.
    change: Option<u64>,
}

impl Times {
    /// Reads the record; a record that is missing or broken is an empty one.
    pub(super) fn open(context: &Path) -> Self {
        let mut file = context.as_os_str().to_owned();
        file.push(".times.json");
        let taken = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: file.into(), taken: taken.unwrap_or_default() }
    }

    /// The line that announces a build.
    pub(super) fn announce(&self, first: bool, release: bool) -> String {
        let how = if release { "" } else { " without optimisation" };
        let taken = if first { self.taken.first } else { self.taken.change };
        match taken {
            Some(taken) => {
                format!("building{how}; last time it took {}", seconds(Duration::from_millis(taken)))
            }
            None if first => format!("building{how} for the first time, with its dependencies; this takes minutes"),
            None => format!("building{how} what has changed"),
        }
    }

    /// Keeps how long a build took. A record that cannot be written only costs the next announcement.
    pub(super) fn record(mut self, first: bool, taken: Duration) {
        let taken = u64::try_from(taken.as_millis()).ok();
        *(if first { &mut self.taken.first } else { &mut self.taken.change }) = taken;
        if let Ok(json) = serde_json::to_vec(&self.taken) {
            let _ = fs::write(&self.file, json);
        }
    }
}

/// A duration in seconds, as people write it.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_how_long_the_last_one_of_its_kind_took() {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("f");
        assert!(Times::open(&context).announce(true, false).contains("first time"));
        Times::open(&context).record(true, Duration::from_millis(61_400));
        Times::open(&context).record(false, Duration::from_millis(1_240));
        let times = Times::open(&context);
        assert_eq!(times.announce(true, true), "building; last time it took 61 s");
        assert_eq!(times.announce(false, false), "building without optimisation; last time it took 1.2 s");
        fs::write(context.with_file_name("f.times.json"), "{").unwrap();
        assert!(Times::open(&context).announce(false, false).contains("what has changed"));
    }
}
