//! Who may call the job, by the variable `invoke_auth`.

/// What a request's credentials amount to as a caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No credentials.
    Anonymous,
    /// Wrong ones, for this reason.
    Wrong(&'static str),
    /// Known, and may not call this function.
    Forbidden,
    /// Credentials that were not looked at, since there were too many wrong ones: again after so many seconds.
    Throttled(u64),
    /// A caller who proved who he is.
    Proved,
}
