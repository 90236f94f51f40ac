//! Recordings that come in parts: tus 1.0.0 with creation, termination, checksum and expiration, so
//! that an upload that was cut off goes on where it was.
//!
//! When the last part has come, the whole is judged and put as a body of PUT is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming as Content;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha256};

use super::digest::Hasher;
use super::receive::{Ending, Sink, off_reactor, receive};
use super::verdict::{Claim, verdict};
use super::{Ingest, Refused, Request};
use crate::recording::{MediaPath, RecordingId};
use crate::respond::{Answer, http_date, uploading};
use crate::route::Ingest as Route;
use crate::store::{ChangeError, Replace, StoreError, Upload};

/// The methods of an upload, and of the place where one begins.
pub const ALLOW: &str = "POST, HEAD, PATCH, DELETE, OPTIONS";

const VERSION: &str = "1.0.0";
const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

/// The fields of an answer that are its own.
type Fields = Vec<(HeaderName, String)>;

impl Ingest {
    /// Answers where uploads begin: with the beginning of one of this recording.
    pub(super) async fn begin_upload(
        &self,
        id: RecordingId,
        request: Request<'_>,
    ) -> Result<Answer, Refused> {
        match *request.method {
            Method::OPTIONS => return Ok(self.tus()),
            Method::POST => check_version(request.fields)?,
            _ => return Err(Refused::Method(ALLOW)),
        }
        let length = number(request.fields, &LENGTH)
            .ok_or(Refused::Field("An upload says its Upload-Length."))?;
        let claim = claim(request.fields)?;
        self.check_size(length)?;
        let conditions = self.conditions(&id, request.fields, Some(length)).await?;
        if conditions.replace != Replace::Never {
            let sentence = "An upload in parts replaces nothing; put the recording whole.";
            return Err(Refused::Field(sentence));
        }
        let store = self.store.clone();
        let begun = off_reactor(move || {
            store.room_for(length)?;
            store.begin_upload(id, length, claim.0)
        });
        let upload = begun.await??;
        let mut fields = self.fields(&upload);
        fields.push((header::LOCATION, Route::upload_path(upload.name())));
        Ok(uploading(StatusCode::CREATED, &fields))
    }

    /// Answers for an upload that was begun.
    pub(super) async fn upload(
        &self,
        name: String,
        request: Request<'_>,
        content: &mut Content,
    ) -> Result<Answer, Refused> {
        match *request.method {
            Method::OPTIONS => return Ok(self.tus()),
            Method::HEAD | Method::PATCH | Method::DELETE => check_version(request.fields)?,
            _ => return Err(Refused::Method(ALLOW)),
        }
        let store = self.store.clone();
        let upload = off_reactor(move || store.resume_upload(&name)).await??;
        match *request.method {
            Method::HEAD => {
                // It may have come whole to one who was killed before giving it its place.
                let upload = off_reactor(move || finish(upload)).await??;
                Ok(uploading(StatusCode::OK, &self.fields(&upload)))
            }
            Method::DELETE => {
                off_reactor(move || upload.give_up()).await??;
                Ok(uploading(StatusCode::NO_CONTENT, &[]))
            }
            _ => self.part(upload, request.fields, content).await,
        }
    }

    /// Takes the next part.
    async fn part(
        &self,
        upload: Upload,
        fields: &HeaderMap,
        content: &mut Content,
    ) -> Result<Answer, Refused> {
        let is = |value: &http::HeaderValue| *value == "application/offset+octet-stream";
        if !fields.get(header::CONTENT_TYPE).is_some_and(is) {
            return Err(Refused::Type);
        }
        if number(fields, &OFFSET) != Some(upload.offset()) {
            return Err(Refused::Offset);
        }
        let left = upload.length() - upload.offset();
        if content.size_hint().lower() > left {
            return Err(ChangeError::TooLarge(upload.length()).into());
        }
        let (hasher, checksum) = checksum(fields)?.unzip();
        let part = off_reactor(move || Part::begin(upload, hasher)).await??;
        let (part, ending) = receive(content, part, self.settings.stall_timeout).await?;
        let upload = off_reactor(move || part.end(checksum.as_deref(), ending)).await??;
        match ending {
            Ending::Whole => {}
            Ending::Cut => return Err(Refused::Cut),
            Ending::Stalled => return Err(Refused::Stalled),
        }
        let upload = off_reactor(move || finish(upload)).await??;
        Ok(uploading(StatusCode::NO_CONTENT, &self.fields(&upload)))
    }

    fn fields(&self, upload: &Upload) -> Fields {
        let mut fields = vec![
            (LENGTH, upload.length().to_string()),
            (OFFSET, upload.offset().to_string()),
        ];
        if let Some(modified) = upload.modified() {
            let end = modified.plus(self.settings.upload_ttl.as_secs());
            fields.push((EXPIRES, http_date(end)));
        }
        fields
    }

