use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;

use super::JobError;
use token_keeper::api::Api;

type Find = dyn Fn(String, String) -> BoxFuture<'static, Result<Api, JobError>> + Send + Sync;

/// The APIs of all connections of a function, by connection and account; by default of none.
#[derive(Clone, Default)]
pub struct Apis(Option<Arc<Find>>);

impl fmt::Debug for Apis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Apis(..)")
    }
}

impl Apis {
    /// The APIs that `find` knows.
    pub fn new<F>(find: impl Fn(String, String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Api, JobError>> + Send + 'static,
    {
        Self(Some(Arc::new(move |connection, account| Box::pin(find(connection, account)))))
    }

    pub(super) async fn get(&self, connection: &str, account: &str) -> Result<Api, JobError> {
        match &self.0 {
            Some(find) => find(connection.to_owned(), account.to_owned()).await,
            None => Err(JobError::Failed(format!("there is no connection {connection}"))),
        }
    }
}
