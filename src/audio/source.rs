//! Which phone systems put whom on which channel, and so whether channels are to be swapped.
//!
//! HubSpot wants the caller on 1 and the recipient on 2 in both directions. Vendors order channels by
//! leg or by role; what a vendor does not state is not guessed.

use std::fmt;
use std::str::FromStr;

/// Which way a call went, seen from the company that records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The customer called.
    Inbound,
    /// The customer was called.
    Outbound,
}

/// Who speaks on a channel, in HubSpot's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Who called.
    Caller,
    /// Who was called.
    Recipient,
}

/// Whom a system puts on channel 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The caller, whichever way the call went.
    Caller,
    /// The recipient, whichever way the call went.
    Recipient,
    /// Whose leg came first.
    FirstLeg,
    /// Who joined first.
    FirstToJoin,
    /// The customer; the agent is on channel 2.
    Customer,
    /// The vendor does not say.
    Unstated,
}

/// A phone system, as `--source` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// Whom it puts on channel 1.
    pub order: Order,
    /// Where that is stated, or what is known instead.
    pub stated: &'static str,
}

const fn source(name: &'static str, order: Order, stated: &'static str) -> Source {
    Source {
        name,
        order,
        stated,
    }
}

/// Every source there is.
pub const SOURCES: &[Source] = &[
    source(
        "amazon-connect",
        Order::Customer,
        "AWS: agent right, customer left, always",
    ),
    source(
        "aircall",
        Order::Unstated,
        "no public statement on channels",
    ),
    source(
        "asterisk",
        Order::FirstLeg,
        "MixMonitor: the received leg first (r), then the transmitted one (t)",
    ),
    source("azure", Order::Customer, "Azure: user left, agent right"),
    source(
        "freepbx",
        Order::Unstated,
        "mono by default; how it was patched is not known",
    ),
    source(
        "freeswitch",
        Order::Caller,
        "RECORD_STEREO: caller left, receiver right",
    ),
    source(
        "freeswitch-swap",
        Order::Recipient,
        "RECORD_STEREO_SWAP: inverted",
    ),
    source(
        "ringcentral-engage",
        Order::Unstated,
        "mono; the order of its dual recordings is not stated",
    ),
    source(
        "telnyx",
        Order::FirstLeg,
        "Telnyx: first leg on A, the rest on B",
    ),
    source(
        "twilio",
        Order::FirstLeg,
        "Twilio: channel 1 is the parent leg, 2 the child leg",
    ),
    source(
        "twilio-conference",
        Order::FirstToJoin,
        "Twilio: channel 1 is the first to join, 2 everyone else",
    ),
    source(
        "vapi",
        Order::Unstated,
        "one channel each, the order is not stated",
    ),
    source(
        "vonage",
        Order::FirstLeg,
        "Vonage: first caller left, what it hears right",
    ),
];

/// Why it cannot be told whether channels are to be swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// The vendor does not state it.
    #[error("{} does not state who is on which channel ({}): look at a call you know, then say --swap or leave it", .0.name, .0.stated)]
    Unstated(Source),
    /// It depends on whose leg came first.
    #[error("{} orders channels by who came first ({}): say --first-leg caller or --first-leg recipient", .0.name, .0.stated)]
    FirstLeg(Source),
}

impl Source {
    /// Whether channels 1 and 2 are to change places for HubSpot.
    ///
    /// An inbound call's first leg is its caller's; an outbound call's may be either: systems that
    /// call the agent first begin with the caller's, others with the recipient's. `first` says it.
    ///
    /// # Errors
    /// [`Unclear`], where neither the vendor nor the arguments tell.
    pub fn swaps(self, direction: Direction, first: Option<Party>) -> Result<bool, Unclear> {
        let on_one = match (self.order, direction) {
            // A customer calls, or is called.
            (Order::Caller, _) | (Order::Customer, Direction::Inbound) => Party::Caller,
            (Order::Recipient, _) | (Order::Customer, Direction::Outbound) => Party::Recipient,
            (Order::FirstLeg, Direction::Inbound) => first.unwrap_or(Party::Caller),
            (Order::FirstLeg | Order::FirstToJoin, _) => first.ok_or(Unclear::FirstLeg(self))?,
            (Order::Unstated, _) => return Err(Unclear::Unstated(self)),
        };
        Ok(on_one == Party::Recipient)
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = SOURCES.iter().find(|source| source.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = SOURCES.iter().map(|source| source.name).collect();
            format!("not known; known are {}", names.join(", "))
        })
    }
}

impl FromStr for Direction {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "inbound" => Ok(Self::Inbound),
            "outbound" => Ok(Self::Outbound),
            _ => Err("inbound (the customer called) or outbound"),
        }
    }
}

impl FromStr for Party {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "caller" => Ok(Self::Caller),
            "recipient" => Ok(Self::Recipient),
            _ => Err("caller or recipient"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "the caller",
            Self::Recipient => "the recipient",
            Self::FirstLeg => "the first leg",
            Self::FirstToJoin => "the first to join",
            Self::Customer => "the customer",
            Self::Unstated => "not stated",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps() {
        use Direction::{Inbound, Outbound};
        use Party::{Caller, Recipient};

        for (name, direction, first, swap) in [
            ("amazon-connect", Inbound, None, Some(false)),
            ("amazon-connect", Outbound, None, Some(true)),
            ("azure", Outbound, None, Some(true)),
            ("freeswitch", Inbound, None, Some(false)),
            ("freeswitch", Outbound, None, Some(false)),
            ("freeswitch-swap", Inbound, None, Some(true)),
            ("twilio", Inbound, None, Some(false)),
            ("twilio", Outbound, None, None),
            ("twilio", Outbound, Some(Caller), Some(false)),
            ("twilio", Outbound, Some(Recipient), Some(true)),
            ("twilio-conference", Inbound, None, None),
            ("twilio-conference", Inbound, Some(Recipient), Some(true)),
            ("asterisk", Inbound, None, Some(false)),
            ("vapi", Inbound, Some(Caller), None),
            ("aircall", Outbound, None, None),
        ] {
            let source: Source = name.parse().unwrap();
            assert_eq!(
                source.swaps(direction, first).ok(),
                swap,
                "{name} {direction:?} {first:?}"
            );
        }
        assert!("skype".parse::<Source>().unwrap_err().contains("twilio"));
    }
}
