//! Where log lines go, and in which shape.
//!
//! A command writes its lines itself. A server leaves them to a thread of its own, by a queue that
//! is bounded: who reads standard error slowly loses lines, which are counted, and stalls nobody.

use std::io;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Config, LogFormat};

/// Most lines that wait for standard error; a few MiB of them.
const WAITING: usize = 16 * 1024;

/// The thread that writes. What waits when this is dropped is written then, for a second at most.
pub(super) struct Writer {
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

impl Writer {
    /// Tells how many lines were lost.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX)
    }
}

/// Begins the log of a command.
pub(super) fn begin(config: &Config) {
    install(config, io::stderr);
}

/// Begins the log of a server.
pub(super) fn begin_apart(config: &Config) -> Writer {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(io::stderr());
    let dropped = writer.error_counter();
    install(config, writer);
    Writer {
        dropped,
        _guard: guard,
    }
}

fn install(config: &Config, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log_filter))
        .with_writer(writer)
        // It would be told by eprintln!, which panics where standard error cannot be written.
        .log_internal_errors(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
