//! What HubSpot knows of a recording in a bucket, and who may tell it more.
//!
//! Of two who publish one recording, one must stop before anything is sent twice. Who publishes
//! writes a name into the record, on condition that nobody else has, and takes it away at the end;
//! that of a process that was killed falls as claims do (`records`). Each step is written down on
//! condition that what was known before is still what is there.

use std::sync::Arc;

use serde_json::Value;

use super::Object;
use super::records::Seen;
use super::write::ROUNDS;
use crate::recording::RecordingId;
use crate::store::incoming::random_name;
use crate::store::{ChangeError, Record, StoreError};

/// A recording that nobody else publishes, until this is dropped.
#[derive(Debug)]
pub(in crate::store) struct Published {
    object: Arc<Object>,
    id: RecordingId,
    by: String,
}

impl Object {
    /// Keeps others from publishing a recording; `None` where another one is at it.
    pub(in crate::store) fn publish(
        self: &Arc<Self>,
        id: &RecordingId,
    ) -> Result<Option<Published>, ChangeError> {
        let by = random_name()?;
        for _ in 0..ROUNDS {
            let Seen { kept, there } = self.look(id, None)?;
            if there.is_empty() || kept.record.erased_at.is_some() {
                return Err(StoreError::NotFound("nothing to publish").into());
            }
            if kept.record.publishing.is_some() && !self.has_fallen(&kept)? {
                return Ok(None);
            }
            let record = Record {
                publishing: Some(by.clone()),
                incoming: None,
                ..kept.record.clone()
            };
            if self.swap(id, &kept, record)?.is_some() {
                let (object, id) = (Arc::clone(self), id.clone());
                return Ok(Some(Published { object, id, by }));
            }
        }
        Err(ChangeError::Busy)
    }

    /// Puts what HubSpot knows of a recording into its record, if what it knew is still `was`.
    pub(in crate::store) fn remember(
        self: &Arc<Self>,
        id: &RecordingId,
        was: Option<&Value>,
        hubspot: &Value,
    ) -> Result<(), ChangeError> {
        for _ in 0..ROUNDS {
            let Seen { kept, .. } = self.look(id, None)?;
            if kept.record.erased_at.is_some() {
                return Err(StoreError::Erased.into());
            }
            if kept.record.hubspot.as_ref() != was {
                return Err(ChangeError::Busy);
            }
            let record = Record {
                hubspot: Some(hubspot.clone()),
                incoming: None,
                ..kept.record.clone()
            };
            if self.swap(id, &kept, record)?.is_some() {
                return Ok(());
            }
        }
        Err(ChangeError::Busy)
    }

    fn end_publishing(self: &Arc<Self>, id: &RecordingId, by: &str) -> Result<(), ChangeError> {
        for _ in 0..ROUNDS {
            let Seen { kept, .. } = self.look(id, None)?;
            if kept.record.publishing.as_deref() != Some(by) {
                return Ok(());
            }
            let record = Record {
                publishing: None,
                incoming: None,
                ..kept.record.clone()
            };
            if self.swap(id, &kept, record)?.is_some() {
                return Ok(());
            }
        }
        Err(ChangeError::Busy)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Err(error) = self.object.end_publishing(&self.id, &self.by) {
            let recording = &self.id;
            tracing::warn!(%error, %recording, "nobody else can publish it for ten minutes");
        }
    }
}
