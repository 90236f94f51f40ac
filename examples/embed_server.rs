//! A hyper server of one's own that sends files without copying them: one file, every request.
//!
//! `cargo run --release --example embed_server -- FILE [ADDRESS]`, then `curl -r 0-99 ADDRESS`.
//! What it takes is marked 1 to 4; docs/zero-copy.md explains why.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tonearm::body::{FileBody, Lane};
use tonearm::recording::{EntityTag, MediaType, Representation};
use tonearm::respond::{Described, Keeper, Terms, respond};
use tonearm::select::select;
use tonearm::server::{ZeroCopyStream, now};

/// Answers with the file, or the part of it that was asked for.
pub(crate) fn answer(
    path: &Path,
    request: &Request<Incoming>,
    lane: Option<Lane>,
) -> io::Result<Response<FileBody>> {
    let file = File::open(path)?;
    let described = Described::from(Representation {
        length: file.metadata()?.len(),
        // A server that changes its files wants a validator that follows them.
        etag: EntityTag::from_file(file.metadata()?.len(), 0),
        last_modified: None,
        media: MediaType::Wav,
        file_name: "recording.wav".to_owned(),
        sha256: None,
    });
    let selection = select(
        request.method(),
        request.headers(),
        described.representation(),
        now(),
    );
    let terms = Terms {
        disposition: None,
        keeper: Keeper::Viewer(600),
        now: now(),
    };
    let mut answer = respond(&selection, &described, terms);
    if request.method() == Method::HEAD {
        answer = answer.without_payload();
    }
    // 3. A body of the pieces that were selected, on the lane of its connection.
    let body = FileBody::of_file(file, answer.payload)?.on_lane(lane);
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.fields;
    Ok(response)
}

/// A file that cannot be opened is an empty 500; a server of its own would say more.
fn failed() -> Response<FileBody> {
    let mut response = Response::new(FileBody::new(Vec::new(), None));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

/// Serves whoever connects, for as long as it is asked to.
pub(crate) async fn serve(listener: TcpListener, path: PathBuf) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream, path.clone()))),
            // One who has gone again, or no descriptor to be had: the next may do better, and a
            // while later, since what is out of descriptors now is so a moment later.
            Err(error) => {
                eprintln!("{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, path: PathBuf) {
    if let Err(error) = stream.set_nodelay(true) {
        return eprintln!("{error}");
    }
    // 1. The writer around the socket, and its lane for the bodies of this connection.
    let stream = ZeroCopyStream::new(stream);
    let lane = stream.lane();
    let service = service_fn(move |request| {
        let response = answer(&path, &request, lane.clone()).unwrap_or_else(|error| {
            eprintln!("{error}");
            failed()
        });
        async move { Ok::<_, Infallible>(response) }
    });
    // 2. HTTP/1.1 that may write vectored: what hyper flattens is read and copied.
    let served = http1::Builder::new()
        .writev(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // 4. A connection that fails was cut: bytes that were promised could not be had.
    if let Err(error) = served {
        eprintln!("{error}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || io::Error::other("usage: embed_server FILE [ADDRESS]");
    let path = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, path).await;
    Ok(())
}
