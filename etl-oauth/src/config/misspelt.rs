//! Variables that are set, that nothing reads, and whose name is close to one that is read.

use std::collections::BTreeSet;

/// Variables that the watchdog of the template reads, and those of the classic ones that stack files carry over. They are
/// no mistakes of this function, however close they come to its own.
const WATCHDOG: [&str; 38] = [
    "afterburn",
    "buffer_http",
    "cgi_headers",
    "combine_output",
    "content_type",
    "debug_headers",
    "exec_timeout",
    "fprocess",
    "function_name",
    "function_namespace",
    "gateway_namespace",
    "healthcheck_interval",
    "http_buffer_req_body",
    "http_upstream_url",
    "http_proxy",
    "https_proxy",
    "jwt_auth",
    "jwt_auth_debug",
    "jwt_auth_local",
    "log_buffer_size",
    "log_call_id",
    "log_callid",
    "log_format",
    "marshal_request",
    "max_inflight",
    "metrics_port",
    "mode",
    "no_proxy",
    "port",
    "prefix_logs",
    "read_debug",
    "read_timeout",
    "ready_path",
    "static_path",
    "suppress_lock",
    "upstream_url",
    "write_debug",
    "write_timeout",
];

/// Variables of ours that are read only where others ask for them.
const CONDITIONAL: [&str; 3] = ["extract_file", "max_age", "record_of"];

/// A line for each variable of `set` whose name is nearly one of `known`. The environment also holds Kubernetes', the
/// watchdog's and the job's own variables, so that a name that is unlike all of ours is left alone.
pub(super) fn misspelt(set: impl IntoIterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let ours = |name: &str| known.contains(name) || WATCHDOG.contains(&name) || CONDITIONAL.contains(&name);
    let lower =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let unknown: BTreeSet<String> = set.into_iter().filter(|name| lower(name) && !ours(name)).collect();
    let nearest = |name: &String| {
        let names = known.iter().map(String::as_str).chain(CONDITIONAL);
        let distances = names.map(|other| (strsim::osa_distance(name, other), other));
        let (distance, other) = distances.min()?;
        is_slip(name, other, distance).then(|| format!("{name} is not known: is it {other} that is meant?"))
    };
    unknown.iter().filter_map(nearest).collect()
}

/// Whether `name` is more probably `other` mistyped than a name of its own. In a short name one letter instead of another
/// often makes another word (`score`, `scope`), so that only a letter too many, too few or exchanged with its neighbour counts.
fn is_slip(name: &str, other: &str, distance: usize) -> bool {
    let substituted = name.len() == other.len() && {
        let sorted = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.sort_unstable();
            bytes
        };
        sorted(name) != sorted(other)
    };
    match other.len() {
        ..4 => false,
        4..8 => distance == 1 && !substituted,
        _ => distance <= 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[&str]) -> Vec<String> {
        let known = ["min_run_interval", "scope", "store", "store_path", "job", "provider_subdomain", "lease"];
        misspelt(set.iter().map(|name| (*name).to_owned()), &known.map(str::to_owned).into())
    }

    #[test]
    fn o11_a_name_that_is_nearly_one_of_ours_is_a_mistake_with_the_nearest_name() {
        for (wrong, right) in [
            ("min_run_intervall", "min_run_interval"),
            ("min_run_intrval", "min_run_interval"),
            ("scpoe", "scope"),
            ("scopes", "scope"),
            ("store_paht", "store_path"),
            ("provider_subdomian", "provider_subdomain"),
        ] {
            assert_eq!(found(&[wrong]), [format!("{wrong} is not known: is it {right} that is meant?")]);
        }
    }

    #[test]
    fn o11_variables_of_the_platform_and_of_the_job_are_left_alone() {
        let others = [
            "PATH",
            "HOSTNAME",
            "KUBERNETES_SERVICE_HOST",
            "GATEWAY_PORT_8080_TCP_PORT",
            "OPENFAAS_NAME",
            "fprocess",
            "mode",
            "port",
            "write_timeout",
            "score",
            "jobs",
            "stripe_account",
            "database_url",
            "min_run_interval",
            "scope",
            "_",
        ];
        assert_eq!(found(&others), Vec::<String>::new());
    }
}
