//! `tonearm url`: a signed URL for one recording, alone on its line.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use tokio::runtime::Runtime;

use super::storage::{not_had, open_store};
use super::{Failure, Outcome, load_keyring, now, print, reachable};
use crate::app::{BaseUrl, BaseUrlError};
use crate::config::{Config, Delivery, Flags, Storage, Values, duration};
use crate::recording::{Id, RecordingId, UnixTime};
use crate::sign::{Claims, Disposition, MintError, TokenId, mint};
use crate::store::{Found, Store, UrlTerms};

/// Flags of `tonearm url`.
#[derive(Debug, Args)]
pub(super) struct Url {
    /// The recording's externalId
    #[arg(value_name = "ID")]
    external: Id,
    /// The app's id
    #[arg(long, value_name = "ID")]
    app: Id,
    /// The external account id
    #[arg(long, value_name = "ID")]
    account: Id,
    /// Life of the URL, taken exactly, such as 10m [default: what the resolver would give]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Play in place under the real media type, rather than download
    #[arg(long, conflicts_with = "filename")]
    inline: bool,
    /// Name under which the download is saved
    #[arg(long, value_name = "NAME")]
    filename: Option<String>,
    /// Bind the URL to the host of its base
    #[arg(long)]
    bind_host: bool,
    /// Give the URL an id of its own, by which `tonearm keys revoke --url-id` can end it
    #[arg(long)]
    revocable: bool,
    /// First second at which the URL holds, as Unix time
    #[arg(long, value_name = "UNIX")]
    not_before: Option<u64>,
    /// Directory of recordings, or s3://, gs:// or az:// with bucket and prefix [default: storage]
    #[arg(long, value_name = "DIR-OR-URL")]
    storage: Option<String>,
    /// What the URL begins with [default: public_base_url, else the public listener]; the URL is
    /// then native, whatever url.format and object.delivery say
    #[arg(long, value_name = "URL")]
    base: Option<BaseUrl>,
    #[command(flatten)]
    keyring: super::KeyringFlag,
}

impl Url {
    pub(super) fn flags(&self) -> Flags {
        vec![
            ("storage", self.storage.clone()),
            ("keyring", self.keyring.keyring.clone()),
        ]
    }

    pub(super) fn run(&self, values: &Values) -> Outcome {
        let config = values.config()?;
        let (found, store, runtime) = self.find(&config)?;
        let ring = load_keyring(&config)?;
        let now = now();
        let claims = self.claims(&config, &found, now)?;
        let path = found.path.url_path();
        if let (Delivery::Presign(_), Storage::Bucket(_), None) =
            (&config.delivery, &config.storage, &self.base)
        {
            let presigned = self.presigned(&found, &claims, now, &store);
            print(&runtime.block_on(presigned)?);
            return Ok(0);
        }
        // A base that was typed is a server of our own.
        if let (Some(cdn), None) = (&config.cdn, &self.base) {
            let url = cdn.signer(&config.policy)?.url(&path, &claims, now);
            print(&url.map_err(|error| Failure::new(Failure::USAGE, error))?);
            return Ok(0);
        }
        let base = self.base(&config)?;
        let minted = mint(&path, &claims, base.authority(), &ring, &config.policy, now).map_err(
            |error| match error {
                MintError::NoKey => Failure::new(Failure::CONFIGURATION, error),
                error => Failure::new(Failure::USAGE, error),
            },
        )?;
        print(&format!("{base}{}", minted.target));
        Ok(0)
    }

    /// The bucket's own URL, which can say less than one of ours.
    async fn presigned(
        &self,
        found: &Found,
        claims: &Claims,
        now: UnixTime,
        store: &Store,
    ) -> Result<String, Failure> {
        for (asked, flag) in [
            (self.bind_host, "--bind-host"),
            (self.revocable, "--revocable"),
            (self.not_before.is_some(), "--not-before"),
        ] {
            if asked {
                let problem = anyhow!("{flag}: a presigned URL cannot say that");
                return Err(Failure::new(Failure::USAGE, problem));
            }
        }
        let life = Duration::from_secs(now.until(claims.exp));
        let disposition = claims.disposition.as_ref();
        let terms = UrlTerms {
            disposition,
            life,
            now,
        };
        let presigned = store.presigned(&found.path, terms).await;
        match presigned.map_err(|error| Failure::new(Failure::IO, error))? {
            Some(presigned) if presigned.life < life && self.ttl.is_some() => {
                let longest = presigned.life.as_secs();
                let problem = anyhow!("--ttl: this URL can live for {longest} s at most");
                Err(Failure::new(Failure::USAGE, problem))
            }
            Some(presigned) => Ok(presigned.url),
            None => Err(Failure::new(
                Failure::CONFIGURATION,
                anyhow!("the bucket gives no URLs"),
            )),
        }
    }

    fn find(&self, config: &Config) -> Result<(Found, Store, Runtime), Failure> {
        let store = open_store(config)?;
        let id = RecordingId {
            app: self.app.clone(),
            account: self.account.clone(),
            external: self.external.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Failure::IO, error))?;
        let found = runtime.block_on(store.find(&id));
        let found = found.map_err(|error| not_had(&id, &config.storage, error.into()))?;
        Ok((found, store, runtime))
    }

    fn claims(&self, config: &Config, found: &Found, now: UnixTime) -> Result<Claims, Failure> {
        let usage = |problem: String| Failure::new(Failure::USAGE, anyhow!(problem));
        let exp = match &self.ttl {
            Some(text) => {
                let ttl = duration(text).map_err(|problem| usage(format!("--ttl: {problem}")))?;
                if ttl.as_secs() == 0 {
                    return Err(usage(format!("--ttl: {text} is less than 1s")));
                }
                if ttl.as_secs() > config.policy.max_ttl {
                    return Err(usage(format!(
                        "--ttl: {text} is more than url.max_ttl, {} s",
                        config.policy.max_ttl
                    )));
                }
                now.plus(ttl.as_secs())
            }
            None => config.policy.expiry(now, config.policy.ttl(found.duration)),
        };
        Ok(Claims {
            disposition: self.disposition(),
            generation: (found.generation > 0).then_some(found.generation),
            host_bound: self.bind_host,
            token_id: self.revocable.then(random_id).transpose()?,
            not_before: self.not_before.map(UnixTime),
            ..Claims::until(exp)
        })
    }

    fn base(&self, config: &Config) -> Result<BaseUrl, Failure> {
        let known = self.base.as_ref();
        match known.or(config.resolver.public_base_url.as_ref()) {
            Some(base) => Ok(base.clone()),
            None => {
                let scheme = config.scheme();
                format!("{scheme}://{}", reachable(config.listen))
                    .parse()
                    .map_err(|error: BaseUrlError| Failure::new(Failure::CONFIGURATION, error))
            }
        }
    }

    fn disposition(&self) -> Option<Disposition> {
        if self.inline {
            return Some(Disposition::Inline);
        }
        let name = self.filename.clone()?;
        Some(Disposition::Attachment(Some(name)))
    }
}

fn random_id() -> Result<TokenId, Failure> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(Failure::IO, error))?;
    Ok(TokenId(bytes))
}
