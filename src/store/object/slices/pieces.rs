//! What comes in parts of any size, in pieces that the page cache keeps well.
//!
//! The kernel keeps a file in folios about as large as the writes it came by, and sendfile(2) costs
//! by the folio: a slice written as it comes off a socket is sent a quarter slower than one
//! written by 64 KiB (docs/scale.md).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout_at};

/// Bytes of a piece, and what its first is aligned to.
const PIECE: usize = 64 * 1024;
/// No byte is kept from whoever waits for it for longer than this.
const SOON: Duration = Duration::from_millis(20);

/// Parts joined to pieces.
pub(super) struct Pieces<S> {
    parts: S,
    gathered: BytesMut,
    /// What is left of the piece under way, that is behind the ones given out.
    left: usize,
    ended: bool,
}

impl<S, E> Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    pub(super) fn of(parts: S) -> Self {
        Self {
            parts,
            gathered: BytesMut::new(),
            left: PIECE,
            ended: false,
        }
    }

    /// The bytes up to the next multiple of a piece: fewer of parts that come slowly, and at the end;
    /// `None` behind it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, E> {
        let mut due = None;
        while !self.ended && self.gathered.len() < self.left {
            let next = self.parts.next();
            let part = if self.gathered.is_empty() {
                next.await
            } else {
                let due = *due.get_or_insert_with(|| Instant::now() + SOON);
                match timeout_at(due, next).await {
                    Ok(part) => part,
                    Err(_) => break,
                }
            };
            match part.transpose()? {
                Some(part) => self.gathered.extend_from_slice(&part),
                None => self.ended = true,
            }
        }
        let piece = self.gathered.split_to(self.left.min(self.gathered.len()));
        self.left = match self.left - piece.len() {
            0 => PIECE,
            left => left,
        };
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;

    /// The pieces of parts that are there at once, of so many bytes.
    fn pieces(parts: &[usize]) -> Vec<usize> {
        let whole = parts.iter().sum();
        let whole: Vec<u8> = (0..=250).cycle().take(whole).collect();
        let mut rest = Bytes::from(whole.clone());
        let parts = parts.iter().map(|length| Ok(rest.split_to(*length)));
        let mut pieces = Pieces::of(stream::iter(parts.collect::<Vec<Result<_, Infallible>>>()));
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            while let Ok(Some(piece)) = pieces.next().await {
                lengths.push(piece.len());
                all.extend_from_slice(&piece);
            }
        });
        assert!(all == whole, "bytes are lost, changed or moved");
        lengths
    }

    #[test]
    fn are_whole_where_parts_come_fast() {
        assert!(pieces(&[]).is_empty());
        assert_eq!(pieces(&[0, 5]), [5]);
        assert_eq!(pieces(&[16 * 1024; 9]), [PIECE, PIECE, 16 * 1024]);
        assert_eq!(pieces(&[PIECE + 1, PIECE + 1]), [PIECE, PIECE, 2]);
    }

    /// Nothing comes before what there is was given out.
    #[tokio::test]
    async fn are_short_where_parts_are_waited_for_and_then_end_where_they_would_have() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let parts = stream::unfold(receiver, async |mut receiver| {
            let part: Bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(part), receiver))
        });
        let mut pieces = Pieces::of(Box::pin(parts));
        let mut next = async |length| {
            sender.send(Bytes::from(vec![0; length])).unwrap();
            pieces.next().await.unwrap().unwrap().len()
        };
        assert_eq!(next(10).await, 10);
        assert_eq!(next(PIECE).await, PIECE - 10);
        assert_eq!(next(10).await, 20);
        drop(sender);
        assert!(pieces.next().await.unwrap().is_none());
    }

    proptest! {
        #[test]
        fn end_at_multiples(parts in prop::collection::vec(0..200_000_usize, 0..9)) {
            let lengths = pieces(&parts);
            let (last, before) = lengths.split_last().unwrap_or((&PIECE, &[]));
            prop_assert!(before.iter().all(|length| *length == PIECE) && *last <= PIECE);
        }
    }
}
