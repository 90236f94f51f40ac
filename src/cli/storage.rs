//! Which store a configuration means, opened. What is then done with it is each command's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::{Failure, now};
use crate::config::{Config, Delivery, Storage};
use crate::doctor::Named;
use crate::recording::RecordingId;
use crate::store::{Bucket, BucketError, ChangeError, Local, Object, Slices, Store, StoreError};

pub(super) fn open_store(config: &Config) -> Result<Store, Failure> {
    match &config.storage {
        Storage::Directory(path) => open_directory(path),
        Storage::Bucket(bucket) => Ok(Store::Object(Arc::new(open_bucket(bucket, config)?))),
    }
}

/// The same with a cache, where there is to be one: it is the server's alone.
pub(super) fn open_to_serve(config: &Config) -> Result<Store, Failure> {
    let (Storage::Bucket(bucket), Delivery::Cache(cache, trust)) =
        (&config.storage, &config.delivery)
    else {
        return open_store(config);
    };
    let object = open_bucket(bucket, config)?;
    let name = format!("{bucket} {}", config.endpoint.as_deref().unwrap_or(""));
    let slices = Slices::open(cache.clone(), name, now());
    Ok(Store::Object(Arc::new(object.with_slices(slices, *trust))))
}

/// Why a recording that was named is not to be had.
pub(super) fn not_had(id: &RecordingId, place: &Storage, error: ChangeError) -> Failure {
    let problem = match error {
        ChangeError::Store(error) if error.is_absent() => {
            anyhow!("{id} is not in {place}: {error}")
        }
        ChangeError::Store(error @ StoreError::Damaged) => {
            let place = place.to_string();
            let fix = Named::stored(Path::new(""), id, &place).put_again();
            anyhow!("{id}: {error}, a scrub found\nfix: {fix}")
        }
        error => return error.into(),
    };
    Failure::new(Failure::FINDINGS, problem)
}

fn open_bucket(bucket: &Bucket, config: &Config) -> Result<Object, Failure> {
    let (endpoint, limits) = (config.endpoint.as_deref(), config.bucket_limits);
    let presigner = match config.delivery {
        Delivery::Presign(session) => Some(bucket.presigner(endpoint, limits, session)),
        Delivery::Proxy | Delivery::Cache(..) => None,
    };
    let open = || {
        let object = bucket.open(endpoint, limits)?;
        Ok::<_, BucketError>(match presigner.transpose()? {
            Some(presigner) => object.with_presigner(presigner),
            None => object,
        })
    };
    open()
        .with_context(|| bucket.to_string())
        .map_err(|error| Failure::new(Failure::CONFIGURATION, error))
}

/// How soon a server notices what others change in its directory.
const TRUST: Duration = Duration::from_millis(10);

fn open_directory(path: &Path) -> Result<Store, Failure> {
    let local = Local::open(path)
        .with_context(|| {
            let path = path.display();
            format!("the store {path} cannot be read; make the directory, or name another with --storage")
        })
        .map_err(|error| Failure::new(Failure::IO, error))?;
    Ok(Store::Local(Arc::new(local.trusting(TRUST))))
}
