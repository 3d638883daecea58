//! What the process takes of the machine, under the names of Prometheus' client libraries.

use std::{
    fmt::Write as _,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Linux tells processes times in hundredths of a second, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// The samples as text, with as many as the system tells.
pub(crate) fn render() -> String {
    let mut text = String::new();
    let mut sample = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process, in parentheses, may hold anything.
    let stat: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| stat.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let network = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();

    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    sample("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", cpu);
    let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    sample("process_open_fds", "gauge", "Open file descriptors.", files);
    sample("process_max_fds", "gauge", "Most file descriptors that may be open.", limit(&limits, "Max open files"));
    let resident = line(&status, "VmRSS:").and_then(|kilobytes| Some(kilobytes.parse::<f64>().ok()? * 1024.0));
    sample("process_resident_memory_bytes", "gauge", "Resident memory.", resident);
    sample("process_virtual_memory_bytes", "gauge", "Virtual memory.", field(23));
    let most = limit(&limits, "Max address space");
    sample("process_virtual_memory_max_bytes", "gauge", "Most virtual memory, -1 without a limit.", most);
    let started = field(22).zip(booted()).map(|(ticks, booted)| booted + ticks / TICKS);
    sample("process_start_time_seconds", "gauge", "When the process was started, in seconds since 1970.", started);
    let received = octets(&network, "InOctets");
    sample("process_network_receive_bytes_total", "counter", "Bytes received by the network namespace.", received);
    let sent = octets(&network, "OutOctets");
    sample("process_network_transmit_bytes_total", "counter", "Bytes sent by the network namespace.", sent);
    text
}

/// The first word behind `name`.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}

fn limit(text: &str, name: &str) -> Option<f64> {
    match line(text, name)? {
        "unlimited" => Some(-1.0),
        number => number.parse().ok(),
    }
}

/// When the machine came up, in seconds since 1970.
fn booted() -> Option<f64> {
    let up: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - up)
}

/// A column of the `IpExt` table: a line of names, then one of values.
fn octets(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let column = lines.next()?.split_whitespace().position(|column| column == name)?;
    lines.next()?.split_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let text = render();
        let sample = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            line.parse().unwrap()
        };
        assert!(sample("process_resident_memory_bytes") > 100_000.0);
        assert!(sample("process_open_fds") >= 3.0);
        assert!(sample("process_max_fds") >= sample("process_open_fds"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - sample("process_start_time_seconds")) < 3600.0 * 24.0);
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 11 22\n";
        assert_eq!((octets(text, "InOctets"), octets(text, "OutOctets")), (Some(11.0), Some(22.0)));
        assert_eq!(octets("", "InOctets"), None);
    }
}
