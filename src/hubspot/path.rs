//! Where each call goes: HubSpot's paths, numbered and dated.
//!
//! HubSpot's numbered versions (`v3`) go out of support in September 2027; dated ones are supported
//! for 18 months each.

use std::fmt;
use std::str::FromStr;

use super::names::Record;

/// A version of HubSpot's API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ApiVersion {
    /// The numbered one.
    #[default]
    V3,
    /// One that is named by its month, such as `2026-03`.
    Dated(String),
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API version is v3 or a month such as 2026-03 or 2026-09")]
pub struct BadVersion;

impl FromStr for ApiVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        if text == "v3" {
            return Ok(Self::V3);
        }
        let digits = |part: &str, count| {
            part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        match text.split_once('-') {
            Some((year, month)) if digits(year, 4) && matches!(month, "03" | "09") => {
                Ok(Self::Dated(text.to_owned()))
            }
            _ => Err(BadVersion),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V3 => f.write_str("v3"),
            Self::Dated(month) => f.write_str(month),
        }
    }
}

impl ApiVersion {
    /// The extension's API has the version before its name, or behind it.
    fn calling(&self) -> String {
        match self {
            Self::V3 => "/crm/v3/extensions/calling".to_owned(),
            Self::Dated(month) => format!("/crm/extensions/calling/{month}"),
        }
    }

    /// Of an app's registered URL.
    #[must_use]
    pub fn recording_settings(&self, app: u32) -> String {
        format!("{}/{app}/settings/recording", self.calling())
    }

    /// Where a recording is said to be ready.
    #[must_use]
    pub fn recordings_ready(&self) -> String {
        format!("{}/recordings/ready", self.calling())
    }

    /// Of all transcripts.
    #[must_use]
    pub fn transcripts(&self) -> String {
        format!("{}/transcripts", self.calling())
    }

    /// Of one transcript, whose id has been checked to be one segment.
    #[must_use]
    pub fn transcript(&self, id: &str) -> String {
        format!("{}/{id}", self.transcripts())
    }

    /// Of all calls.
    #[must_use]
    pub fn calls(&self) -> String {
        match self {
            Self::V3 => "/crm/v3/objects/calls".to_owned(),
            Self::Dated(month) => format!("/crm/objects/{month}/calls"),
        }
    }

    /// Of one call.
    #[must_use]
    pub fn call(&self, id: u64) -> String {
        format!("{}/{id}", self.calls())
    }

    /// Where calls are looked for.
    #[must_use]
    pub fn search(&self) -> String {
        format!("{}/search", self.calls())
    }

    /// Of a call's associations in the API that knows labels: `v4` among the numbered versions.
    fn associations(&self, call: u64) -> String {
        match self {
            Self::V3 => format!("/crm/v4/objects/calls/{call}/associations"),
            Self::Dated(_) => format!("{}/associations", self.call(call)),
        }
    }

    /// Of an association without a label.
    #[must_use]
    pub fn default_association(&self, call: u64, to: Record) -> String {
        format!(
            "{}/default/{}/{}",
            self.associations(call),
            to.object.plural(),
            to.id
        )
    }

    /// Of associations whose types the body names.
    #[must_use]
    pub fn labelled_association(&self, call: u64, to: Record) -> String {
        format!(
            "{}/{}/{}",
            self.associations(call),
            to.object.plural(),
            to.id
        )
    }

    /// Of an association as the guide of 2024 has it, which no current specification lists.
    #[must_use]
    pub fn guides_association(&self, call: u64, to: Record) -> String {
        let (object, id) = (to.object, to.id);
        format!(
            "{}/associations/{}/{id}/{}",
            self.call(call),
            object.plural(),
            object.association
        )
    }

    /// Where access tokens are had. `v1` is switched off on 2027-02-16.
    #[must_use]
    pub fn oauth_token(&self) -> &'static str {
        match self {
            Self::V3 => "/oauth/v1/token",
            Self::Dated(_) => "/oauth/2026-03/token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let to: Record = "contact:104901".parse().unwrap();
        let all = |version: &str| {
            let version: ApiVersion = version.parse().unwrap();
            [
                version.recording_settings(7),
                version.recordings_ready(),
                version.transcript("t-1"),
                version.call(9),
                version.search(),
                version.default_association(9, to),
                version.labelled_association(9, to),
                version.guides_association(9, to),
                version.oauth_token().to_owned(),
            ]
        };
        assert_eq!(
            all("v3"),
            [
                "/crm/v3/extensions/calling/7/settings/recording",
                "/crm/v3/extensions/calling/recordings/ready",
                "/crm/v3/extensions/calling/transcripts/t-1",
                "/crm/v3/objects/calls/9",
                "/crm/v3/objects/calls/search",
                "/crm/v4/objects/calls/9/associations/default/contacts/104901",
                "/crm/v4/objects/calls/9/associations/contacts/104901",
                "/crm/v3/objects/calls/9/associations/contacts/104901/194",
                "/oauth/v1/token",
            ]
        );
        assert_eq!(
            all("2026-09"),
            [
                "/crm/extensions/calling/2026-09/7/settings/recording",
                "/crm/extensions/calling/2026-09/recordings/ready",
                "/crm/extensions/calling/2026-09/transcripts/t-1",
                "/crm/objects/2026-09/calls/9",
                "/crm/objects/2026-09/calls/search",
                "/crm/objects/2026-09/calls/9/associations/default/contacts/104901",
                "/crm/objects/2026-09/calls/9/associations/contacts/104901",
                "/crm/objects/2026-09/calls/9/associations/contacts/104901/194",
                "/oauth/2026-03/token",
            ]
        );
        for bad in [
            "",
            "v2",
            "3",
            "2026",
            "2026-13",
            "2026-3",
            "26-03",
            "2026-03/x",
        ] {
            assert_eq!(bad.parse::<ApiVersion>(), Err(BadVersion), "{bad}");
        }
    }
}
