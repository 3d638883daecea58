//! A deployment: the body of `PUT /system/functions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The community edition's limit of replicas.
pub(super) const MOST_REPLICAS: u32 = 5;

/// A deployment, with the names of the REST API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    /// The function's name.
    pub(crate) service: String,
    /// Never pulled; a function of the stack file is found by it.
    pub(crate) image: String,
    /// `openfaas-fn`, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    /// `fprocess` of the template.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) env_process: String,
    /// Its environment.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env_vars: BTreeMap<String, String>,
    /// Ignored, as by the community edition.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) constraints: Vec<String>,
    /// Names of the secrets that are mounted.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<String>,
    /// Among them `com.openfaas.scale.min`.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Among them `topic` and `schedule`.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Shown, but not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<Resources>,
    /// Shown, but not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<Resources>,
    /// Shown, but not enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only_root_filesystem: bool,
}

/// Memory and CPU in Kubernetes' notation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    /// `128Mi`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) memory: String,
    /// `100m`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cpu: String,
}

/// Go reads `null` as the empty value.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The label that the provider puts on every function, with its name.
const NAME_LABEL: &str = "faas_function";

impl Spec {
    /// The JSON of the function's status: the deployment, without what [`super::Status`] says itself.
    pub(super) fn to_status(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut members = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(members)) => members,
            _ => serde_json::Map::new(),
        };
        members.retain(|name, _| name != "service" && name != "namespace");
        members["labels"][NAME_LABEL] = self.service.clone().into();
        members
    }

    /// The function's environment: `fprocess`, then what the deployment sets.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.env_vars.clone();
        if !self.env_process.is_empty() {
            environment.entry("fprocess".to_owned()).or_insert_with(|| self.env_process.clone());
        }
        environment
    }

    /// The number of instances that its labels set.
    pub(super) fn replicas(&self) -> u32 {
        // faas-netes raises 0 to 1.
        self.labels
            .get("com.openfaas.scale.min")
            .and_then(|text| text.parse().ok())
            .map_or(1, |min: u32| min.clamp(1, MOST_REPLICAS))
    }

    /// What the community edition refuses, so that it is met here and not at the first real deployment.
    pub(super) fn check(&self) -> Result<(), String> {
        if !is_dns_label(&self.service) {
            return Err(format!("service: ({}) is invalid, must be a valid DNS entry", self.service));
        }
        if !["", super::NAMESPACE].contains(&self.namespace.as_str()) {
            return Err(format!("namespace: only {} is there, not {}", super::NAMESPACE, self.namespace));
        }
        for name in ["com.openfaas.scale.min", "com.openfaas.scale.max"] {
            if self.labels.get(name).is_some_and(|text| text.parse().is_ok_and(|n: u32| n > MOST_REPLICAS)) {
                return Err(format!("label {name}: the community edition allows at most {MOST_REPLICAS} replicas"));
            }
        }
        let paid = ["zero", "zero-duration", "target", "type"].map(|name| format!("com.openfaas.scale.{name}"));
        // Only "true" turns scaling to zero on.
        let refused =
            |name: &str| self.labels.get(name).is_some_and(|value| !name.ends_with(".zero") || value == "true");
        if let Some(name) = paid.iter().find(|name| refused(name)) {
            return Err(format!("label {name}: the community edition refuses it"));
        }
        if self.annotations.get("topic").is_some_and(|topic| topic.contains(',')) {
            return Err("annotation topic: the community edition allows one topic for a function".to_owned());
        }
        if let Some(name) =
            self.annotations.keys().find(|name| name.contains("amazonaws.com") || name.contains("gke.io"))
        {
            return Err(format!("annotation {name}: the community edition refuses it"));
        }
        Ok(())
    }
}

/// Whether a name is an RFC 1123 label, as Kubernetes requires.
fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = [name.as_bytes().first(), name.as_bytes().last()];
    name.len() <= 63 && name.bytes().all(inner) && ends.iter().all(|end| end.is_some_and(|byte| *byte != b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> Spec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_body_of_faas_cli_is_accepted_and_null_is_empty() {
        let spec = spec(serde_json::json!({
            "service": "f", "image": "i:latest", "envVars": {"a": "1"}, "secrets": null,
            "labels": {"com.openfaas.scale.min": "3"}, "annotations": null, "network": "func_functions",
        }));
        assert_eq!((spec.replicas(), spec.secrets.len(), spec.env_vars["a"].as_str()), (3, 0, "1"));
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn what_the_community_edition_refuses_is_refused() {
        for bad in [
            serde_json::json!({"service": "Hello"}),
            serde_json::json!({"service": ""}),
            serde_json::json!({"service": "-a"}),
            serde_json::json!({"service": "../../etc"}),
            serde_json::json!({"service": "f", "namespace": "dev"}),
            serde_json::json!({"service": "f", "labels": {"com.openfaas.scale.max": "6"}}),
            serde_json::json!({"service": "f", "labels": {"com.openfaas.scale.zero": "true"}}),
            serde_json::json!({"service": "f", "annotations": {"topic": "a,b"}}),
        ] {
            assert!(spec(bad.clone()).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_that_turns_scale_to_zero_off_is_accepted() {
        let labels = serde_json::json!({"com.openfaas.scale.zero": "false"});
        assert_eq!(spec(serde_json::json!({"service": "f", "labels": labels})).check(), Ok(()));
    }

    #[test]
    fn no_label_and_zero_are_one_replica() {
        assert_eq!(spec(serde_json::json!({"service": "f"})).replicas(), 1);
        let zero = serde_json::json!({"service": "f", "labels": {"com.openfaas.scale.min": "0"}});
        assert_eq!(spec(zero).replicas(), 1);
    }
}
