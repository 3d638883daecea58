//! The ways in which APIs split lists into pages.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::json;
use crate::provider;

/// How an API hands out a list in pages. Paths into answers have dots: `meta.next`; the empty path is the whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Paging {
    /// One page is all.
    #[default]
    None,
    /// The header `Link` with `rel="next"` (RFC 8288).
    Link,
    /// The answer has the URL of the next page, which may be relative.
    NextUrl {
        /// Where.
        next: String,
    },
    /// The answer has a value that gets the next page.
    Cursor {
        /// The parameter that takes it.
        parameter: String,
        /// Where it is in the answer,
        #[serde(default)]
        next: Option<String>,
        /// or where it is in the last record of the page.
        #[serde(default)]
        last: Option<String>,
        /// Where the answer says whether there is more, if it does.
        #[serde(default)]
        more: Option<String>,
        /// Where the records are; for `last` only.
        #[serde(default)]
        records: String,
    },
    /// So many records in, so many at a time.
    Offset {
        /// The parameter that takes the number of records to pass over.
        parameter: String,
        /// The parameter that takes the size of a page, if there is one.
        #[serde(default)]
        size_parameter: Option<String>,
        /// The size of a page: a shorter one is the last.
        size: u64,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
    /// Pages by number, until one is empty, or shorter than `size`.
    Page {
        /// The parameter that takes the number.
        parameter: String,
        /// The number of the first page.
        #[serde(default = "one")]
        first: u64,
        /// The parameter that takes the size of a page, if there is one.
        #[serde(default)]
        size_parameter: Option<String>,
        /// The size of a page, if it is known.
        #[serde(default)]
        size: Option<u64>,
        /// Where the records are.
        #[serde(default)]
        records: String,
    },
}

fn one() -> u64 {
    1
}

impl From<provider::Paging> for Paging {
    fn from(paging: provider::Paging) -> Self {
        match paging {
            provider::Paging::Link { .. } => Self::Link,
            provider::Paging::NextUrl { next, .. } => Self::NextUrl { next },
            provider::Paging::Cursor { next, parameter, records } => {
                Self::Cursor { parameter, next: Some(next), last: None, more: None, records }
            }
            provider::Paging::Offset { parameter, size_parameter, size, records } => {
                Self::Offset { parameter, size_parameter: Some(size_parameter), size: size.into(), records }
            }
            provider::Paging::Page { parameter, first, size_parameter, size, records } => {
                Self::Page { parameter, first: first.into(), size_parameter, size: size.map(Into::into), records }
            }
        }
    }
}

/// How to get to the next page.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// An address, as the API wrote it.
    Url(String),
    /// The same request with this parameter set.
    Set(String, String),
}

/// A page that a walk can begin with: it can be written down, and walked on from by another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    pub(super) step: Step,
    pub(super) place: Place,
}

/// Where in the pages a walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    records: u64,
    pages: u64,
}

impl Paging {
    /// The parameters of the first request.
    pub(super) fn first(&self) -> Vec<(String, String)> {
        let (place, size) = match self {
            Self::Offset { parameter, size_parameter, size, .. } => {
                ((parameter, 0), size_parameter.as_ref().map(|parameter| (parameter, *size)))
            }
            Self::Page { parameter, first, size_parameter, size, .. } => {
                ((parameter, *first), size_parameter.as_ref().zip(*size))
            }
            _ => return Vec::new(),
        };
        [Some(place), size].into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string())).collect()
    }

    /// What gets the page after this one; `None` where it is the last.
    pub(super) fn next(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        place: &mut Place,
    ) -> Result<Option<Step>, serde_json::Error> {
        place.pages += 1;
        Ok(match self {
            Self::None => None,
            Self::Link => next_link(headers).map(Step::Url),
            Self::NextUrl { next } => json::text(body, next)?.map(Step::Url),
            Self::Cursor { parameter, next, last, more, records } => {
                if let Some(more) = more
                    && json::text(body, more)?.is_none_or(|more| more == "false" || more == "0")
                {
                    return Ok(None);
                }
                let cursor = match (next, last) {
                    (Some(next), _) => json::text(body, next)?,
                    (None, Some(last)) => match json::records(body, records)?.last() {
                        Some(record) => json::text(record.get().as_bytes(), last)?,
                        None => None,
                    },
                    (None, None) => None,
                };
                cursor.map(|cursor| Step::Set(parameter.clone(), cursor))
            }
            Self::Offset { parameter, size, records, .. } => {
                let count = count(body, records)?;
                place.records += count;
                (count > 0 && count >= *size).then(|| Step::Set(parameter.clone(), place.records.to_string()))
            }
            Self::Page { parameter, first, size, records, .. } => {
                let count = count(body, records)?;
                (count >= size.unwrap_or(1).max(1))
                    .then(|| Step::Set(parameter.clone(), (first + place.pages).to_string()))
            }
        })
    }
}

fn count(body: &[u8], records: &str) -> Result<u64, serde_json::Error> {
    let mut count = 0;
    json::each(body, records, |_| count += 1)?;
    Ok(count)
}

