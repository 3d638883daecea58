use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) url: String,
}
