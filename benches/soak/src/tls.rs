//! TLS: what a handshake costs, tonearm and nginx in turns, each on one core, the client on another.
//! Handshakes are rustls', with one byte asked for behind each. (What bytes cost tells `versus --over tls`.)

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore,
};

use crate::client::{ask, connect};
use crate::subject::{Place, Subject};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(3);

/// How many a second, and the server's CPU time of each in microseconds.
type Figures = (f64, f64);
type Row = (String, &'static str, String);

/// Makes the certificate of both servers, on P-256.
fn certify(place: &Place) -> Result<CertificateDer<'static>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(place.path("cert.pem"), made.cert.pem())?;
    std::fs::write(place.path("key.pem"), made.signing_key.serialize_pem())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.path("key.pem"), mode)?;
    Ok(made.cert.der().clone())
}

/// TLS 1.3 with one who is trusted, sessions resumed or not.
fn client(certificate: &CertificateDer<'static>, resumed: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    if !resumed {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// One connection: a handshake, and a byte, behind which a ticket has come.
fn shake_hands(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    target: &str,
) -> Result<HandshakeKind> {
    let mut stream = connect(address)?;
    let mut session = ClientConnection::new(Arc::clone(config), address.ip().into())?;
    let mut request = Vec::new();
    ask(&mut request, "GET", target, "Range: bytes=0-0\r\n")?;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(&request)?;
    let mut answer = [0; 4096];
    let count = tls.read(&mut answer)?;
    ensure!(answer[..count].starts_with(b"HTTP/1.1 206"), "no answer");
    // The same of both servers.
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    let group = session.negotiated_key_exchange_group();
    let agreed = (suite, group.map(SupportedKxGroup::name));
    let expected = (CipherSuite::TLS13_AES_256_GCM_SHA384, NamedGroup::X25519);
    ensure!(agreed == (Some(expected.0), Some(expected.1)), "{agreed:?}");
    session.handshake_kind().context("no handshake")
}

fn handshakes(
    subject: &Subject,
    target: &str,
    config: &Arc<ClientConfig>,
    resumed: bool,
) -> Result<Figures> {
    // The first is full in any case.
    shake_hands(config, subject.public, target)?;
    let (cpu, begin, mut count) = (subject.cpu(), Instant::now(), 0_u32);
    while begin.elapsed() < TIME {
        let kind = shake_hands(config, subject.public, target)?;
        ensure!((kind == HandshakeKind::Resumed) == resumed, "{kind:?}");
        count += 1;
    }
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    Ok((rate, (subject.cpu() - cpu) * 1e6 / f64::from(count)))
}

fn median(figures: &[Figures], which: fn(&Figures) -> f64) -> f64 {
    let mut figures: Vec<_> = figures.iter().map(which).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Full and resumed handshakes, each in turns.
pub fn beside_nginx(place: &Place) -> Result<Vec<Row>> {
    let certificate = certify(place)?;
    let ours = || -> Result<Subject> {
        let settings = [
            ("TONEARM_TLS_CERTIFICATE", "cert.pem"),
            ("TONEARM_TLS_KEY", "key.pem"),
            ("TONEARM_WORKERS", "1"),
        ];
        place.serve(20_000, &settings)
    };
    let nginx = || place.nginx_with_tls()?.context("nginx is not installed");
    let targets = [place.target("call")?, "/1/2/call.wav".to_owned()];
    let mut found = vec![Vec::new(); 4];
    for _ in 0..ROUNDS {
        for server in 0..2 {
            let subject = if server == 0 { ours()? } else { nginx()? };
            // nginx is there before its worker is.
            std::thread::sleep(Duration::from_millis(200));
            subject.hold_to_core(0)?;
            let target = &targets[server];
            for (at, resumed) in [(0, false), (2, true)] {
                let config = client(&certificate, resumed)?;
                found[at + server].push(handshakes(&subject, target, &config, resumed)?);
            }
        }
    }
    let work = ["full handshakes", "resumed handshakes"];
    let row = |(at, figures): (usize, &Vec<Figures>)| {
        let (rate, cpu) = (
            median(figures, |found| found.0),
            median(figures, |found| found.1),
        );
        let server = ["tonearm", "nginx"][at % 2];
        (
            format!("TLS 1.3, {}", work[at / 2]),
            server,
            format!("{rate:.0}/s, {cpu:.1} µs CPU each"),
        )
    };
    Ok(found.iter().enumerate().map(row).collect())
}
