//! What a plan would ask for and write, by the first page of each resource. Nothing is stored.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    column::{ColumnType, Schema},
    copy::path_of,
    plan::Plan,
    record::{Fields, shaped},
    resource::Resource,
};
use crate::job::JobError;
use token_keeper::api::{Api, ApiError, Request, Response, json};

/// The first page of a resource.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The resource.
    pub resource: String,
    /// Method and path that were asked for.
    pub request: String,
    /// How many records the page has.
    pub records: usize,
    /// The columns that a table or a Parquet file of these records would have.
    pub columns: Schema,
    /// The first record as it would be written.
    pub first: Option<Box<RawValue>>,
    /// Whether there is a second page.
    pub has_more: bool,
    /// What is odd: a key or a cursor's field that records do not have.
    pub warnings: Vec<String>,
}

/// Asks for the first page of each resource; for that of a child by the first record of its parent.
///
/// # Errors
/// The API's, and records that are no objects.
pub async fn preview(plan: &Plan, api: &Api) -> Result<Vec<Preview>, JobError> {
    let mut previews = Vec::new();
    for resource in plan.resources() {
        let (mut path, mut more) = (resource.path.clone(), None);
        if let Some(parent) = &resource.parent
            && let Some(above) = plan.resource(&parent.resource)
        {
            let page = first_page(api, above, &above.path).await?;
            let Some(record) = records(&page, above)?.into_iter().next() else { continue };
            path = path_of(&resource.path, &record)
                .map_err(|field| JobError::Refused(format!("a record of {} has no {field}", above.name)))?;
            let field = json::at(record.get().as_bytes(), &parent.field).ok().flatten().map(ToOwned::to_owned);
            more = field.map(|field| (parent.column.clone(), field));
        }
        let page = first_page(api, resource, &path).await?;
        let more = more.as_ref().map(|(name, value)| (name.as_str(), &**value));
        previews.push(of(resource, &path, &page, more)?);
    }
    Ok(previews)
}

async fn first_page(api: &Api, resource: &Resource, path: &str) -> Result<Response, JobError> {
    let paging = resource.paging.clone().or_else(|| api.paging()).unwrap_or_default();
    let mut request: Request = match &resource.body {
        Some(body) => api.post(path).body_json(body).reads_only(),
        None => api.get(path),
    };
    for (name, value) in &resource.params {
        request = request.query(name, value);
    }
    if let Some(cursor) = &resource.cursor
        && let (Some(parameter), Some(start)) = (&cursor.parameter, &cursor.start)
    {
        request = request.set(parameter, start);
    }
    let page = request.pages(paging, 2).next().await;
    page.unwrap_or(Err(ApiError::NotConfigured)).map_err(Into::into)
}

fn records(page: &Response, resource: &Resource) -> Result<Vec<Box<RawValue>>, JobError> {
    let all = json::records(&page.body, &resource.records)
        .map_err(|err| ApiError::malformed(http::Method::GET, resource.path.clone(), &err))?;
    Ok(all.into_iter().map(ToOwned::to_owned).collect())
}

fn of(resource: &Resource, path: &str, page: &Response, more: Option<(&str, &RawValue)>) -> Result<Preview, JobError> {
    let (mut columns, mut first, mut warnings) = (Schema::new(), None, Vec::new());
    let all = records(page, resource)?;
    let wanted = resource.key.iter().chain(resource.cursor.as_ref().map(|cursor| &cursor.field));
    for field in wanted {
        let missing = all.iter().filter(|record| !matches!(json::text(record.get().as_bytes(), field), Ok(Some(_))));
        let missing = missing.count();
        if missing > 0 {
            warnings.push(format!("{missing} of {} records have no {field}", all.len()));
        }
    }
    if all.is_empty() {
        warnings.push(format!("there are no records at {:?}", resource.records));
    }
    for record in &all {
        let record = shaped(record, resource, more)?;
        for (name, value) in Fields::read(record.get())?.0 {
            let Some(is) = ColumnType::of(value) else { continue };
            let known = resource.types.get(name.as_ref()).copied();
            let joined = columns.get(name.as_ref()).map_or(is, |there: &ColumnType| there.join(is));
            columns.insert(name.into_owned(), known.unwrap_or(joined));
        }
        first.get_or_insert(record);
    }
    let method = if resource.body.is_some() { "POST" } else { "GET" };
    Ok(Preview {
        resource: resource.name.clone(),
        request: format!("{method} {path}"),
        records: all.len(),
        columns,
        first,
        has_more: page.next_page().is_some(),
        warnings,
    })
}
