//! `tonearm rehearse` as a process: a HubSpot that can be asked what it was told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::program::Place;
use super::tls::Made;

pub struct Rehearsal {
    pub addr: SocketAddr,
    child: Child,
}

impl Rehearsal {
    pub fn start(place: &Place, flags: &[&str]) -> Self {
        let mut command = place.command(&["rehearse", "--listen", "127.0.0.1:0"]);
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut rehearsal = Self {
            addr: SocketAddr::from(([0; 4], 0)),
            child: command.spawn().unwrap(),
        };
        let mut line = String::new();
        let mut said = BufReader::new(rehearsal.child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let addr = line
            .trim_end()
            .strip_prefix("rehearsing HubSpot on http://")
            .unwrap();
        rehearsal.addr = addr.parse().unwrap();
        rehearsal
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn state(&self) -> Value {
        // Not by the harness's client, which holds every answer against what tonearm's own are like.
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let request = "GET /_rehearse/state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// How many calls, associations and ready calls it knows.
    pub fn counts(&self) -> [usize; 3] {
        let state = self.state();
        ["calls", "associations", "ready"].map(|name| state[name].as_array().unwrap().len())
    }

    /// The requests it got, without the digits of ids.
    pub fn requests(&self) -> Vec<String> {
        let state = self.state();
        let all = state["requests"].as_array().unwrap();
        all.iter()
            .map(|seen| seen["request"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// TLS before a plain server, to which what comes out of it goes on as it is.
pub struct Front {
    pub addr: SocketAddr,
    _until: DropGuard,
}

impl Front {
    pub fn of(server: SocketAddr, made: &Made) -> Self {
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let tls = TlsAcceptor::from(made.server());
        let accepting = async move {
            while let Ok((client, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let mut client = tls.accept(client).await?;
                    let mut server = tokio::net::TcpStream::connect(server).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        };
        let until = CancellationToken::new();
        let ended = until.clone();
        std::thread::spawn(move || runtime.block_on(ended.run_until_cancelled(accepting)));
        Self {
            addr,
            _until: until.drop_guard(),
        }
    }

    pub fn base(&self) -> String {
        format!("https://{}", self.addr)
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
