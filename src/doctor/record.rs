//! Whether the record beside a recording keeps it from being served.

use super::{Check, Named};
use crate::store::StoreError;

/// What a server that was asked for a recording would refuse, whatever its bytes are; `None` where
/// its record is not the reason.
#[must_use]
pub fn check_record(refused: &StoreError, named: &Named<'_>) -> Option<Check> {
    let fix = match refused {
        StoreError::Damaged => named.put_again(),
        StoreError::Erased => "take another id: one whose recording was erased stays so".to_owned(),
        StoreError::Record(_) => "bring its record back, which is JSON".to_owned(),
        _ => return None,
    };
    Some(Check::fail("record", refused.to_string(), fix))
}
