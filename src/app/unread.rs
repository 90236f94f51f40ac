//! What becomes of a content that nobody asked for.

use std::time::Duration;

use http::request::Parts;
use hyper::body::Incoming;

/// Most bytes of a request's content that are read in order to keep its connection.
const DISCARDED_CONTENT: usize = 64 * 1024;

/// Reads away a small content nobody asked for, so that the connection can be used again; whether
/// it could. What is larger, or waits for a 100, is left to the connection, which then closes.
pub(super) async fn discard(content: Incoming, head: &Parts) -> bool {
    use http_body_util::BodyExt as _;

    if head.headers.contains_key(http::header::EXPECT) {
        return false;
    }
    let limited = http_body_util::Limited::new(content, DISCARDED_CONTENT);
    let wait = Duration::from_secs(1);
    matches!(
        tokio::time::timeout(wait, limited.collect()).await,
        Ok(Ok(_))
    )
}
