//! Builds functions again when their sources change.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::build_context::Context;
use crate::functions::Functions;

/// How often the files are looked at. Looking costs a millisecond or two for a few hundred files, works on every file
/// system, and needs no event to be understood.
const INTERVAL: Duration = Duration::from_millis(100);

/// A file that an editor is still writing shows as another change within this time.
const SETTLED: Duration = Duration::from_millis(40);

/// The functions that are watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Watch {
    /// Rebuilds a function whenever its context's sources differ from `seen`, and then from what was built.
    pub(crate) fn follow(&self, context: Context, seen: Option<u64>, functions: Functions) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(follow(context, seen, functions)).await });
    }

    /// Ends watching.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn follow(context: Context, mut seen: Option<u64>, functions: Functions) {
    let look = async || {
        let context = context.clone();
        tokio::task::spawn_blocking(move || stamp(&context)).await.ok().flatten()
    };
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut found = look().await;
        // A folder that cannot be read just now, as while an editor replaces it, is looked at again.
        if found.is_none() || found == seen {
            continue;
        }
        loop {
            tokio::time::sleep(SETTLED).await;
            let again = look().await;
            if again == found {
                break;
            }
            found = again;
        }
        if found.is_some() && found != seen {
            seen = found;
            functions.rebuild(&context.name);
        }
    }
}

/// Names, sizes, times and modes of all that belongs into a context; none while that cannot be read.
pub(crate) fn stamp(context: &Context) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    context
        .each(&mut |path, found| {
            let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
            // A folder's size and time tell of names, which are hashed themselves.
            let content = if found.is_dir() { None } else { Some((found.len(), times)) };
            (path, found.mode(), content).hash(&mut hasher);
        })
        .ok()?;
    Some(hasher.finish())
}
