//! Where log lines go, and in which shape.
//!
//! A command writes its lines itself. A server leaves them to a thread of its own, by a queue that
//! is bounded: who reads standard error slowly loses lines, which are counted, and stalls nobody.

mod queue;

use std::io;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::queue::Queue;
use crate::app::{AccessLog, Shape};
use crate::config::{Config, LogFormat};

/// The thread that writes. What waits when this is dropped is written then, for a second at most.
pub(super) struct Writer {
    queue: Arc<Queue>,
    format: LogFormat,
}

impl Writer {
    /// Tells how many lines were lost.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let queue = Arc::clone(&self.queue);
        move || queue.lost()
    }

    /// The access log's short way to the thread. `None` where lines are coloured: somebody looks at
    /// them, and there is no hurry.
    pub(super) fn access(&self) -> Option<AccessLog> {
        let shape = match self.format {
            LogFormat::Json => Shape::Json,
            LogFormat::Text if is_seen() => return None,
            LogFormat::Text => Shape::Text,
        };
        let queue = Arc::clone(&self.queue);
        Some(AccessLog::new(shape, move |line| {
            queue.push(line.as_bytes());
        }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Begins the log of a command.
pub(super) fn begin(config: &Config) {
    install(config, io::stderr);
}

/// Begins the log of a server.
///
/// # Errors
/// No thread can be had.
pub(super) fn begin_apart(config: &Config) -> io::Result<Writer> {
    let queue = Queue::begin(io::stderr())?;
    install(config, Arc::clone(&queue));
    Ok(Writer {
        queue,
        format: config.log_format,
    })
}

fn install(config: &Config, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log_filter))
        .with_writer(writer)
        // It would be told by eprintln!, which panics where standard error cannot be written.
        .log_internal_errors(false)
        .with_ansi(is_seen());
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Whether standard error is a terminal.
fn is_seen() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}
