//! The metrics and their descriptions, as the watchdog's metrics port shows them. The rooms count by these names.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

use crate::job::JobError;
use token_keeper::token::FailureKind;

/// Describes each metric to the recorder, and begins those counters at zero whose first event must not be missed: the
/// increase of a counter that was not there before is none.
pub(crate) fn begin(store: &str, job: &'static str, connections: &[&str]) {
    describe();
    for outcome in ["renewed", "adopted"].into_iter().chain(FailureKind::ALL.map(FailureKind::as_str)) {
        for connection in connections {
            let connection = (*connection).to_owned();
            counter!("etl_oauth_renewals_total", "connection" => connection, "outcome" => outcome).increment(0);
        }
    }
    for outcome in ["ok", "conflict", "error"] {
        counter!("etl_oauth_store_writes_total", "store" => store.to_owned(), "outcome" => outcome).increment(0);
    }
    // An API's failures have codes of their own.
    let of_api =
        ["api_error", "api_unreachable", "needs_authorisation", "other_origin", "token_refused", "unsendable_token"];
    let failures = JobError::CODES.into_iter().chain(of_api).chain(FailureKind::ALL.map(FailureKind::as_str));
    for outcome in ["ok"].into_iter().chain(failures) {
        for connection in connections {
            let connection = (*connection).to_owned();
            counter!("etl_oauth_job_runs_total", "job" => job, "connection" => connection, "outcome" => outcome)
                .increment(0);
        }
    }
}

fn describe() {
    describe_gauge!("etl_oauth_account_state", "1 for the state that an account is in, 0 for the others.");
    describe_gauge!("etl_oauth_accounts", "Accounts of a connection in a state.");
    describe_gauge!(
        "etl_oauth_token_expiry_timestamp_seconds",
        "When an account's access token ends, in Unix time; NaN where that is not known, or there is none."
    );
    describe_gauge!(
        "etl_oauth_refresh_token_expiry_timestamp_seconds",
        "When an account's refresh token ends, in Unix time; NaN where that is not known, or there is none."
    );
    describe_gauge!(
        "etl_oauth_grant_expiry_timestamp_seconds",
        "When an account stops unless a person authorises it again, in Unix time: the end of its refresh token, or of its \
         access token where there is nothing to renew it with; NaN where that is not known."
    );
    describe_gauge!(
        "etl_oauth_client_certificate_expiry_timestamp_seconds",
        "When the client's certificate ends (`notAfter`), in Unix time."
    );
    describe_gauge!(
        "etl_oauth_client_secret_expiry_timestamp_seconds",
        "When the client's secret ends, as the variable client_secret_expires_at says, in Unix time."
    );
    describe_counter!(
        "etl_oauth_records_opened_total",
        "Sealed records that were read, by the key of etl-oauth-seal-keys: a key that opens none any more can go."
    );
    describe_counter!(
        "etl_oauth_renewals_total",
        "Renewals by outcome: renewed, adopted, or the class of the failure."
    );
    describe_histogram!("etl_oauth_renewal_duration_seconds", "How long renewals took, whatever came of them.");
    describe_histogram!(
        "etl_oauth_renewal_lateness_seconds",
        "When a token was renewed, after it was due; renewals that came earlier do not count."
    );
    describe_counter!("etl_oauth_state_changes_total", "Changes of an account's state that this replica made.");
    describe_gauge!(
        "etl_oauth_tokens_unsaved",
        "1 while an account's newest tokens are in this process's memory alone."
    );
    describe_counter!(
        "etl_oauth_record_rollbacks_total",
        "Records that were read and are older than one that was stored before: put back from a backup, or by an intruder."
    );
    describe_counter!("etl_oauth_store_writes_total", "Writes to the store by outcome: ok, conflict, error.");
    describe_counter!(
        "etl_oauth_job_runs_total",
        "Runs of the job by outcome: ok, or the error's name. A call without an account to run for is no run."
    );
    describe_gauge!(
        "etl_oauth_job_last_success_timestamp_seconds",
        "When the job last succeeded for an account, in Unix time."
    );
    describe_histogram!("etl_oauth_job_duration_seconds", "How long runs of the job took, whatever came of them.");
    describe_counter!(
        "etl_oauth_extract_records_total",
        "Records of extract by resource: copied, dead (kept apart because they do not fit), and values that were discarded."
    );
    describe_counter!(
        "etl_oauth_provider_requests_total",
        "Calls to the provider by endpoint and status; the status none means that no answer came."
    );
}
