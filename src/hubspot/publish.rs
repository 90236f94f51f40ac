//! A recording's way to a transcribed call: log, associate, ready.
//!
//! The journal says what is next; each step is written down before and after. A call that may have
//! been logged is looked for, as long as HubSpot's index can lag, before another one is logged.
//! Never decides what is in a call or where the journal is kept: both come in.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, ClientError};
use super::journal::{Journal, Next, Step};
use super::names::Record;
use super::wire;
use crate::recording::{RecordingId, UnixTime};

/// How often something is tried that may have happened and shows no sign of it.
const TRIES: u32 = 3;
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The longest that a request may be tried before it is sent for the last time, and is answered.
const SENDING: Duration = Duration::from_mins(5);
const BEFORE_A_LOOK: Duration = Duration::from_secs(2);
/// Searching is limited to 5 requests a second for a whole account.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where the journal is kept.
pub trait Keeper {
    /// Why it cannot be kept.
    type Error;

    /// Brings the journal to the disk.
    ///
    /// # Errors
    /// It could not be: nothing may be sent then.
    fn keep(&mut self, journal: &Journal) -> Result<(), Self::Error>;

    /// The time.
    fn now(&self) -> UnixTime;
}

/// Why a recording is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError<E> {
    /// HubSpot.
    #[error("{step}")]
    HubSpot {
        /// What was tried.
        step: &'static str,
        /// How it ended.
        #[source]
        error: Box<ClientError>,
    },
    /// The journal.
    #[error("the journal could not be kept")]
    Journal(E),
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The call is there, with its associations, which the request that creates it carries.
    Logged,
    /// HubSpot has been told that the recording can be fetched.
    Ready,
}

/// A recording on its way.
pub struct Publication<'a> {
    /// To HubSpot.
    pub client: &'a Client,
    /// Which recording.
    pub recording: &'a RecordingId,
    /// The app's number.
    pub app: u32,
    /// How long HubSpot's index may lag: 5 to 30 s have been seen.
    pub index_wait: Duration,
    /// How far to go.
    pub until: Until,
}

impl Publication<'_> {
    /// Does what is left to do.
    ///
    /// # Errors
    /// [`PublishError`]; the journal says how far it came, and calling this again goes on there.
    pub async fn run<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
    ) -> Result<(), PublishError<K::Error>> {
        let (mut logs, mut readies) = (0, 0);
        loop {
            match journal.next() {
                Next::Log => {
                    logs += 1;
                    self.log(journal, keeper, logs).await?;
                }
                Next::LookForCall(since) => self.look_for_call(journal, keeper, since).await?,
                Next::Associate(call, to) => self.associate(journal, keeper, call, to).await?,
                _ if self.until == Until::Logged => return Ok(()),
                Next::Ready(call) => {
                    readies += 1;
                    self.ready(journal, keeper, call, readies).await?;
                }
                Next::LookWhetherReady(call) => {
                    self.look_whether_ready(journal, keeper, call).await?;
                }
                Next::Nothing => return Ok(()),
            }
        }
    }

    async fn log<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
        tries: u32,
    ) -> Result<(), PublishError<K::Error>> {
        let inline: Vec<Record> = match self.until {
            Until::Logged => journal.open_associations().collect(),
            Until::Ready => Vec::new(),
        };
        journal.log = Step::Begun(keeper.now().0);
        keep(journal, keeper)?;
        let request = self.client.version().log(&journal.properties, &inline);
        let logged = match self.client.send(&request).await {
            // Created, and we are not told what: it will be found.
            Ok(answer) => wire::id(&answer.body)
                .ok_or(ClientError::Unclear("its answer has no id".to_owned())),
            Err(error) => Err(error),
        };
        match logged {
            Ok(call) => {
                journal.logged(call);
                for to in inline {
                    journal.associated(to);
                }
                keep(journal, keeper)
            }
            Err(ClientError::Unclear(why)) if tries < TRIES => {
                tracing::warn!(why, "the call may have been logged: it is looked for");
                Ok(())
            }
            Err(error) => {
                if !matches!(error, ClientError::Unclear(_)) {
                    journal.log = Step::Open;
                    keep(journal, keeper)?;
                }
                Err(failed("logging the call", error))
            }
        }
    }

    /// Looks for the call until it is there, or could not but be.
    async fn look_for_call<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
        since: UnixTime,
    ) -> Result<(), PublishError<K::Error>> {
        let request = self.client.version().find(self.recording, self.app);
        // The request was sent some time after it was journalled: it may have waited for a limit. But
        // before now, since the process that sent it has ended, or is this one.
        let long_ago = Duration::from_secs(since.until(keeper.now())) > SENDING + self.index_wait;
        let (began, mut pause) = (Instant::now(), FIRST_LOOK);
        loop {
            // Before the search: its answer says how things were when it was asked.
            let waited = began.elapsed();
            let answer = self
                .client
                .send(&request)
                .await
                .map_err(|error| failed("looking for the call", error))?;
            if let Some(call) = wire::found(&answer.body) {
                journal.logged(call);
                return keep(journal, keeper);
            }
            if long_ago || waited >= self.index_wait {
                journal.log = Step::Open;
                return keep(journal, keeper);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn associate<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
        call: u64,
        to: Record,
    ) -> Result<(), PublishError<K::Error>> {
        let request = self.client.version().associate(call, to);
        self.client
            .send(&request)
            .await
            .map_err(|error| failed("associating the call", error))?;
        journal.associated(to);
        keep(journal, keeper)
    }

    async fn ready<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
        call: u64,
        tries: u32,
    ) -> Result<(), PublishError<K::Error>> {
        journal.ready = Step::Begun(keeper.now().0);
        keep(journal, keeper)?;
        match self.client.send(&self.client.version().ready(call)).await {
            Ok(_) => {
                journal.ready = Step::Done;
                keep(journal, keeper)
            }
            Err(ClientError::Unclear(why)) if tries < TRIES => {
                tracing::warn!(why, "HubSpot may have been told: the call is looked at");
                tokio::time::sleep(BEFORE_A_LOOK).await;
                Ok(())
            }
            Err(error) => {
                if !matches!(error, ClientError::Unclear(_)) {
                    journal.ready = Step::Open;
                    keep(journal, keeper)?;
                }
                Err(failed("marking the recording ready", error))
            }
        }
    }

    /// Whether HubSpot has fetched or transcribed the recording. Where it shows no sign of that, it
    /// is told again: a call without a transcript would be the greater harm.
    async fn look_whether_ready<K: Keeper>(
        &self,
        journal: &mut Journal,
        keeper: &mut K,
        call: u64,
    ) -> Result<(), PublishError<K::Error>> {
        let request = self.client.version().read(call, &wire::READY_SIGNS);
        let answer = self
            .client
            .send(&request)
            .await
            .map_err(|error| failed("looking at the call", error))?;
        journal.ready = if wire::is_heard(&answer.body) {
            Step::Done
        } else {
            Step::Open
        };
        keep(journal, keeper)
    }
}

fn keep<K: Keeper>(journal: &Journal, keeper: &mut K) -> Result<(), PublishError<K::Error>> {
    keeper.keep(journal).map_err(PublishError::Journal)
}

fn failed<E>(step: &'static str, error: ClientError) -> PublishError<E> {
    PublishError::HubSpot {
        step,
        error: Box::new(error),
    }
}
