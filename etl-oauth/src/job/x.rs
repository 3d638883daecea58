//! The current user's posts on [X](https://docs.x.com/x-api/), within a budget that is tighter than the API's own errors:
//! a refused request counts there, too. What was spent is in the ledger before it is spent, so that restarts and further
//! replicas don't spend it again; in between the last posts are shown again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Context, Entry, JobError, Outcome};
use crate::format;
use token_keeper::api::ApiError;

/// The name of the notes in the ledger.
pub const NOTES: &str = "x";

/// One read in fifteen minutes is what the smallest plan has for a user's posts, and 25 a day for the user.
const PAUSE: SignedDuration = SignedDuration::from_mins(15);

/// After so long the user is asked for again: a name can change, and so can the account behind the token.
const USER_LASTS: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Notes {
    /// No call before this.
    next_at: Option<Timestamp>,
    /// When the user was asked for.
    user_at: Option<Timestamp>,
    user: Option<User>,
    read_at: Option<Timestamp>,
    posts: Vec<Post>,
}

/// The user that the token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The number, as text.
    pub id: String,
    /// The name after the `@`.
    pub username: String,
}

/// One post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The number, as text.
    pub id: String,
    /// What it says.
    pub text: String,
    /// When it was posted, where the API says so.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
}

/// Reads the posts, or shows the last ones again where the budget has nothing left.
///
/// # Errors
/// The API's and the ledger's; [`JobError::Refused`] where there is no such user.
pub async fn run(context: &Context) -> Result<Outcome, JobError> {
    let mut entry = context.ledger.read::<Notes>(NOTES).await?;
    if entry.notes.next_at.is_some_and(|at| context.now < at) {
        return show(&entry.notes);
    }
    entry.notes.next_at = context.now.checked_add(PAUSE).ok();
    let mut entry = match context.ledger.write(NOTES, entry).await {
        // Another run has taken this turn.
        Err(JobError::Overtaken) => return show(&context.ledger.read::<Notes>(NOTES).await?.notes),
        written => written?,
    };
    match read(context, &mut entry).await {
        Ok(()) => {
            let entry = context.ledger.write(NOTES, entry).await?;
            show(&entry.notes)
        }
        Err(err) => {
            // The API's own pause outlives this process, too.
            if let JobError::Api(err) = &err
                && let Some(wait) = err.retry_after()
                && let Ok(until) = context.now.checked_add(wait)
            {
                entry.notes.next_at = entry.notes.next_at.max(Some(until));
                context.ledger.write(NOTES, entry).await?;
            } else if matches!(err, JobError::Api(ApiError::Token(_))) {
                // Nothing was sent.
                entry.notes.next_at = None;
                context.ledger.write(NOTES, entry).await?;
            }
            Err(err)
        }
    }
}

async fn read(context: &Context, entry: &mut Entry<Notes>) -> Result<(), JobError> {
    let notes = &mut entry.notes;
    let known = notes.user_at.is_some_and(|at| context.now.duration_since(at) < USER_LASTS);
    let user = match notes.user.clone().filter(|_| known) {
        Some(user) => user,
        None => {
            let answer: Envelope<User> = context.api.get("/2/users/me").json().await?;
            let user = answer.data.ok_or_else(|| JobError::Refused("it knows no current user".into()))?;
            (notes.user, notes.user_at) = (Some(user.clone()), Some(context.now));
            user
        }
    };
    // The id is the API's word, and goes into a path.
    if user.id.is_empty() || !user.id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(JobError::Refused("the user's id is no number".into()));
    }
    let posts = context.api.get(&format!("/2/users/{}/tweets", user.id));
    let answer: Envelope<Vec<Post>> =
        posts.query("tweet.fields", "created_at").query("max_results", "20").json().await?;
    (notes.posts, notes.read_at) = (answer.data.unwrap_or_default(), Some(context.now));
    Ok(())
}

fn show(notes: &Notes) -> Result<Outcome, JobError> {
    #[derive(askama::Template)]
    #[template(
        source = "<h1>Posts{% if let Some(user) = notes.user %} of @{{ user.username }}{% endif %}</h1>\n<ul>{% for post in notes.posts %}<li>{{ post.text }}</li>{% endfor %}</ul>\n",
        ext = "html"
    )]
    struct Fragment<'a> {
        notes: &'a Notes,
    }
    let json = serde_json::json!({
        "user": notes.user, "posts": notes.posts, "read_at": notes.read_at, "next_read_at": notes.next_at,
    });
    let line = |post: &Post| format!("{}\n", format::cut(&post.text, 500));
    let text = notes.posts.iter().map(line).collect();
    Ok(Outcome { json, html: askama::Template::render(&Fragment { notes })?, text })
}
