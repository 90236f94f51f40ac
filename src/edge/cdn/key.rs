//! A CDN's key: how its file is written, and what it signs.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Format, UrlError};

/// Vendors' consoles show padding, people lose it.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, ANY_PADDING);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, ANY_PADDING);

/// Why a key will not do. No text of these holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM of a private key.
    #[error("it is not the PEM of a private key")]
    Pem,
    /// A private key of another kind.
    #[error("it is neither an RSA key of at least 2048 bits nor an ECDSA key on P-256")]
    Kind,
    /// Not base64.
    #[error("it is not base64")]
    Base64,
    /// Not base64url.
    #[error("it is not base64url")]
    Base64Url,
    /// Not hexadecimal.
    #[error("it is not hexadecimal")]
    Hex,
    /// Not the seed of an Ed25519 key.
    #[error("it is not the 32 bytes of an Ed25519 key")]
    Seed,
    /// Short enough to be guessed.
    #[error("it has {0} bytes; it needs at least {1}")]
    Short(usize, usize),
}

/// What signs.
pub(super) enum Secret {
    Shared(Zeroizing<Vec<u8>>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "Shared",
            Self::Rsa(_) => "Rsa",
            Self::Ecdsa(_) => "Ecdsa",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

impl Secret {
    /// Reads a key as its CDN writes it.
    pub(super) fn read(format: Format, text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let (bytes, least) = match format {
            Format::CloudFront | Format::CloudFrontCustom => return asymmetric(text),
            Format::GoogleMedia => return seed(&base64(&BASE64URL, text, KeyError::Base64Url)?),
            // Of 128 bits, those of Cloud CDN.
            Format::GoogleCdn | Format::GoogleMediaToken => {
                (base64(&BASE64URL, text, KeyError::Base64Url)?, 16)
            }
            Format::Fastly | Format::Azure => (base64(&BASE64, text, KeyError::Base64)?, 16),
            Format::Akamai => (hex(text)?, 14),
            Format::Cloudflare
            | Format::Bunny
            | Format::BunnyV2
            | Format::KeyCdn
            | Format::NginxSecureLink
            | Format::NginxHmac => (Zeroizing::new(text.as_bytes().to_vec()), 16),
        };
        if bytes.len() < least {
            return Err(KeyError::Short(bytes.len(), least));
        }
        Ok(Self::Shared(bytes))
    }

    fn shared(&self) -> Result<&[u8], UrlError> {
        match self {
            Self::Shared(bytes) => Ok(bytes),
            _ => Err(UrlError::Key),
        }
    }

    pub(super) fn hmac_sha256(&self, message: &[u8]) -> Result<Vec<u8>, UrlError> {
        let mac = Hmac::<Sha256>::new_from_slice(self.shared()?).map_err(|_| UrlError::Key)?;
        Ok(mac.chain_update(message).finalize().into_bytes().to_vec())
    }

    pub(super) fn hmac_sha1(&self, message: &[u8]) -> Result<Vec<u8>, UrlError> {
        let mac = Hmac::<Sha1>::new_from_slice(self.shared()?).map_err(|_| UrlError::Key)?;
        Ok(mac.chain_update(message).finalize().into_bytes().to_vec())
    }

    /// SHA-256 of the secret between two texts.
    pub(super) fn sha256(&self, before: &str, after: &str) -> Result<Vec<u8>, UrlError> {
        let hash = Sha256::new_with_prefix(before).chain_update(self.shared()?);
        Ok(hash.chain_update(after).finalize().to_vec())
    }

    /// MD5 of the secret between two texts.
    pub(super) fn md5(&self, before: &str, after: &str) -> Result<Vec<u8>, UrlError> {
        let hash = Md5::new_with_prefix(before).chain_update(self.shared()?);
        Ok(hash.chain_update(after).finalize().to_vec())
    }

    /// The private key's signature, with SHA-256 where the scheme leaves a choice.
    pub(super) fn signature(&self, message: &[u8]) -> Result<Vec<u8>, UrlError> {
        let random = SystemRandom::new();
        match self {
            Self::Shared(_) => Err(UrlError::Key),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| UrlError::Key)?;
                Ok(signature)
            }
            Self::Ecdsa(key) => {
                let signature = key.sign(&random, message).map_err(|_| UrlError::Key)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(key) => {
                let signature = key.try_sign(message).map_err(|_| UrlError::Key)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// The public half, as its scheme encodes it.
    #[cfg(test)]
    pub(super) fn public(&self) -> Vec<u8> {
        use aws_lc_rs::signature::KeyPair as _;

        match self {
            Self::Shared(_) => Vec::new(),
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ecdsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }
}

/// An RSA or an ECDSA key, as openssl and AWS write them.
fn asymmetric(pem: &str) -> Result<Secret, KeyError> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
    let bytes = der.secret_der();
    let rsa = match &der {
        PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(bytes),
        _ => RsaKeyPair::from_pkcs8(bytes),
    };
    if let Ok(key) = rsa {
        return Ok(Secret::Rsa(key));
    }
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes)
        .map(Secret::Ecdsa)
        .map_err(|_| KeyError::Kind)
}

fn seed(bytes: &[u8]) -> Result<Secret, KeyError> {
    if bytes.len() != 32 {
        return Err(KeyError::Seed);
    }
    Ed25519KeyPair::from_seed_unchecked(bytes)
        .map(Secret::Ed25519)
        .map_err(|_| KeyError::Seed)
}

fn base64(
    engine: &GeneralPurpose,
    text: &str,
    error: KeyError,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    engine.decode(text).map(Zeroizing::new).map_err(|_| error)
}

fn hex(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.map(Zeroizing::new).ok_or(KeyError::Hex)
}
