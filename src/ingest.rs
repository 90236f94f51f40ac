//! Recordings brought over HTTP: what is taken in, from whom, and what becomes of it.
//!
//! Decides who may bring and erase, and whether a body is what its fields say. What it may not
//! overwrite is the store's decision, how a failure looks is `reject`'s. Off until tokens are
//! configured. A recording comes whole, by PUT, or in parts (`uploads`). A body passes through two buffers on its way to the disk, whatever its length.

pub mod audit;
mod digest;
#[cfg(fuzzing)]
pub mod fuzzing;
mod receive;
mod tokens;
mod uploads;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming as Content;
use serde::Serialize;

use self::digest::{Digests, Hasher};
use self::receive::{Ending, Sink, off_reactor, receive};
pub use self::tokens::{Tokens, TokensError};
pub use self::uploads::ALLOW as UPLOADS_ALLOW;
pub use self::verdict::Unfit;
use self::verdict::{Claim, SNIFFED, verdict};
use crate::recording::{EntityTag, IdError, MediaPath, MediaType, RecordingId, UnixTime};
use crate::respond::{self, Answer, no_content, options};
use crate::route::Ingest as Route;
use crate::select::{if_match_names, if_none_match_names};
use crate::sign::check_path;
use crate::store::{
    ChangeError, Done, Erased, Incoming, Present, Record, Replace, Store, StoreError,
};

/// The methods of a recording.
pub const ALLOW: &str = "PUT, GET, HEAD, DELETE, OPTIONS";

/// What may be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Largest recording, in bytes.
    pub max_size: u64,
    /// Longest wait for more of a body.
    pub stall_timeout: Duration,
    /// How long an upload in parts is kept when no part comes.
    pub upload_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_size: 2 << 30,
            stall_timeout: Duration::from_secs(30),
            upload_ttl: Duration::from_hours(24),
        }
    }
}

/// The way in.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    tokens: ArcSwap<Tokens>,
    settings: Settings,
}

