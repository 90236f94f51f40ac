//! Turns: what keeps downloads from making listeners wait.
//!
//! A response that has already sent a good part is a download; one that has not is somebody's seek.
//! Downloads stand in a line, and a few of them are let through once per round of the scheduler, so
//! that between any two everybody else who is ready has been served. While nobody else is, more are
//! let through, each with more; when a seek comes, one at a time, and for a while behind a response that is
//! short or begins within its file, which is sure to be a seek: what begins a download looks like one. Nobody
//! starves: the line moves with every round.
//!
//! On a connection of HTTP/2 all responses are as one, which begins anew with each request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::instant;

/// A response that has sent so much is a download. Its head does not count, so that a range of a
/// megabyte does not wait for its last bytes.
pub(super) const DOWNLOAD_FROM: usize = 1024 * 1024;
/// What a download may send in a turn while others wait.
const LEAST: usize = 256 * 1024;
/// What it may send in a turn while nobody does.
const MOST: usize = 4 * 1024 * 1024;
/// Most of what has to be copied, or encrypted, that goes in a turn, whoever waits: it takes longer.
const MOST_COPIED: usize = 128 * 1024;
/// Most downloads that are let through in one round: whoever seeks next waits for all of them.
const MOST_A_ROUND: usize = 4;
/// Where somebody seeks, others will, or he again: for so long rounds stay narrow.
const WARY: Duration = Duration::from_millis(100);

/// How many downloads a round lets through, and how much each of them may send.
#[derive(Debug, Default)]
struct Round {
    width: usize,
    narrow_until: Option<Instant>,
}

impl Round {
    /// The next one: whether somebody else has sent something since the last, and a seek was answered.
    fn next(&mut self, contended: bool, sought: bool, now: Instant) -> (usize, usize) {
        if sought {
            self.narrow_until = now.checked_add(WARY);
        }
        if contended || self.narrow_until.is_some_and(|until| now < until) {
            self.width = 1;
            (self.width, LEAST)
        } else {
            self.width = MOST_A_ROUND.min(self.width.max(1) * 2);
            (self.width, MOST)
        }
    }
}

/// The line of one runtime's downloads.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: Mutex<VecDeque<(Waker, Arc<AtomicUsize>)>>,
    arrived: Notify,
    /// Others have written since the last round.
    contended: AtomicBool,
    /// There was a response since the last round that is sure to be a seek's.
    sought: AtomicBool,
}

impl Turns {
    fn line(&self) -> MutexGuard<'_, VecDeque<(Waker, Arc<AtomicUsize>)>> {
        // Nothing that holds the lock can panic half-way.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.line().len()
    }

    /// A response of `length` bytes is on its way; it was sought where it does not begin with the beginning.
    pub(super) fn answered(&self, length: u64, was_sought: bool) {
        let is_short = usize::try_from(length).is_ok_and(|length| length <= DOWNLOAD_FROM);
        if is_short || was_sought {
            self.sought.store(true, Ordering::Relaxed);
        }
    }

    /// Lets downloads through, round after round.
    pub(super) async fn serve(&self) {
        let mut round = Round::default();
        loop {
            if self.line().is_empty() {
                self.arrived.notified().await;
            }
            // Comes back when all who were ready have run and the sockets have been asked again.
            tokio::task::yield_now().await;
            let contended = self.contended.swap(false, Ordering::Relaxed);
            let sought = self.sought.swap(false, Ordering::Relaxed);
            let (width, allowance) = round.next(contended, sought, instant());
            let mut line = self.line();
            for _ in 0..width.min(line.len()) {
                if let Some((waker, granted)) = line.pop_front() {
                    granted.store(allowance, Ordering::Relaxed);
                    waker.wake();
                }
            }
        }
    }
}

/// One connection's place among the others.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    granted: Arc<AtomicUsize>,
    waiting: bool,
    /// What the response under way has sent.
    sent: usize,
    /// Most that it sends in a turn.
    most: usize,
}

