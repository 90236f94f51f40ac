//! What has become of a recording at HubSpot, and what is to be done next.
//!
//! Lives in the recording's record, under `hubspot`. Each step is written down before it is tried
//! and after it is done, so that whoever comes next, after a kill at any moment, knows of each step
//! that it was not tried, that it may have happened, or that it happened. Pure: the record's text
//! comes in and goes out, and the caller keeps it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names::Record;
use super::wire::Properties;
use crate::recording::UnixTime;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Not tried, or surely without effect.
    #[default]
    Open,
    /// Tried at this time, in Unix seconds: it may have happened.
    Begun(u64),
    /// It happened.
    Done,
}

/// A record that the call is to be associated with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Association {
    /// Such as `contact:104901`.
    to: String,
    #[serde(default)]
    state: Step,
}

/// A recording's state at HubSpot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Journal {
    /// What the call is logged with.
    pub properties: Properties,
    /// Creating the call.
    pub log: Step,
    /// The call, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<u64>,
    associations: Vec<Association>,
    /// Saying that the recording can be fetched.
    pub ready: Step,
    /// Fields of other versions.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Create the call.
    Log,
    /// It was tried to create the call, at this time: look whether it is there.
    LookForCall(UnixTime),
    /// Associate the call with this record. Doing so again changes nothing.
    Associate(u64, Record),
    /// Say that the recording can be fetched.
    Ready(u64),
    /// That may have been said: look whether HubSpot heard it.
    LookWhetherReady(u64),
    /// Nothing: HubSpot knows all there is to know.
    Nothing,
}

impl Journal {
    /// Reads the record's `hubspot` field.
    ///
    /// # Errors
    /// It is not what a journal should be; nothing must be sent on a guess.
    pub fn read(value: Option<&Value>) -> Result<Self, serde_json::Error> {
        value.map_or_else(|| Ok(Self::default()), Self::deserialize)
    }

    /// The record's `hubspot` field.
    #[must_use]
    pub fn value(&self) -> Value {
        // Texts and numbers under text keys always serialise.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        let call = match (self.log, self.call_id) {
            (Step::Begun(at), None) => return Next::LookForCall(UnixTime(at)),
            (_, None) => return Next::Log,
            (_, Some(call)) => call,
        };
        if let Some(to) = self.open_associations().next() {
            return Next::Associate(call, to);
        }
        match self.ready {
            Step::Open => Next::Ready(call),
            Step::Begun(_) => Next::LookWhetherReady(call),
            Step::Done => Next::Nothing,
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.next() == Next::Nothing
    }

    /// What the call is to be logged with: `given` before what an earlier run was given, and that
    /// before `defaults`. A call that is there already keeps what it has.
    pub fn plan(&mut self, given: Properties, defaults: Properties) {
        if self.call_id.is_none() {
            let mut properties = defaults;
            properties.extend(std::mem::take(&mut self.properties));
            properties.extend(given);
            self.properties = properties;
        }
    }

    /// The records the call is to be associated with. Those that it is associated with stay; others
    /// of an earlier plan, a contact that turned out unknown perhaps, are forgotten.
    pub fn plan_associations(&mut self, records: &[Record]) {
        self.associations
            .retain(|association| association.state == Step::Done);
        for to in records.iter().map(ToString::to_string) {
            if !self
                .associations
                .iter()
                .any(|association| association.to == to)
            {
                self.associations.push(Association {
                    to,
                    state: Step::Open,
                });
            }
        }
    }

    /// The records the call is still to be associated with.
    pub fn open_associations(&self) -> impl Iterator<Item = Record> {
        let open = self
            .associations
            .iter()
            .filter(|association| association.state != Step::Done);
        // What cannot be read was not written by us: there is nothing to send.
        open.filter_map(|association| association.to.parse().ok())
    }

    /// The records the call is associated with, as texts.
    pub fn associated_with(&self) -> impl Iterator<Item = &str> {
        let done = self
            .associations
            .iter()
            .filter(|association| association.state == Step::Done);
        done.map(|association| association.to.as_str())
    }

    /// The call is associated with this record.
    pub fn associated(&mut self, to: Record) {
        let to = to.to_string();
        for association in self
            .associations
            .iter_mut()
            .filter(|association| association.to == to)
        {
            association.state = Step::Done;
        }
    }

    /// The call is there.
    pub fn logged(&mut self, call: u64) {
        self.log = Step::Done;
        self.call_id = Some(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_step_after_the_other() {
        let (contact, deal): (Record, Record) =
            ("contact:1".parse().unwrap(), "deal:2".parse().unwrap());
        let mut journal = Journal::read(None).unwrap();
        journal.plan_associations(&[contact, deal, contact]);
        let reread = |journal: &Journal| Journal::read(Some(&journal.value())).unwrap();
        assert_eq!(journal.next(), Next::Log);
        journal.log = Step::Begun(7);
        assert_eq!(reread(&journal).next(), Next::LookForCall(UnixTime(7)));
        journal.logged(9);
        assert_eq!(reread(&journal).next(), Next::Associate(9, contact));
        journal.associated(contact);
        assert_eq!(journal.next(), Next::Associate(9, deal));
        // The deal was a mistake; the contact is there and stays.
        let company = "company:3".parse().unwrap();
        journal.plan_associations(&[company]);
        assert_eq!(journal.next(), Next::Associate(9, company));
        journal.associated(company);
        assert_eq!(journal.next(), Next::Ready(9));
        journal.ready = Step::Begun(8);
        assert_eq!(reread(&journal).next(), Next::LookWhetherReady(9));
        journal.ready = Step::Done;
        assert!(reread(&journal).is_complete());
    }

    #[test]
    fn what_others_wrote_is_kept_and_what_is_no_journal_is_refused() {
        let text = json!({"callId": 9, "log": "done", "later": {"x": 1}});
        let journal = Journal::read(Some(&text)).unwrap();
        assert_eq!(journal.next(), Next::Ready(9));
        assert_eq!(journal.value()["later"], json!({"x": 1}));
        for bad in [
            json!({"log": "maybe"}),
            json!({"callId": "nine"}),
            json!("done"),
            json!({"ready": {"begun": -1}}),
        ] {
            assert!(Journal::read(Some(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_logged_call_keeps_what_it_was_logged_with() {
        let title = |text: &str| Properties::from([("hs_call_title".to_owned(), text.to_owned())]);
        let mut journal = Journal::default();
        journal.plan(Properties::new(), title("default"));
        assert_eq!(journal.properties, title("default"));
        journal.plan(title("b"), title("default"));
        // Another run, that was given nothing.
        journal.plan(Properties::new(), title("default"));
        journal.logged(1);
        journal.plan(title("c"), Properties::new());
        assert_eq!(journal.properties, title("b"));
    }
}
