//! The part of the S3 in this process that is written to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use super::{Asked, FaultyS3, Inside, generation, plain};

/// What goes wrong with a change.
#[derive(Debug, Clone, Copy)]
pub enum Spoilt {
    /// This status, and nothing is changed.
    Status(u16),
    /// The connection ends, and nothing is changed.
    Lost,
    /// It is changed, and the connection ends.
    Unanswered,
    /// Nothing is answered, and nothing changed.
    Silent,
    /// It is changed, whatever its condition says.
    Unconditional,
}

impl FaultyS3 {
    /// What goes wrong with the next change whose line holds these words. The line is the method, the
    /// key, and of an upload in parts `begin`, `part`, `complete` or `abort`.
    pub fn spoil(&self, line: &str, spoilt: Spoilt) {
        let mut inside = self.inside.lock().unwrap();
        inside.spoilt.push((line.to_owned(), spoilt));
    }

    /// After so many changes more, nothing is answered any more: as it looks to what is left of a
    /// process that was killed.
    pub fn dies_after(&self, changes: usize) {
        self.inside.lock().unwrap().lives = Some(changes);
    }

    /// Whether it died, which is undone, and so is all that was to go wrong.
    pub fn revive(&self) -> bool {
        let mut inside = self.inside.lock().unwrap();
        inside.spoilt.clear();
        inside.lives.take() == Some(0)
    }

    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let inside = self.inside.lock().unwrap();
        inside.objects.get(key).map(|kept| kept.bytes.clone())
    }

    /// Turns the last byte of what lies there; neither tag nor date tell.
    pub fn rot(&self, key: &str) {
        let mut inside = self.inside.lock().unwrap();
        let kept = inside.objects.get_mut(key).unwrap();
        *kept.bytes.last_mut().unwrap() ^= 1;
    }

    pub fn keys(&self) -> Vec<String> {
        self.inside
            .lock()
            .unwrap()
            .objects
            .keys()
            .cloned()
            .collect()
    }

    pub fn forget(&self, key: &str) {
        self.inside.lock().unwrap().objects.remove(key);
    }

    /// Uploads in parts that nobody ended.
    pub fn uploads(&self) -> usize {
        self.inside.lock().unwrap().uploads.len()
    }

    /// Its clock goes on.
    pub fn pass(&self, time: Duration) {
        self.inside.lock().unwrap().now += time;
    }
}

/// Makes a change and answers it; whether the connection goes on.
pub(super) fn change(
    stream: &TcpStream,
    asked: &Asked,
    body: &[u8],
    inside: &Mutex<Inside>,
) -> std::io::Result<bool> {
    let line = line(asked, body);
    let answer = {
        let mut inside = inside.lock().unwrap();
        inside.asked.push(line.clone());
        let at = inside
            .spoilt
            .iter()
            .position(|(part, _)| line.contains(part));
        let spoilt = at.map(|at| inside.spoilt.remove(at).1);
        match &mut inside.lives {
            Some(0) => return Ok(false),
            Some(lives) => *lives -= 1,
            None => {}
        }
        match spoilt {
            Some(Spoilt::Status(status)) => (format!("{status} As Told"), String::new()),
            Some(Spoilt::Lost) => return Ok(false),
            Some(Spoilt::Unanswered) => {
                made(asked, body, &mut inside, false);
                return Ok(false);
            }
            Some(Spoilt::Silent) => {
                drop(inside);
                // Until the client gives up.
                let _ = std::io::Read::read(&mut &*stream, &mut [0]);
                return Ok(false);
            }
            Some(Spoilt::Unconditional) => made(asked, body, &mut inside, true),
            None => made(asked, body, &mut inside, false),
        }
    };
    plain(stream, &answer.0, &answer.1)?;
    Ok(true)
}

/// The one key of a request that could delete many.
fn deleted<'a>(asked: &Asked, body: &'a [u8]) -> Option<&'a str> {
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|_| asked.query == "delete")?;
    Some(text.split_once("<Key>")?.1.split_once("</Key>")?.0)
}

fn line(asked: &Asked, body: &[u8]) -> String {
    if let Some(key) = deleted(asked, body) {
        return format!("DELETE {key}");
    }
    let step = match &*asked.method {
        "POST" if asked.query.contains("uploads") => " begin",
        "POST" if asked.query.contains("uploadId") => " complete",
        "PUT" if asked.copy_source.is_some() => " copy",
        "PUT" if asked.query.contains("uploadId") => " part",
        "DELETE" if asked.query.contains("uploadId") => " abort",
        _ => "",
    };
    format!("{} {}{step}", asked.method, asked.key)
}

