//! Which slices lie on the disk, and which of them was used least recently.

use std::collections::BTreeMap;

use crate::recording::UnixTime;
use crate::store::Version;

/// One version of an object, in slices of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct ObjectId {
    /// Digest of where it lies.
    pub(super) place: u64,
    /// Digest of its version and of the slices' size.
    pub(super) version: u64,
}

/// One slice of one version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct SliceId {
    pub(in super::super) object: ObjectId,
    /// Its number, from 0.
    pub(in super::super) at: u64,
}

/// What is known of a slice on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes of its file.
    pub(super) length: u64,
    /// The file as it was when its bytes were known to be right; `None` before they are.
    pub(super) version: Option<Version>,
    /// When it was used last.
    pub(super) used: UnixTime,
    tick: u64,
}

/// Slices by id and by use.
#[derive(Debug, Default)]
pub(super) struct Index {
    slices: BTreeMap<SliceId, Entry>,
    order: BTreeMap<u64, SliceId>,
    ticks: u64,
    bytes: u64,
}

impl Index {
    /// Takes a slice in, as the one used last.
    pub(super) fn insert(
        &mut self,
        id: SliceId,
        length: u64,
        version: Option<Version>,
        now: UnixTime,
    ) {
        self.remove(&id);
        self.ticks += 1;
        self.order.insert(self.ticks, id);
        self.bytes += length;
        let entry = Entry {
            length,
            version,
            used: now,
            tick: self.ticks,
        };
        self.slices.insert(id, entry);
    }

    /// Marks a slice as the one used last, and tells what is known of it.
    pub(super) fn touch(&mut self, id: &SliceId, now: UnixTime) -> Option<Entry> {
        let entry = self.slices.get_mut(id)?;
        self.order.remove(&entry.tick);
        self.ticks += 1;
        self.order.insert(self.ticks, *id);
        entry.tick = self.ticks;
        entry.used = now;
        Some(*entry)
    }

    /// Remembers the file whose bytes are right.
    pub(super) fn checked(&mut self, id: &SliceId, version: Version) {
        if let Some(entry) = self.slices.get_mut(id) {
            entry.version = Some(version);
        }
    }

    pub(super) fn remove(&mut self, id: &SliceId) -> Option<Entry> {
        let entry = self.slices.remove(id)?;
        self.order.remove(&entry.tick);
        self.bytes -= entry.length;
        Some(entry)
    }

    /// The slice used least recently.
    pub(super) fn oldest(&self) -> Option<(SliceId, Entry)> {
        let (_, id) = self.order.first_key_value()?;
        Some((*id, *self.slices.get(id)?))
    }

    /// Every slice of every version of what lies in a place.
    pub(super) fn of_place(&self, place: u64) -> Vec<SliceId> {
        let id = |most| SliceId {
            object: ObjectId {
                place,
                version: most,
            },
            at: most,
        };
        let slices = self.slices.range(id(0)..=id(u64::MAX));
        slices.map(|(id, _)| *id).collect()
    }

    /// Bytes of all files.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slices.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(7);

    fn id(at: u64) -> SliceId {
        SliceId {
            object: ObjectId {
                place: at % 3,
                version: at % 2,
            },
            at,
        }
    }

    proptest! {
        /// The model is a list, least recently used first.
        #[test]
        fn is_a_list_in_the_order_of_use(steps in prop::collection::vec((0..4_u8, 0..12_u64), 0..200)) {
            let mut index = Index::default();
            let mut model: Vec<(SliceId, u64)> = Vec::new();
            for (step, at) in steps {
                let known = model.iter().position(|(known, _)| *known == id(at));
                let known = known.map(|at| model.remove(at));
                match step {
                    0 => {
                        index.insert(id(at), at * 10, None, NOW);
                        model.push((id(at), at * 10));
                    }
                    1 => {
                        prop_assert_eq!(index.touch(&id(at), NOW).is_some(), known.is_some());
                        model.extend(known);
                    }
                    2 => prop_assert_eq!(index.remove(&id(at)).is_some(), known.is_some()),
                    _ => {
                        // Asking changes nothing.
                        if let Some(known) = known {
                            prop_assert!(index.of_place(known.0.object.place).contains(&known.0));
                            index.remove(&known.0);
                        }
                    }
                }
                prop_assert_eq!(index.oldest().map(|(id, entry)| (id, entry.length)), model.first().copied());
                prop_assert_eq!(index.bytes(), model.iter().map(|(_, length)| length).sum::<u64>());
                prop_assert_eq!(index.count(), model.len());
            }
        }
    }
}
