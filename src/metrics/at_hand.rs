//! A family of metrics whose usual members need no lookup.

use std::fmt;
use std::hash::Hash;

use prometheus_client::metrics::family::Family;

/// A family, and the members that are counted at nearly every request.
pub(super) struct AtHand<L, M, const N: usize> {
    family: Family<L, M>,
    usual: [(L, M); N],
}

impl<L, M, const N: usize> AtHand<L, M, N>
where
    L: Copy + Eq + Hash,
    M: Clone + Default,
{
    /// The usual members are there from the beginning, at zero.
    pub(super) fn new(usual: [L; N]) -> Self {
        let family: Family<L, M> = Family::default();
        let usual = usual.map(|labels| (labels, family.get_or_create_owned(&labels)));
        Self { family, usual }
    }

    /// The same family, to be registered.
    pub(super) fn family(&self) -> Family<L, M> {
        self.family.clone()
    }

    pub(super) fn with<T>(&self, labels: L, count: impl FnOnce(&M) -> T) -> T {
        match self.usual.iter().find(|(usual, _)| *usual == labels) {
            Some((_, metric)) => count(metric),
            None => count(&self.family.get_or_create(&labels)),
        }
    }
}

impl<L, M, const N: usize> fmt::Debug for AtHand<L, M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtHand")
    }
}