impl Turn {
    pub(super) fn of(turns: Arc<Turns>) -> Self {
        Self {
            turns,
            granted: Arc::default(),
            waiting: false,
            sent: 0,
            most: MOST,
        }
    }

    /// The place of one who sends what was copied.
    pub(super) fn of_copies(turns: Arc<Turns>) -> Self {
        Self {
            most: MOST_COPIED,
            ..Self::of(turns)
        }
    }

    /// Another response begins.
    pub(super) fn begin(&mut self) {
        self.sent = 0;
    }

    /// What the response under way has sent since it became a download.
    pub(super) const fn downloaded(&self) -> Option<usize> {
        self.sent.checked_sub(DOWNLOAD_FROM)
    }

    /// How much may be sent now; a download waits for its turn.
    pub(super) fn poll_allowance(&mut self, cx: &Context<'_>) -> Poll<usize> {
        if self.sent < DOWNLOAD_FROM {
            self.turns.contended.store(true, Ordering::Relaxed);
            return Poll::Ready(DOWNLOAD_FROM - self.sent);
        }
        match self.granted.load(Ordering::Relaxed) {
            0 => {
                if !self.waiting {
                    self.waiting = true;
                    let entry = (cx.waker().clone(), Arc::clone(&self.granted));
                    self.turns.line().push_back(entry);
                    self.turns.arrived.notify_one();
                }
                Poll::Pending
            }
            granted => {
                self.waiting = false;
                let allowance = granted.min(self.most);
                self.granted.store(allowance, Ordering::Relaxed);
                Poll::Ready(allowance)
            }
        }
    }

    /// So much was sent; what is left of a turn goes on with the next write.
    pub(super) fn spend(&mut self, sent: usize) {
        self.sent = self.sent.saturating_add(sent);
        let left = self.granted.load(Ordering::Relaxed);
        // Whoever was let through stands in the line no more, seen or not.
        self.waiting &= left == 0;
        self.granted
            .store(left.saturating_sub(sent), Ordering::Relaxed);
    }