/// The target of the link whose relation is `next` (RFC 8288 §3): `<https://…>; rel="next"`.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(targets).find(|(_, is_next)| *is_next).map(|(target, _)| target)
}

/// The targets of one field value. A target may hold commas and semicolons, and so may a quoted parameter.
fn targets(mut rest: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let end = unquoted(after, ',').unwrap_or(after.len());
        let (mut parameters, mut is_next) = (&after[..end], false);
        while let Some(start) = unquoted(parameters, ';') {
            let parameter = &parameters[start + 1..];
            let one = &parameter[..unquoted(parameter, ';').unwrap_or(parameter.len())];
            if let Some((name, value)) = one.split_once('=')
                && name.trim().eq_ignore_ascii_case("rel")
            {
                let relations = value.trim().trim_matches('"');
                is_next |= relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"));
            }
            parameters = parameter;
        }
        found.push((target.trim().to_owned(), is_next));
        rest = &after[end..];
    }
    found
}

/// Where `wanted` first stands outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(paging: &Paging, headers: &[&str], body: &str, place: &mut Place) -> Option<Step> {
        let headers = headers.iter().map(|value| (header::LINK, value.parse().unwrap())).collect();
        paging.next(&headers, body.as_bytes(), place).unwrap()
    }

    fn set(param: &str, value: &str) -> Option<Step> {
        Some(Step::Set(param.into(), value.into()))
    }

    fn read(text: &str) -> Paging {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn links_are_found_whatever_stands_in_them() {
        let link = |values: &[&str]| next(&Paging::Link, values, "", &mut Place::default());
        let found = |url: &str| Some(Step::Url(url.into()));
        assert_eq!(link(&[r#"<https://a/?p=2>; rel="next", <https://a/?p=9>; rel="last""#]), found("https://a/?p=2"));
        assert_eq!(link(&[r#"<https://a/?q=x,y;z>; title="a, <b>; rel=next"; rel=prev, </n>;REL=NEXT"#]), found("/n"));
        assert_eq!(link(&["<a>; rel=\"prev start\"", "<b>; rel=\"last next\""]), found("b"));
        for none in ["", "<a>", "<a>; rel=prev", "<a; rel=next", "rel=next", "<a>; rel=nextish"] {
            assert_eq!(link(&[none]), None, "{none}");
        }
    }

    #[test]
    fn a_url_or_a_cursor_in_the_answer_leads_on_until_there_is_none() {
        let mut place = Place::default();
        let url = read("style = 'next_url'\nnext = 'paging.next'");
        assert_eq!(next(&url, &[], r#"{"paging":{"next":"/a?b"}}"#, &mut place), Some(Step::Url("/a?b".into())));
        assert_eq!(next(&url, &[], r#"{"paging":{"next":null}}"#, &mut place), None);
        let cursor = read("style = 'cursor'\nparameter = 'after'\nnext = 'next'");
        assert_eq!(next(&cursor, &[], r#"{"next":17}"#, &mut place), set("after", "17"));
        assert_eq!(next(&cursor, &[], r#"{"next":""}"#, &mut place), None);
        let last = read("style = 'cursor'\nparameter = 'after'\nlast = 'id'\nmore = 'has_more'\nrecords = 'data'");
        let body = |more| format!(r#"{{"has_more":{more},"data":[{{"id":"a"}},{{"id":"b"}}]}}"#);
        assert_eq!(next(&last, &[], &body("true"), &mut place), set("after", "b"));
        assert_eq!(next(&last, &[], &body("false"), &mut place), None);
    }

    #[test]
    fn offsets_and_numbers_count_up_until_a_page_is_short() {
        let offset = read("style = 'offset'\nparameter = 'skip'\nsize_parameter = 'top'\nsize = 2\nrecords = 'd'");
        assert_eq!(offset.first(), [("skip".into(), "0".into()), ("top".into(), "2".into())]);
        let mut place = Place::default();
        assert_eq!(next(&offset, &[], r#"{"d":[1,2]}"#, &mut place), set("skip", "2"));
        assert_eq!(next(&offset, &[], r#"{"d":[3,4]}"#, &mut place), set("skip", "4"));
        assert_eq!(next(&offset, &[], r#"{"d":[5]}"#, &mut place), None);
        let page = read("style = 'page'\nparameter = 'page'");
        assert_eq!(page.first(), [("page".into(), "1".into())]);
        let mut place = Place::default();
        assert_eq!(next(&page, &[], "[1]", &mut place), set("page", "2"));
        assert_eq!(next(&page, &[], "[2]", &mut place), set("page", "3"));
        assert_eq!(next(&page, &[], "[]", &mut place), None);
    }

    #[test]
    fn an_unknown_key_of_a_style_is_an_error() {
        assert!(toml::from_str::<Paging>("style = 'offset'\nparameter = 'skip'\nsize = 2\npage = 1").is_err());
        assert!(toml::from_str::<Paging>("style = 'magic'").is_err());
    }
}
