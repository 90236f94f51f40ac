//! HubSpot's names, as a person writes them and as HubSpot wants them.
//!
//! Decides what a name stands for. An unknown one is refused here, before anything is sent.

use std::fmt;
use std::str::FromStr;

/// A text that names nothing HubSpot knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no {what}; HubSpot has {known}")]
pub struct UnknownName {
    given: String,
    what: &'static str,
    known: String,
}

/// The row of a table whose first column is this name, whatever its case and its joints.
fn row<'a, T>(
    table: &'a [(&'static str, T)],
    what: &'static str,
    text: &str,
) -> Result<&'a (&'static str, T), UnknownName> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '_'], "-");
    table
        .iter()
        .find(|(name, _)| plain(name) == plain(text))
        .ok_or_else(|| UnknownName {
            given: text.to_owned(),
            what,
            known: table
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// How a call came out, by the id HubSpot has for it. Accounts may have outcomes of their own:
/// those are written as their id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition(String);

/// The outcomes every account begins with.
const DISPOSITIONS: &[(&str, &str)] = &[
    ("busy", "9d9162e7-6cf3-4944-bf63-4dff82258764"),
    ("connected", "f240bbac-87c9-4f6e-bf70-924b57d47db7"),
    ("left-live-message", "a4c4c377-d246-4b32-a13b-75a56a4cd0ff"),
    ("left-voicemail", "b2cf5968-551e-4856-9783-52b3da59a7d0"),
    ("no-answer", "73a0d17f-1163-4015-bdd5-ec830791da20"),
    ("wrong-number", "17b47fee-58de-441e-a44c-c6300d46f273"),
];

impl Disposition {
    /// The id, a GUID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0
    }
}

impl FromStr for Disposition {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if is_guid(text) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        let (_, id) = row(DISPOSITIONS, "outcome of a call (or the GUID of one)", text)?;
        Ok(Self((*id).to_owned()))
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// A type of record that a call can be associated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectType {
    name: &'static str,
    plural: &'static str,
    /// Of the unlabelled association of a call with such a record, defined by HubSpot.
    pub association: u32,
}

const OBJECTS: &[(&str, (&str, u32))] = &[
    ("contact", ("contacts", 194)),
    ("company", ("companies", 182)),
    ("deal", ("deals", 206)),
    ("ticket", ("tickets", 220)),
    ("lead", ("leads", 597)),
    ("order", ("orders", 773)),
    ("appointment", ("appointments", 913)),
    ("service", ("services", 841)),
    ("project", ("projects", 1258)),
];

impl ObjectType {
    /// One of them, as a person says it: `contact`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Many of them, as paths have it: `contacts`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.plural
    }

    /// The type whose unlabelled association with a call has this id.
    #[must_use]
    pub fn of_association(id: u32) -> Option<Self> {
        Self::all().find(|object| object.association == id)
    }

    fn all() -> impl Iterator<Item = Self> {
        OBJECTS.iter().map(|(name, (plural, association))| Self {
            name,
            plural,
            association: *association,
        })
    }
}

impl FromStr for ObjectType {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let by_plural = OBJECTS
            .iter()
            .find(|(_, (plural, _))| plural.eq_ignore_ascii_case(text));
        let (name, (plural, association)) = match by_plural {
            Some(found) => found,
            None => row(OBJECTS, "record type", text)?,
        };
        Ok(Self {
            name,
            plural,
            association: *association,
        })
    }
}

/// A record, as a person writes it: `contact:104901`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its type.
    pub object: ObjectType,
    /// Its id.
    pub id: u64,
}

/// Why a text is no [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// No colon between type and id.
    #[error("a record is written TYPE:ID, such as contact:104901")]
    Form,
    /// No such type.
    #[error(transparent)]
    Type(#[from] UnknownName),
    /// The id is no number.
    #[error("HubSpot's record ids are numbers, and {0:?} is none")]
    Id(String),
}

impl FromStr for Record {
    type Err = BadRecord;

    fn from_str(text: &str) -> Result<Self, BadRecord> {
        let (object, id) = text.split_once(':').ok_or(BadRecord::Form)?;
        Ok(Self {
            object: object.parse()?,
            id: id.parse().map_err(|_| BadRecord::Id(id.to_owned()))?,
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object.name, self.id)
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(&'static str);

const STATUSES: &[(&str, ())] = &[
    ("BUSY", ()),
    ("CALLING_CRM_USER", ()),
    ("CANCELED", ()),
    ("COMPLETED", ()),
    ("CONNECTING", ()),
    ("FAILED", ()),
    ("IN_PROGRESS", ()),
    ("NO_ANSWER", ()),
    ("QUEUED", ()),
    ("RINGING", ()),
];

impl Status {
    /// The call took place and is over.
    pub const COMPLETED: Self = Self("COMPLETED");

    /// HubSpot's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.0
    }
}

impl FromStr for Status {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        row(STATUSES, "call status", text).map(|(word, ())| Self(word))
    }
}

/// Who called whom, seen from the HubSpot user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The user was called.
    Inbound,
    /// The user called.
    Outbound,
}

const DIRECTIONS: &[(&str, Direction)] = &[
    ("inbound", Direction::Inbound),
    ("outbound", Direction::Outbound),
];

impl Direction {
    /// HubSpot's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbound => "INBOUND",
            Self::Outbound => "OUTBOUND",
        }
    }
}

impl FromStr for Direction {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        row(DIRECTIONS, "direction", text).map(|(_, direction)| *direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let disposition = |text: &str| text.parse::<Disposition>().map(|known| known.0).ok();
        let connected = Some("f240bbac-87c9-4f6e-bf70-924b57d47db7".to_owned());
        assert_eq!(disposition("connected"), connected);
        assert_eq!(
            disposition("F240BBAC-87c9-4f6e-bf70-924b57d47db7"),
            connected
        );
        let message = Some("a4c4c377-d246-4b32-a13b-75a56a4cd0ff".to_owned());
        assert_eq!(disposition("Left live message"), message);
        assert_eq!(disposition("f240bbac-87c9-4f6e-bf70"), None);
        assert_eq!(disposition("happy"), None);

        for (text, plural, association) in [
            ("contact", "contacts", 194),
            ("Companies", "companies", 182),
            ("deal", "deals", 206),
            ("tickets", "tickets", 220),
            ("project", "projects", 1258),
        ] {
            let object: ObjectType = text.parse().unwrap();
            assert_eq!(
                (object.plural(), object.association),
                (plural, association),
                "{text}"
            );
            assert_eq!(ObjectType::of_association(association), Some(object));
        }
        assert_eq!("no answer".parse::<Status>().unwrap().word(), "NO_ANSWER");
        assert_eq!("completed".parse(), Ok(Status::COMPLETED));
        assert_eq!("INBOUND".parse(), Ok(Direction::Inbound));
        assert_eq!(
            "up".parse::<Direction>().unwrap_err().to_string(),
            "\"up\" is no direction; HubSpot has inbound, outbound"
        );
    }

    #[test]
    fn records() {
        assert_eq!(
            "contact:104901".parse::<Record>().unwrap().to_string(),
            "contact:104901"
        );
        assert_eq!("104901".parse::<Record>(), Err(BadRecord::Form));
        assert_eq!(
            "contact:x".parse::<Record>(),
            Err(BadRecord::Id("x".into()))
        );
        assert!(matches!("cat:1".parse::<Record>(), Err(BadRecord::Type(_))));
    }
}
