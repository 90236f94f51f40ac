//! Lines on their way to standard error: all threads of the server leave them here, in one order, and
//! one thread writes them, many at once.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use memchr::{memchr, memchr_iter, memrchr};

/// Most lines that wait, those that are being written among them.
const MOST_LINES: usize = 16 * 1024;
/// Most bytes of them.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// So many lines are written without waiting for more.
const MANY: usize = MOST_LINES / 4;
/// How long the thread leaves lines to gather, having written some. The first ones after a silence
/// are written at once.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of one write: more than `PIPE_BUF`, and a pipe that another process writes to as well could
/// take its lines in between.
const AT_ONCE: usize = 4096;
/// Most room that is kept for what is to come, in bytes.
const KEPT: usize = 1024 * 1024;
/// How long an end waits for lines to be written.
const LAST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something waits, or the end has come.
    more: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Lines,
    /// How much of it is being written.
    writing: Amount,
    lost: u64,
    /// Nothing waits, and the thread wants to be woken.
    asleep: bool,
    closed: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    count: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Amount {
    lines: usize,
    bytes: usize,
}

impl State {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.count + self.writing.lines < MOST_LINES
            && self.waiting.text.len() + self.writing.bytes + bytes <= MOST_BYTES
    }
}

impl Queue {
    /// An empty queue, and a thread that writes what comes to `out`.
    pub(super) fn begin(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let thread = Arc::clone(&queue);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || thread.write(out))?;
        Ok(queue)
    }

    /// Leaves whole lines, or counts them as one that is lost.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.ended || !state.has_room_for(line.len()) {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.waiting.text.extend_from_slice(line);
        state.waiting.count += 1;
        let wakes = mem::take(&mut state.asleep) || state.waiting.count == MANY;
        drop(state);
        if wakes {
            self.more.notify_one();
        }
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Has what waits written, and waits for that a second at most.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.more.notify_one();
        drop(
            self.ended
                .wait_timeout_while(state, LAST, |state| !state.ended),
        );
    }

    /// The thread's work.
    fn write(&self, mut out: impl Write) {
        let mut lines = Lines::default();
        while self.take(&mut lines) {
            let lost = write_lines(&mut out, &lines.text);
            lines.text.clear();
            lines.text.shrink_to(KEPT);
            self.written(lost);
        }
    }

    /// Exchanges empty `lines` for those that wait, as soon as there are some; `false` at the end.
    fn take(&self, lines: &mut Lines) -> bool {
        let mut state = self.state();
        while state.waiting.count == 0 {
            if state.closed {
                state.ended = true;
                self.ended.notify_all();
                return false;
            }
            state.asleep = true;
            let woken = self.more.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        lines.count = 0;
        mem::swap(&mut state.waiting, lines);
        state.writing = Amount {
            lines: lines.count,
            bytes: lines.text.len(),
        };
        true
    }

    /// Makes room for others, and leaves them the time to come.
    fn written(&self, lost: u64) {
        let mut state = self.state();
        state.writing = Amount::default();
        state.lost = state.lost.saturating_add(lost);
        let few = |state: &mut State| state.waiting.count < MANY && !state.closed;
        drop(self.more.wait_timeout_while(state, PAUSE, few));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines, and says how many of them could not be.
fn write_lines(out: &mut impl Write, mut text: &[u8]) -> u64 {
    let mut lost = 0;
    while !text.is_empty() {
        let (lines, rest) = text.split_at(first_lines(text));
        if write_whole(out, lines).is_err() {
            lost += u64::try_from(memchr_iter(b'\n', lines).count()).unwrap_or(u64::MAX);
        }
        text = rest;
    }
    lost
}

/// Bytes of the first lines that are written at once, of the first one at least.
fn first_lines(text: &[u8]) -> usize {
    let first = &text[..text.len().min(AT_ONCE)];
    memrchr(b'\n', first)
        .or_else(|| memchr(b'\n', text))
        .map_or(text.len(), |at| at + 1)
}

fn write_whole(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = &text[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Who shares it with us has made it so; its reader is slow all the same.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells each write, and is done with it when it is told so, or nobody can tell it.
    struct Slow {
        writes: Sender<String>,
        goes_on: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.writes
                .send(String::from_utf8(text.to_owned()).unwrap())
                .unwrap();
            let _ = self.goes_on.recv();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Arc<Queue>, Receiver<String>, Sender<()>) {
        let ((writes, written), (go_on, goes_on)) = (channel(), channel());
        let queue = Queue::begin(Slow { writes, goes_on }).unwrap();
        (queue, written, go_on)
    }

    #[test]
    fn what_cannot_wait_is_lost_and_counted_to_the_line() {
        let (queue, written, go_on) = slow();
        queue.push(b"first\n");
        assert_eq!(written.recv().unwrap(), "first\n");
        for _ in 1..MOST_LINES {
            queue.push(b"waits\n");
        }
        assert_eq!(queue.lost(), 0);
        queue.push(b"lost\n");
        queue.push(b"lost\n");
        assert_eq!(queue.lost(), 2);
        drop(go_on);
        queue.close();
        let rest: String = written.try_iter().collect();
        assert_eq!(rest, "waits\n".repeat(MOST_LINES - 1));
    }

    #[test]
    fn lines_wait_up_to_a_number_of_bytes() {
        let (queue, written, go_on) = slow();
        queue.push(b"first\n");
        written.recv().unwrap();
        let mut long = vec![b'x'; MOST_BYTES / 4];
        long.push(b'\n');
        for lost in [0, 0, 0, 1] {
            queue.push(&long);
            assert_eq!(queue.lost(), lost);
        }
        queue.push(b"fits\n");
        assert_eq!(queue.lost(), 1);
        drop(go_on);
        queue.close();
        assert_eq!(written.iter().last().unwrap(), "fits\n");
    }

    #[test]
    fn many_lines_are_one_write_and_none_is_torn() {
        let (queue, written, go_on) = slow();
        queue.push(b"first\n");
        written.recv().unwrap();
        let line = format!("{}\n", "x".repeat(999));
        let longer = format!("{}\n", "y".repeat(2 * AT_ONCE));
        for line in [&line, &line, &line, &line, &line, &longer, &line] {
            queue.push(line.as_bytes());
        }
        drop(go_on);
        queue.close();
        let writes: Vec<_> = written.iter().collect();
        assert_eq!(writes, [line.repeat(4), line.clone(), longer, line]);
    }

    #[test]
    fn a_line_after_a_silence_waits_for_nothing_and_those_behind_it_are_few_writes() {
        const LINES: usize = 1000;
        let (queue, written, go_on) = slow();
        drop(go_on);
        for _ in 0..3 {
            queue.push(b"prompt\n");
            assert_eq!(written.recv().unwrap(), "prompt\n");
        }
        for _ in 0..LINES {
            queue.push(b"one of many\n");
        }
        queue.close();
        let writes: Vec<_> = written.iter().collect();
        assert_eq!(writes.concat(), "one of many\n".repeat(LINES));
        assert!(writes.len() < LINES / 10, "{}", writes.len());
    }

    #[test]
    fn an_end_waits_for_nobody_for_ever() {
        let (queue, written, go_on) = slow();
        queue.push(b"stuck\n");
        written.recv().unwrap();
        queue.close();
        assert!(!queue.state().ended);
        drop(go_on);
    }

    #[test]
    fn a_line_after_the_end_is_lost() {
        let queue = Queue::begin(io::sink()).unwrap();
        queue.push(b"in time\n");
        queue.close();
        assert_eq!(queue.lost(), 0);
        queue.push(b"too late\n");
        assert_eq!(queue.lost(), 1);
    }

    /// Full, but for a write that is interrupted and one that would block.
    struct Full(Vec<io::ErrorKind>);

    impl Write for Full {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(kind) => Err(kind.into()),
                None => Ok(text.len().min(2)),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_what_can_later_is() {
        use io::ErrorKind::{Interrupted, StorageFull, WouldBlock};

        let text = b"one\ntwo\n";
        assert_eq!(write_lines(&mut Full(vec![]), text), 0);
        let later = vec![WouldBlock, Interrupted];
        assert_eq!(write_lines(&mut Full(later), text), 0);
        assert_eq!(write_lines(&mut Full(vec![StorageFull]), text), 2);
    }
}