    /// The socket takes nothing more: the turn is over.
    pub(super) fn pass(&mut self) {
        self.waiting &= self.granted.swap(0, Ordering::Relaxed) == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(turn: &mut Turn) -> Poll<usize> {
        turn.poll_allowance(&Context::from_waker(Waker::noop()))
    }

    /// Lets so many rounds pass.
    fn rounds(turns: &Arc<Turns>, count: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let serving = Arc::clone(turns);
            let serving = tokio::spawn(async move { serving.serve().await });
            for _ in 0..=count {
                tokio::task::yield_now().await;
            }
            serving.abort();
        });
    }

    fn download(turns: &Arc<Turns>) -> Turn {
        let mut turn = Turn::of(Arc::clone(turns));
        turn.spend(DOWNLOAD_FROM);
        turn
    }

    #[test]
    fn a_seek_never_waits_and_a_download_does() {
        let turns = Arc::new(Turns::default());
        let mut turn = Turn::of(Arc::clone(&turns));
        assert_eq!(polled(&mut turn), Poll::Ready(DOWNLOAD_FROM));
        turn.spend(DOWNLOAD_FROM - 1);
        assert_eq!(polled(&mut turn), Poll::Ready(1));
        turn.spend(1);
        assert_eq!(polled(&mut turn), Poll::Pending);
        turn.begin();
        assert_eq!(polled(&mut turn), Poll::Ready(DOWNLOAD_FROM));
    }

    #[test]
    fn a_turn_is_spent() {
        let turns = Arc::new(Turns::default());
        let mut turn = download(&turns);
        assert_eq!(polled(&mut turn), Poll::Pending);
        rounds(&turns, 2);
        assert_eq!(polled(&mut turn), Poll::Ready(MOST));
        turn.spend(MOST - 5);
        assert_eq!(polled(&mut turn), Poll::Ready(5));
        turn.pass();
        assert_eq!(polled(&mut turn), Poll::Pending);
    }

    #[test]
    fn a_turn_that_went_by_unseen_is_waited_for_again() {
        let turns = Arc::new(Turns::default());
        let mut turn = download(&turns);
        assert_eq!(polled(&mut turn), Poll::Pending);
        rounds(&turns, 2);
        turn.pass();
        assert_eq!(polled(&mut turn), Poll::Pending);
        rounds(&turns, 2);
        assert_eq!(polled(&mut turn), Poll::Ready(MOST));
    }

    #[test]
    fn what_is_copied_goes_in_short_turns() {
        let turns = Arc::new(Turns::default());
        let mut turn = Turn::of_copies(Arc::clone(&turns));
        turn.spend(DOWNLOAD_FROM);
        assert_eq!(polled(&mut turn), Poll::Pending);
        rounds(&turns, 2);
        assert_eq!(polled(&mut turn), Poll::Ready(MOST_COPIED));
        turn.spend(MOST_COPIED);
        assert_eq!(polled(&mut turn), Poll::Pending);
    }

    #[test]
    fn a_response_that_is_short_or_begins_within_is_a_seek_s() {
        let turns = Arc::new(Turns::default());
        let mut download = download(&turns);
        for (length, was_sought, allowance) in [
            (DOWNLOAD_FROM + 1, false, MOST),
            (DOWNLOAD_FROM, false, LEAST),
            (usize::MAX, true, LEAST),
        ] {
            assert_eq!(polled(&mut download), Poll::Pending);
            turns.answered(u64::try_from(length).unwrap(), was_sought);
            rounds(&turns, 2);
            assert_eq!(polled(&mut download), Poll::Ready(allowance));
            download.pass();
        }
    }

    #[test]
    fn rounds_stay_narrow_for_a_while_behind_a_short_response() {
        let mut round = Round::default();
        let begin = instant();
        let mut at = |ms, contended, sought| {
            round.next(contended, sought, begin + Duration::from_millis(ms))
        };
        assert_eq!(at(0, false, false), (2, MOST));
        assert_eq!(at(0, false, false), (4, MOST));
        assert_eq!(at(1, true, true), (1, LEAST));
        assert_eq!(at(5, false, true), (1, LEAST));
        assert_eq!(at(104, false, false), (1, LEAST));
        for width in [2, 4, 4] {
            assert_eq!(at(105, false, false), (width, MOST));
        }
        // What is longer may be a download's beginning.
        assert_eq!(at(106, true, false), (1, LEAST));
        assert_eq!(at(106, false, false), (2, MOST));
    }

    #[test]
    fn beside_seeks_one_download_goes_a_round_and_all_go_in_turn() {
        let turns = Arc::new(Turns::default());
        let mut downloads: Vec<_> = (0..3).map(|_| download(&turns)).collect();
        for turn in &mut downloads {
            assert_eq!(polled(turn), Poll::Pending);
        }
        let mut seek = Turn::of(Arc::clone(&turns));
        for through in 1..=3 {
            assert!(polled(&mut seek).is_ready());
            rounds(&turns, 1);
            let ready = downloads
                .iter()
                .filter(|turn| turn.granted.load(Ordering::Relaxed) > 0);
            assert_eq!(ready.count(), through);
        }
        assert_eq!(polled(&mut downloads[0]), Poll::Ready(LEAST));
    }

    #[test]
    fn alone_downloads_need_not_wait_for_one_another() {
        let turns = Arc::new(Turns::default());
        let mut downloads: Vec<_> = (0..3).map(|_| download(&turns)).collect();
        for turn in &mut downloads {
            assert_eq!(polled(turn), Poll::Pending);
        }
        rounds(&turns, 3);
        for turn in &mut downloads {
            assert_eq!(polled(turn), Poll::Ready(MOST));
        }
    }
}