fn parameter<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let mut pairs = asked
        .query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value)
}

/// Status and content of the answer, with its ETag as a field behind the status.
fn made(asked: &Asked, body: &[u8], inside: &mut Inside, whatever: bool) -> (String, String) {
    let key = &asked.key;
    let there = inside.objects.get(key).map(|kept| kept.etag.clone());
    let upload = parameter(asked, "uploadId").to_owned();
    // Of nothing, Google says that it is of generation 0.
    let is = there.as_deref().map_or("0", generation);
    let fails = !whatever
        && match (&asked.if_match, &asked.if_none_match, &asked.if_generation) {
            (Some(tag), ..) => there.as_ref() != Some(tag),
            (_, Some(_), _) => there.is_some(),
            (_, _, Some(wanted)) => is != wanted,
            _ => false,
        };
    let ok = |etag: &str| {
        let generation = generation(etag);
        format!("200 OK\r\nETag: {etag}\r\nx-goog-generation: {generation}")
    };
    let source = asked.copy_source.as_ref().map(|source| {
        let source = source.trim_start_matches('/').trim_start_matches("bucket/");
        inside.objects[source].bytes.clone()
    });
    match &*asked.method {
        _ if fails => ("412 Precondition Failed".to_owned(), String::new()),
        "PUT" if !upload.is_empty() => {
            let number = parameter(asked, "partNumber").parse().unwrap();
            let copied = source.is_some();
            let bytes = source.unwrap_or_else(|| body.to_vec());
            let Some(parts) = inside.uploads.get_mut(&upload) else {
                return ("404 Not Found".to_owned(), String::new());
            };
            parts.insert(number, bytes);
            let xml = format!("<CopyPartResult><ETag>\"p{number}\"</ETag></CopyPartResult>");
            (
                ok(&format!("\"p{number}\"")),
                if copied { xml } else { String::new() },
            )
        }
        "PUT" => {
            let bytes = source.unwrap_or_else(|| body.to_vec());
            let etag = inside.keep(key, &bytes);
            (ok(&etag), String::new())
        }
        "POST" if asked.query == "delete" => {
            let key = deleted(asked, body).unwrap();
            inside.objects.remove(key);
            let xml = format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>");
            ("200 OK".to_owned(), xml)
        }
        "POST" if upload.is_empty() => {
            inside.versions += 1;
            let id = format!("u{}", inside.versions);
            inside.uploads.insert(id.clone(), BTreeMap::default());
            let xml = format!(
                "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            ("200 OK".to_owned(), xml)
        }
        "POST" => {
            let Some(parts) = inside.uploads.remove(&upload) else {
                return ("404 Not Found".to_owned(), String::new());
            };
            let bytes: Vec<u8> = parts.into_values().flatten().collect();
            let etag = inside.keep(key, &bytes);
            let xml = format!(
                "<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            );
            (ok(&etag), xml)
        }
        "DELETE" if !upload.is_empty() => {
            inside.uploads.remove(&upload);
            ("204 No Content".to_owned(), String::new())
        }
        "DELETE" => match inside.objects.remove(key) {
            Some(_) => ("204 No Content".to_owned(), String::new()),
            None => ("404 Not Found".to_owned(), String::new()),
        },
        other => panic!("{other} {key}"),
    }
}

pub(super) fn listing(asked: &Asked, inside: &Mutex<Inside>) -> String {
    let inside = inside.lock().unwrap();
    let prefix = parameter(asked, "prefix")
        .replace("%2F", "/")
        .replace("%2B", "+");
    let mut xml = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>".to_owned();
    // What has a delimiter asks whether there is an answer at all.
    let whole = !asked.query.contains("delimiter");
    for (key, kept) in inside
        .objects
        .iter()
        .filter(|(key, _)| whole && key.starts_with(&prefix))
    {
        let modified = jiff::Timestamp::try_from(kept.modified).unwrap();
        let (etag, size) = (&kept.etag, kept.bytes.len());
        write!(xml, "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents>").unwrap();
    }
    xml + "</ListBucketResult>"
}
