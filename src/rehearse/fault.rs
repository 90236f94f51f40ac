//! A script of failures: `log=cut:acted`, `ready=429:2`, `search=hold`.

use std::str::FromStr;

/// What HubSpot is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Settings,
    Log,
    Update,
    Read,
    Search,
    Associate,
    Ready,
    Transcript,
    Token,
}

const OPERATIONS: [(&str, Operation); 9] = [
    ("settings", Operation::Settings),
    ("log", Operation::Log),
    ("update", Operation::Update),
    ("read", Operation::Read),
    ("search", Operation::Search),
    ("associate", Operation::Associate),
    ("ready", Operation::Ready),
    ("transcript", Operation::Transcript),
    ("token", Operation::Token),
];

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By an error of this status.
    Status(u16),
    /// By 429 for the rest of the day.
    Daily,
    /// The connection is closed without an answer.
    Cut,
    /// No answer ever comes.
    Hold,
}

/// A failure to come: the next so many requests of one kind fail in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(super) operation: Operation,
    pub(super) kind: Kind,
    /// What was asked is done first.
    pub(super) acted: bool,
    pub(super) times: u32,
}

/// A text that is no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fault is OPERATION=STATUS, OPERATION=daily, OPERATION=cut or OPERATION=hold, with :acted behind it if it is done all the same, and :N for the next N requests; operations are settings, log, update, read, search, associate, ready, transcript, token"
)]
pub struct BadFault;

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let (name, rest) = text.split_once('=').ok_or(BadFault)?;
        let (_, operation) = OPERATIONS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or(BadFault)?;
        let mut parts = rest.split(':');
        let kind = match parts.next().unwrap_or_default() {
            "daily" => Kind::Daily,
            "cut" => Kind::Cut,
            "hold" => Kind::Hold,
            status => Kind::Status(
                status
                    .parse()
                    .ok()
                    .filter(|status| (400..600).contains(status))
                    .ok_or(BadFault)?,
            ),
        };
        let mut fault = Self {
            operation: *operation,
            kind,
            acted: false,
            times: 1,
        };
        for part in parts {
            match part {
                "acted" => fault.acted = true,
                count => fault.times = count.parse().map_err(|_| BadFault)?,
            }
        }
        Ok(fault)
    }
}

/// Takes the fault that meets the next request of this kind.
pub(super) fn take(faults: &mut Vec<Fault>, operation: Operation) -> Option<Fault> {
    let at = faults
        .iter()
        .position(|fault| fault.operation == operation && fault.times > 0)?;
    let fault = faults.get_mut(at)?;
    fault.times -= 1;
    let met = fault.clone();
    faults.retain(|fault| fault.times > 0);
    Some(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        let fault = |text: &str| text.parse::<Fault>();
        let cut = Fault {
            operation: Operation::Log,
            kind: Kind::Cut,
            acted: true,
            times: 1,
        };
        assert_eq!(fault("log=cut:acted"), Ok(cut.clone()));
        let limited = Fault {
            operation: Operation::Ready,
            kind: Kind::Status(429),
            acted: false,
            times: 2,
        };
        assert_eq!(fault("ready=429:2"), Ok(limited.clone()));
        for bad in [
            "",
            "log",
            "log=",
            "log=200",
            "log=cut:x",
            "fly=cut",
            "log=600",
        ] {
            assert_eq!(fault(bad), Err(BadFault), "{bad}");
        }
        let mut script = vec![limited, cut];
        assert!(take(&mut script, Operation::Ready).is_some_and(|met| met.times == 1));
        assert!(take(&mut script, Operation::Ready).is_some());
        assert_eq!(take(&mut script, Operation::Ready), None);
        assert_eq!(script.len(), 1);
    }
}
