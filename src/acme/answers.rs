//! What a directory is answered when it looks whether a name is ours.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use instant_acme::{ChallengeHandle, ChallengeType};
use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::AcmeError;
use crate::app::assemble;
use crate::body::FileBody;
use crate::reject::{ALLOW, Rejection};
use crate::respond::{options, text};
use crate::server::{Arrival, Handler, Tls};
use crate::sign::Refusal;

/// RFC 8555 §8.3.
const PREFIX: &str = "/.well-known/acme-challenge/";
const OCTETS: &str = "application/octet-stream";

/// Where answers are given.
#[derive(Debug, Clone)]
pub(super) enum Answers {
    /// In TLS handshakes of the public listener (RFC 8737).
    Tls(Tls),
    /// On a listener of plain HTTP (RFC 8555 §8.3).
    Http(Arc<Texts>),
}

/// Answers of http-01, by their tokens.
#[derive(Debug, Default)]
pub struct Texts(ArcSwap<HashMap<String, String>>);

impl Answers {
    pub(super) fn kind(&self) -> ChallengeType {
        match self {
            Self::Tls(_) => ChallengeType::TlsAlpn01,
            Self::Http(_) => ChallengeType::Http01,
        }
    }

    /// Gives the answer to this challenge from now on.
    pub(super) fn give(&self, challenge: &ChallengeHandle<'_>) -> Result<(), AcmeError> {
        let authorization = challenge.key_authorization();
        match self {
            Self::Http(texts) => texts.give(&challenge.token, authorization.as_str()),
            Self::Tls(tls) => {
                let name = challenge.identifier().to_string();
                let mut params = CertificateParams::new([name.clone()])?;
                let digest = authorization.digest();
                params.custom_extensions =
                    vec![CustomExtension::new_acme_identifier(digest.as_ref())];
                let key = KeyPair::generate()?;
                let certificate = params.self_signed(&key)?;
                tls.answer(
                    &name,
                    certificate.pem().as_bytes(),
                    key.serialize_pem().as_bytes(),
                )?;
            }
        }
        Ok(())
    }

    /// Gives none any more.
    pub(super) fn forget(&self) {
        match self {
            Self::Http(texts) => texts.0.store(Arc::default()),
            Self::Tls(tls) => tls.forget_answers(),
        }
    }
}

impl Texts {
    fn give(&self, token: &str, text: &str) {
        let mut texts = HashMap::clone(&self.0.load());
        texts.insert(token.to_owned(), text.to_owned());
        self.0.store(Arc::new(texts));
    }

    fn at(&self, path: &str) -> Option<String> {
        self.0.load().get(path.strip_prefix(PREFIX)?).cloned()
    }
}

impl Handler for Texts {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Arrival,
    ) -> impl Future<Output = Response<FileBody>> + Send + Unpin {
        let mut answer = match *request.method() {
            Method::OPTIONS => options(ALLOW),
            Method::GET | Method::HEAD => match self.at(request.uri().path()) {
                Some(found) => text(StatusCode::OK, OCTETS, found),
                None => Rejection::NoRoute.answer(),
            },
            _ => Rejection::Refused(Refusal::Method).answer(),
        };
        if request.method() == Method::HEAD {
            answer = answer.without_payload();
        }
        let body = FileBody::new(std::mem::take(&mut answer.payload), None);
        ready(assemble(answer, body))
    }
}
