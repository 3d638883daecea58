//! Typed reading of answers, with errors that name the field.

use http::Method;
use serde::de::DeserializeOwned;

use super::ApiError;

/// Reads `body`, the answer to `method path`, as a `T`.
///
/// The way to the field costs time, so that it is looked for only when the body cannot be read.
pub(super) fn read<T: DeserializeOwned>(method: &Method, path: &str, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|err| {
        if !err.is_data() {
            return ApiError::malformed(method.clone(), path.to_owned(), &err);
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let field = match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(err) => err.path().to_string(),
            Ok(_) => ".".to_owned(),
        };
        let (field, why) = located(&field, &err.to_string());
        ApiError::Malformed { method: method.clone(), path: path.to_owned(), field, why }
    })
}

/// The field, and what is wrong with it. A missing field is part of the way, which leads to what it is missing in; a value
/// that the API sent is not shown, for it may be anything.
fn located(at: &str, why: &str) -> (Option<String>, String) {
    let why = why.rfind(" at line ").map_or(why, |end| &why[..end]);
    let missing = why.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let field = match (at, missing) {
        (".", None) => None,
        (".", Some(name)) => Some(name.to_owned()),
        (at, Some(name)) => Some(format!("{at}.{name}")),
        (at, None) => Some(at.to_owned()),
    };
    let words = match (why.find(": string \""), why.rfind("\", expected ")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}: a string, {}", &why[..start], &why[end + "\", ".len()..])
        }
        _ => why.to_owned(),
    };
    (field, words)
}

/// What of the JSON could not be read, where it has no shape that could be compared.
pub(super) fn not_json(err: &serde_json::Error) -> String {
    format!("it is no whole JSON (line {}, column {})", err.line(), err.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Sale {
        #[allow(dead_code)]
        price: u64,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Sales {
        #[allow(dead_code)]
        sales: Vec<Sale>,
    }

    #[test]
    fn an_answer_of_another_shape_names_the_field_and_shows_no_value() {
        let why = |body: &str| {
            let err = read::<Sales>(&Method::GET, "/sales", body.as_bytes()).unwrap_err().to_string();
            err.strip_prefix("the API's answer to GET /sales cannot be read: ").unwrap().to_owned()
        };
        assert_eq!(
            why(r#"{"sales":[{"price":1},{"price":2},{"price":3},{"cost":1}]}"#),
            "sales[3].price: missing field `price`"
        );
        assert_eq!(
            why(r#"{"sales":[{"price":"marker \", expected x"}]}"#),
            "sales[0].price: invalid type: a string, expected u64"
        );
        assert_eq!(why("{}"), "sales: missing field `sales`");
        assert_eq!(why("7"), "invalid type: integer `7`, expected struct Sales");
        assert_eq!(why("<html>"), "it is no whole JSON (line 1, column 1)");
        assert_eq!(why(r#"{"sales":["#), "it is no whole JSON (line 1, column 10)");
        read::<Sales>(&Method::GET, "/", br#"{"sales":[{"price":1}]}"#).unwrap();
    }
}
