//! Uploads in parts: tus 1.0.0, from its specification.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::harness::raw::Response;
use crate::harness::{OWNER, Server, TOKEN};
use crate::wire::ingest::wav;

pub const TUS: &str = "Tus-Resumable: 1.0.0";
const PART: &str = "Content-Type: application/offset+octet-stream";

/// `method target` of one who speaks tus, with this content.
///
/// An upload is locked while somebody brings it; a process that another test starts holds the lock
/// too, from its fork to its exec.
fn ask(server: &Server, method: &str, target: &str, fields: &[&str], content: &[u8]) -> Response {
    for _ in 0..100 {
        let response = ask_once(server, method, target, fields, content);
        if response.status != 423 {
            return response;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("an upload stays locked");
}

fn ask_once(
    server: &Server,
    method: &str,
    target: &str,
    fields: &[&str],
    content: &[u8],
) -> Response {
    let mut client = server.connect();
    client.bring(method, target, &[&[TOKEN, TUS], fields].concat(), content);
    let response = client.response(method);
    let version = response.field("tus-resumable");
    assert_eq!(version, Some("1.0.0"), "{response:?}");
    response
}

pub fn begin(server: &Server, id: &str, length: usize) -> String {
    let target = format!("/api/v1/uploads/{OWNER}/{id}");
    let length = format!("Upload-Length: {length}");
    let begun = ask(server, "POST", &target, &[&length], b"");
    assert_eq!(begun.status, 201, "{begun:?}");
    assert!(begun.field("upload-expires").is_some());
    begun.field("location").unwrap().to_owned()
}

pub fn part(server: &Server, upload: &str, offset: usize, more: &[&str], bytes: &[u8]) -> Response {
    let offset = format!("Upload-Offset: {offset}");
    ask(
        server,
        "PATCH",
        upload,
        &[&[PART, &offset], more].concat(),
        bytes,
    )
}

pub fn offset(server: &Server, upload: &str) -> Option<usize> {
    let head = ask(server, "HEAD", upload, &[], b"");
    if head.status != 200 {
        assert_eq!(head.status, 404, "{head:?}");
        return None;
    }
    assert_eq!(head.field("cache-control"), Some("no-store"));
    Some(head.field("upload-offset").unwrap().parse().unwrap())
}

#[test]
fn what_comes_in_parts_is_served_when_it_is_whole() {
    let server = Server::taking_in();
    let bytes = wav(1_000_000);
    let upload = begin(&server, "call", bytes.len());
    let mut sent = 0;
    for piece in bytes.chunks(300_001) {
        assert_eq!(offset(&server, &upload), Some(sent));
        assert!(!server.file("call.wav").exists());
        let taken = part(&server, &upload, sent, &[], piece);
        assert_eq!(taken.status, 204, "{taken:?}");
        sent += piece.len();
        assert_eq!(taken.field("upload-offset"), Some(&*sent.to_string()));
    }
    assert_eq!(std::fs::read(server.file("call.wav")).unwrap(), bytes);
    let fetched = server.get(&server.sign("call.wav"), &[]);
    assert!(fetched.body == bytes && fetched.field("repr-digest").is_some());
    // Whoever lost the last answer learns that it is done; a part more is none.
    assert_eq!(offset(&server, &upload), Some(sent));
    assert_eq!(part(&server, &upload, sent, &[], b"").status, 204);
    assert_eq!(part(&server, &upload, sent, &[], b"x").status, 413);
    assert_eq!(ask(&server, "DELETE", &upload, &[], b"").status, 204);
    assert_eq!(offset(&server, &upload), None);
    assert!(server.file("call.wav").exists());
}

#[test]
fn what_is_spoken_is_told() {
    let server = Server::taking_in();
    let target = format!("/api/v1/uploads/{OWNER}/call");
    let told = server.ask("OPTIONS", &target, &[TOKEN]);
    assert_eq!(told.status, 204);
    for (name, value) in [
        ("tus-resumable", "1.0.0"),
        ("tus-version", "1.0.0"),
        ("tus-extension", "creation,termination,checksum,expiration"),
        ("tus-checksum-algorithm", "sha1,sha256"),
        ("tus-max-size", "2147483648"),
    ] {
        assert_eq!(told.field(name), Some(value));
    }
    let old = server.ask("POST", &target, &[TOKEN, "Upload-Length: 5"]);
    assert_eq!((old.status, old.field("tus-version")), (412, Some("1.0.0")));
    let nobody = server.ask("POST", &target, &[TUS, "Upload-Length: 5"]);
    assert_eq!(nobody.status, 401);
}

#[test]
fn beginnings_that_lead_nowhere_are_refused() {
    let server = Server::taking_in();
    begin(&server, "begun", 1000);
    let mut client = server.connect();
    let put = format!("/api/v1/recordings/{OWNER}/there");
    client.bring("PUT", &put, &[TOKEN], &wav(1000));
    assert_eq!(client.response("PUT").status, 201);
    let metadata = |kind: &str| {
        format!(
            "Upload-Metadata: filename eA==, filetype {}",
            BASE64.encode(kind)
        )
    };
    let (html, audio) = (metadata("text/html"), metadata("audio/wav"));
    for (id, fields, status) in [
        ("new", &["X: no length"][..], 400),
        ("new", &["Upload-Length: x"], 400),
        ("new", &["Upload-Defer-Length: 1"], 400),
        ("new", &["Upload-Length: 99999999999"], 413),
        ("new", &["Upload-Length: 9", &html], 415),
        (
            "new",
            &["Upload-Length: 9", "Upload-Metadata: filetype !"],
            400,
        ),
        ("there", &["Upload-Length: 9"], 409),
        ("there", &["Upload-Length: 1000", "If-Match: *"], 400),
        ("there", &["Upload-Length: 1000", "If-None-Match: *"], 412),
        ("..", &["Upload-Length: 9"], 400),
        ("new", &["Upload-Length: 9", &audio], 201),
    ] {
        let target = format!("/api/v1/uploads/{OWNER}/{id}");
        let answer = ask(&server, "POST", &target, fields, b"");
        assert_eq!(answer.status, status, "{fields:?} {answer:?}");
    }
    let target = format!("/api/v1/uploads/{OWNER}/new");
    assert_eq!(ask(&server, "PUT", &target, &[], b"").status, 405);
    let none = format!("/api/v1/uploads/{}", "0".repeat(32));
    assert_eq!(offset(&server, &none), None);
}

#[test]
fn a_part_begins_where_the_last_one_ended() {
    let server = Server::taking_in();
    let bytes = wav(1000);
    let upload = begin(&server, "call", 1000);
    assert_eq!(part(&server, &upload, 0, &[], &bytes[..400]).status, 204);
    for (at, piece, status) in [
        (0, &bytes[..], 409),
        (399, &bytes[399..], 409),
        (401, &bytes[401..], 409),
    ] {
        assert_eq!(part(&server, &upload, at, &[], piece).status, status);
    }
    let long = part(&server, &upload, 400, &[], &[0; 601]);
    assert_eq!(long.status, 413);
    let typed = ask(
        &server,
        "PATCH",
        &upload,
        &["Upload-Offset: 400"],
        &bytes[400..],
    );
    assert_eq!(typed.status, 415);
    assert_eq!(offset(&server, &upload), Some(400));
    assert_eq!(part(&server, &upload, 400, &[], &bytes[400..]).status, 204);
    assert_eq!(std::fs::read(server.file("call.wav")).unwrap(), bytes);
}

#[test]
fn a_part_whose_checksum_does_not_hold_does_not_count() {
    let server = Server::taking_in();
    let bytes = wav(1000);
    let upload = begin(&server, "call", 1000);
    let sha1 = |bytes| {
        format!(
            "Upload-Checksum: sha1 {}",
            BASE64.encode(Sha1::digest(bytes))
        )
    };
    let sha256 = |bytes| {
        format!(
            "Upload-Checksum: sha256 {}",
            BASE64.encode(Sha256::digest(bytes))
        )
    };
    let (one, two) = bytes.split_at(500);
    for (field, status) in [
        (sha1(two), 460),
        (sha256(two), 460),
        ("Upload-Checksum: md5 AAAA".to_owned(), 400),
        ("Upload-Checksum: sha1".to_owned(), 400),
    ] {
        assert_eq!(
            part(&server, &upload, 0, &[&field], one).status,
            status,
            "{field}"
        );
        assert_eq!(offset(&server, &upload), Some(0));
    }
    // Cut off in the middle, what cannot be checked does not count either.
    let mut client = server.connect();
    let fields = [
        TOKEN,
        TUS,
        PART,
        "Upload-Offset: 0",
        &sha1(one),
        "Content-Length: 500",
    ];
    client.ask("PATCH", &upload, &fields);
    client.send(&one[..300]);
    drop(client);
    // Until the server has noticed, the upload is somebody else's.
    loop {
        let head = ask(&server, "HEAD", &upload, &[], b"");
        if head.status != 423 {
            assert_eq!(head.field("upload-offset"), Some("0"), "{head:?}");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(part(&server, &upload, 0, &[&sha1(one)], one).status, 204);
    assert_eq!(
        part(&server, &upload, 500, &[&sha256(two)], two).status,
        204
    );
    assert_eq!(std::fs::read(server.file("call.wav")).unwrap(), bytes);
}

#[test]
fn what_can_never_be_put_is_given_up() {
    let server = Server::taking_in();
    let upload = begin(&server, "call", 11);
    assert_eq!(part(&server, &upload, 0, &[], b"<html></htm").status, 422);
    assert_eq!(offset(&server, &upload), None);
    let (one, other) = (begin(&server, "call", 1000), begin(&server, "call", 1000));
    let mut bytes = wav(1000);
    assert_eq!(part(&server, &one, 0, &[], &bytes).status, 204);
    bytes[999] ^= 1;
    assert_eq!(part(&server, &other, 0, &[], &bytes).status, 409);
    assert_eq!(offset(&server, &other), None);
    let left = std::fs::read_dir(server.root().join("+incoming")).unwrap();
    // The one that is done is remembered.
    assert_eq!(left.count(), 1);
}