    /// What is spoken here.
    fn tus(&self) -> Answer {
        let extensions = "creation,termination,checksum,expiration";
        let fields = [
            (header::ALLOW, ALLOW.to_owned()),
            (HeaderName::from_static("tus-version"), VERSION.to_owned()),
            (
                HeaderName::from_static("tus-extension"),
                extensions.to_owned(),
            ),
            (
                HeaderName::from_static("tus-max-size"),
                self.settings.max_size.to_string(),
            ),
            (
                HeaderName::from_static("tus-checksum-algorithm"),
                "sha1,sha256".to_owned(),
            ),
        ];
        uploading(StatusCode::NO_CONTENT, &fields)
    }
}

/// Where a part goes.
struct Part {
    upload: Upload,
    hasher: Option<Hasher>,
}

impl Part {
    fn begin(mut upload: Upload, hasher: Option<Hasher>) -> Result<Self, Refused> {
        if hasher.is_some() {
            upload.mark()?;
        }
        Ok(Self { upload, hasher })
    }

    /// What came counts, unless it was to be checked and does not hold.
    fn end(mut self, checksum: Option<&[u8]>, ending: Ending) -> Result<Upload, Refused> {
        let came = self.hasher.map(DynDigest::finalize);
        let holds = match (&came, checksum) {
            (Some(came), Some(said)) => ending == Ending::Whole && **came == *said,
            _ => true,
        };
        self.upload.end_part(holds)?;
        if !holds && ending == Ending::Whole {
            return Err(Refused::Checksum);
        }
        Ok(self.upload)
    }
}

impl Sink for Part {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.upload.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }
}

/// Gives an upload its place if it is whole. What can never be put is given up.
fn finish(mut upload: Upload) -> Result<Upload, Refused> {
    let Some(bytes) = upload.whole()? else {
        return Ok(upload);
    };
    let put = verdict(&bytes, Claim(upload.media())).and_then(|(media, audio)| {
        let path = MediaPath {
            recording: upload.recording().clone(),
            media,
        };
        Ok(upload.put(&bytes, &path, audio)?)
    });
    match put {
        Ok(_) => Ok(upload),
        Err(refused) => {
            if is_final(&refused) {
                upload.give_up()?;
            }
            Err(refused)
        }
    }
}

fn is_final(refused: &Refused) -> bool {
    matches!(
        refused,
        Refused::Unfit(_)
            | Refused::Store(
                ChangeError::Taken | ChangeError::Held | ChangeError::Store(StoreError::Erased)
            )
    )
}

fn check_version(fields: &HeaderMap) -> Result<(), Refused> {
    match fields.get(RESUMABLE) {
        Some(value) if value == VERSION => Ok(()),
        _ => Err(Refused::Version),
    }
}

fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = fields.get(name)?.to_str().ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// What `filetype` says in Upload-Metadata: pairs of a key and base64, by commas.
pub(super) fn claim(fields: &HeaderMap) -> Result<Claim, Refused> {
    let malformed = Refused::Field("Upload-Metadata is pairs of a key and base64, by commas.");
    let Some(value) = fields.get(METADATA) else {
        return Ok(Claim(None));
    };
    let Ok(text) = value.to_str() else {
        return Err(malformed);
    };
    let mut pairs = text.split(',').map(|pair| pair.trim().split_once(' '));
    let Some((_, kind)) = pairs.find_map(|pair| pair.filter(|(key, _)| *key == "filetype")) else {
        return Ok(Claim(None));
    };
    let kind = BASE64.decode(kind.trim()).ok();
    match kind.and_then(|kind| String::from_utf8(kind).ok()) {
        Some(kind) => Claim::of_type(&kind),
        None => Err(malformed),
    }
}

/// The hash that Upload-Checksum wants taken, and what it should be.
pub(super) fn checksum(fields: &HeaderMap) -> Result<Option<(Hasher, Vec<u8>)>, Refused> {
    let Some(value) = fields.get(CHECKSUM) else {
        return Ok(None);
    };
    let malformed = Refused::Field("Upload-Checksum is sha1 or sha256, a blank, and base64.");
    let said = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((algorithm, said)) = said else {
        return Err(malformed);
    };
    let hasher: Hasher = match algorithm {
        "sha1" => Box::new(Sha1::new()),
        "sha256" => Box::new(Sha256::new()),
        _ => return Err(malformed),
    };
    match BASE64.decode(said) {
        Ok(said) => Ok(Some((hasher, said))),
        Err(_) => Err(malformed),
    }
}