/// Why nothing was taken in or erased.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No token, or one that is not known.
    #[error("no token that is known")]
    Token,
    /// A method that a recording does not have; these are those it has.
    #[error("the method is none of {0}")]
    Method(&'static str),
    /// A path that names no recording.
    #[error(transparent)]
    Id(#[from] IdError),
    /// An id that no URL could be signed for.
    #[error("an id that no URL can be signed for")]
    LongId,
    /// A field that says nothing that could be followed.
    #[error("{0}")]
    Field(&'static str),
    /// A type that is not served.
    #[error("a type that is not served")]
    Type,
    /// The body is not what its digest says.
    #[error("the body is not what {0} says")]
    Digest(&'static str),
    /// The body is not the sound it claims to be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// What the client expects is not so.
    #[error("a precondition does not hold")]
    Precondition,
    /// Not the version of tus that is spoken here.
    #[error("not tus 1.0.0")]
    Version,
    /// The part does not begin where the upload goes on.
    #[error("the part begins elsewhere")]
    Offset,
    /// The part is not what its checksum says.
    #[error("the part is not what its checksum says")]
    Checksum,
    /// No more of the body came in time.
    #[error("the body stalled")]
    Stalled,
    /// The body ended before its end.
    #[error("the body was cut off")]
    Cut,
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] ChangeError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// A request as the way in sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked.
    pub method: &'a Method,
    /// With these fields.
    pub fields: &'a HeaderMap,
    /// When.
    pub now: UnixTime,
}

/// A recording as its owner is told of it.
#[derive(Serialize)]
struct Told<'a> {
    path: String,
    etag: &'a str,
    record: &'a Record,
}

impl Ingest {
    /// Recordings for `store`, from those who hold one of `tokens`.
    #[must_use]
    pub fn new(store: Store, tokens: Tokens, settings: Settings) -> Self {
        Self {
            store,
            tokens: ArcSwap::from_pointee(tokens),
            settings,
        }
    }

    /// Puts other tokens into place; requests under way keep the one they began with.
    pub fn replace_tokens(&self, tokens: Tokens) {
        self.tokens.store(Arc::new(tokens));
    }

    /// Answers a request for a recording and its record, or for an upload.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn answer(
        &self,
        route: Route,
        request: Request<'_>,
        content: &mut Content,
    ) -> Result<Answer, Refused> {
        let holder = self.holder(request.fields)?;
        let id = match route {
            Route::Recording(id) => id?,
            Route::Uploads(id) => return self.begin_upload(id?, request).await,
            Route::Upload(name) => return self.upload(name, request, content).await,
        };
        match *request.method {
            Method::PUT => self.put(&id, request, content).await,
            Method::GET | Method::HEAD => self.tell(&id).await,
            Method::DELETE => self.erase(&id, &holder, request.now).await,
            Method::OPTIONS => Ok(options(ALLOW)),
            _ => Err(Refused::Method(ALLOW)),
        }
    }

    fn holder(&self, fields: &HeaderMap) -> Result<String, Refused> {
        let tokens = self.tokens.load();
        tokens
            .holder(fields)
            .map(str::to_owned)
            .ok_or(Refused::Token)
    }

    /// Everything that can be known before the body is asked before it is read: a client that waits
    /// for a 100 sends nothing in vain.
    async fn put(
        &self,
        id: &RecordingId,
        request: Request<'_>,
        content: &mut Content,
    ) -> Result<Answer, Refused> {
        let claim = Claim::of(request.fields)?;
        let digests = Digests::of(request.fields)?;
        let length = content.size_hint().exact();
        self.check_size(length.unwrap_or_default())?;
        let conditions = self.conditions(id, request.fields, length).await?;
        let (store, max) = (self.store.clone(), self.settings.max_size);
        let incoming = off_reactor(move || {
            if let Some(length) = length {
                store.room_for(length)?;
            }
            store.begin(max)
        })
        .await??;
        let whole = Whole {
            incoming,
            also: digests.hasher(),
            claim,
        };
        let (whole, ending) = receive(content, whole, self.settings.stall_timeout).await?;
        match ending {
            Ending::Whole => {}
            Ending::Cut => return Err(Refused::Cut),
            Ending::Stalled => return Err(Refused::Stalled),
        }
        let id = id.clone();
        off_reactor(move || finish(whole, id, &digests, &conditions)).await?
    }

    fn check_size(&self, length: u64) -> Result<(), Refused> {
        if length > self.settings.max_size {
            return Err(ChangeError::TooLarge(self.settings.max_size).into());
        }
        Ok(())
    }

    /// What may be replaced, as far as it can be told before the bytes are there.
    async fn conditions(
        &self,
        id: &RecordingId,
        fields: &HeaderMap,
        length: Option<u64>,
    ) -> Result<Conditions, Refused> {
        // The longest ending it may get.
        let path = MediaPath {
            recording: id.clone(),
            media: MediaType::Flac,
        };
        check_path(&path.url_path()).map_err(|_| Refused::LongId)?;
        let (there, _) = self.present(id).await?;
        if fields.contains_key(header::IF_MATCH) {
            let named = there.iter().find(|at| if_match_names(fields, &at.etag));
            let named = named.ok_or(Refused::Precondition)?;
            return Ok(Conditions {
                replace: Replace::Version(named.etag.clone()),
                create_only: false,
            });
        }
        let create_only = fields.contains_key(header::IF_NONE_MATCH);
        if there.iter().any(|at| if_none_match_names(fields, &at.etag)) {
            return Err(Refused::Precondition);
        }
        // Of another length, it has other bytes.
        if let Some(length) = length
            && !there.is_empty()
            && there.iter().all(|at| at.length != length)
        {
            return Err(ChangeError::Taken.into());
        }
        Ok(Conditions {
            replace: Replace::Never,
            create_only,
        })
    }

    /// Every file of this id, and its record; neither where nothing is known of it.
    async fn present(&self, id: &RecordingId) -> Result<(Vec<Present>, Record), Refused> {
        let (store, id) = (self.store.clone(), id.clone());
        match off_reactor(move || store.present(&id)).await? {
            Err(ChangeError::Store(StoreError::NotFound(_))) => Ok(Default::default()),
            Ok((_, record)) if record.erased_at.is_some() => Err(StoreError::Erased.into()),
            present => Ok(present?),
        }
    }

    async fn tell(&self, id: &RecordingId) -> Result<Answer, Refused> {
        let (there, record) = self.present(id).await?;
        let at = there.first().ok_or(StoreError::NotFound("no recording"))?;
        Ok(told(StatusCode::OK, &at.path, &at.etag, &record))
    }

    async fn erase(
        &self,
        id: &RecordingId,
        holder: &str,
        now: UnixTime,
    ) -> Result<Answer, Refused> {
        let (store, id, holder) = (self.store.clone(), id.clone(), holder.to_owned());
        let audit = move |file: &Erased| audit::erased(file, &holder, "asked for");
        off_reactor(move || store.erase(&id, None, &now.rfc3339(), audit)).await??;
        Ok(no_content())
    }
}

/// What a put may do.
struct Conditions {
    replace: Replace,
    /// Where it is there already, that is a failure.
    create_only: bool,
}

/// A body of PUT on its way.
struct Whole {
    incoming: Incoming,
    also: Option<Hasher>,
    claim: Claim,
}

impl Sink for Whole {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        // What is no sound is not taken to its end.
        if self.incoming.length() == 0 && bytes.len() >= SNIFFED {
            self.claim.check(bytes)?;
        }
        self.incoming.write(bytes)?;
        if let Some(hasher) = &mut self.also {
            hasher.update(bytes);
        }
        Ok(())
    }
}

/// Looks at what has come, and gives it its place.
fn finish(
    whole: Whole,
    recording: RecordingId,
    digests: &Digests,
    conditions: &Conditions,
) -> Result<Answer, Refused> {
    let Whole {
        incoming,
        also,
        claim,
    } = whole;
    digests.check(&incoming.sha256(), also)?;
    let (media, audio) = verdict(incoming.file(), claim)?;
    let path = MediaPath { recording, media };
    let put = incoming.put(&path, &conditions.replace, audio)?;
    let status = match put.done {
        // RFC 9110 §13.1.2: to create and nothing else.
        Done::Same if conditions.create_only => return Err(Refused::Precondition),
        Done::Created => StatusCode::CREATED,
        Done::Same | Done::Replaced => StatusCode::OK,
    };
    Ok(told(status, &path, &put.etag, &put.record))
}

fn told(status: StatusCode, path: &MediaPath, etag: &EntityTag, record: &Record) -> Answer {
    let told = Told {
        path: path.url_path(),
        etag: etag.as_str(),
        record,
    };
    // Texts, numbers and what was read as JSON always serialise.
    let body = serde_json::to_vec(&told).unwrap_or_default();
    let location = (status == StatusCode::CREATED).then(|| Route::path(&path.recording));
    respond::told(status, etag, location, body)
}
