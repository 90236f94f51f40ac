//! Two thousand forged URLs, the same on every run: none opens anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::harness::raw::{Client, Response};
use crate::harness::{OWNER, Server};

const FORGERIES: usize = 2_000;

/// A small generator (xorshift64), so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

/// A true target, taken apart.
struct True<'a> {
    target: &'a str,
    other: &'a str,
}

impl True<'_> {
    fn path(&self) -> &str {
        self.target.split_once('?').unwrap().0
    }

    fn token(&self) -> &str {
        self.target.split_once("sig=").unwrap().1
    }

    fn mac(&self) -> &str {
        self.token().rsplit_once('.').unwrap().1
    }

    fn mac_bytes(&self) -> Vec<u8> {
        BASE64URL.decode(self.mac()).unwrap()
    }

    fn with_mac(&self, mac: &[u8]) -> String {
        self.target.replace(self.mac(), &BASE64URL.encode(mac))
    }

    /// One forgery, as the bytes of a request target.
    fn forged(&self, dice: &mut Dice) -> Vec<u8> {
        match dice.below(12) {
            0 => self.flipped(dice),
            1 => self.target.as_bytes()[..dice.below(self.target.len()).max(1)].to_vec(),
            2 => self.without_a_byte(dice),
            3 => self.with_a_byte(dice),
            4 => self.swapped(dice),
            5 => self.respelt(dice),
            6 => self.with_a_flipped_mac(dice).into_bytes(),
            7 => self.with_another_sig(dice).into_bytes(),
            8 => self.elsewhere(dice).into_bytes(),
            9 => self.with_another_claim(dice).into_bytes(),
            10 => self.with_another_length(dice).into_bytes(),
            _ => self.crossed().into_bytes(),
        }
    }

    fn flipped(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.target.as_bytes().to_vec();
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
        bytes
    }

    fn without_a_byte(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.target.as_bytes().to_vec();
        bytes.remove(dice.below(bytes.len()));
        bytes
    }

    /// Within the path, the name or the token; behind the `?` a parameter of its own would do no harm.
    fn with_a_byte(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.target.as_bytes().to_vec();
        let byte = b"a0.-_~/%=A"[dice.below(10)];
        bytes.insert(dice.below(bytes.len()), byte);
        bytes
    }

    fn swapped(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.target.as_bytes().to_vec();
        let (one, other) = (dice.below(bytes.len()), dice.below(bytes.len()));
        bytes.swap(one, other);
        bytes
    }

    fn respelt(&self, dice: &mut Dice) -> Vec<u8> {
        let at = dice.below(self.target.len());
        let (head, tail) = self.target.split_at(at);
        let escaped = format!("{head}%{:02X}{}", tail.as_bytes()[0], &tail[1..]);
        escaped.into_bytes()
    }

    fn with_a_flipped_mac(&self, dice: &mut Dice) -> String {
        let mut mac = self.mac_bytes();
        let at = dice.below(mac.len());
        mac[at] ^= 1 << dice.below(8);
        self.with_mac(&mac)
    }

    fn with_another_length(&self, dice: &mut Dice) -> String {
        let mut mac = self.mac_bytes();
        mac.resize(dice.below(32), 0);
        match dice.below(3) {
            0 => self.with_mac(&mac),
            1 => self.with_mac(&[self.mac_bytes(), mac, vec![0]].concat()),
            _ => format!(
                "{}{}",
                self.target,
                dice.one_of(&["=", "==", "A", ".", "%3D", "+"])
            ),
        }
    }

    fn with_another_sig(&self, dice: &mut Dice) -> String {
        let token = self.token();
        let twice = dice.one_of(&["&sig=", "&sig", "&sig=1.k1.1700000000.", "&sig=x"]);
        match dice.below(3) {
            0 => format!("{}{twice}", self.target),
            1 => format!("{}?{}&sig={token}", self.path(), &twice[1..]),
            _ => format!("{}&sig={token}", self.target),
        }
    }

    /// The true token under a path it was not signed for.
    fn elsewhere(&self, dice: &mut Dice) -> String {
        let path = self.path();
        let other = match dice.below(6) {
            0 => path.replace("call", &format!("call{}", dice.below(100))),
            1 => path.replace(".wav", dice.one_of(&[".mp3", ".flac", ".WAV", ".wav.wav"])),
            2 => path.replace("app-101", &format!("app-{}", 102 + dice.below(100))),
            3 => path.replace('/', dice.one_of(&["//", "/./", "/../", "%2F", "\\"])),
            4 => format!("/media/{OWNER}/other.wav"),
            _ => format!(
                "{path}{}",
                dice.one_of(&["/", "/.", "%00", ";a", ".wav", "%20"])
            ),
        };
        format!("{other}?sig={}", self.token())
    }

    fn with_another_claim(&self, dice: &mut Dice) -> String {
        let parts: Vec<_> = self.token().split('.').collect();
        let exp: usize = parts[2].parse().unwrap();
        let mac = self.mac();
        let signed = match dice.below(5) {
            0 => format!("1.k1.{}", exp + 1 + dice.below(1000)),
            1 => format!(
                "1.k1.{exp}.{}",
                dice.one_of(&["di", "da", "h", "g1", "p9", "p1", "p0"])
            ),
            2 => format!(
                "1.{}.{exp}",
                dice.one_of(&["k2", "K1", "", "k1.k1", "k%31"])
            ),
            3 => format!("{}.k1.{exp}", dice.one_of(&["0", "2", "01", "", "1.1"])),
            _ => format!(
                "1.k1.{}",
                dice.one_of(&["9999999999", "0000000000", "1e9", "-1"])
            ),
        };
        format!("{}?sig={signed}.{mac}", self.path())
    }

    /// Another recording's true token.
    fn crossed(&self) -> String {
        let token = self.other.split_once("sig=").unwrap().1;
        format!("{}?sig={token}", self.path())
    }
}

fn check_refused(response: &Response, target: &str) {
    assert!(
        matches!(response.status, 400 | 403 | 404 | 414),
        "{target} got {response:?}"
    );
    assert_eq!(response.field("content-range"), None, "{target}");
    assert!(response.body.len() < 300, "{target} got {response:?}");
}

#[test]
fn no_forgery_opens_anything() {
    let server = Server::start();
    server.put("call.wav", 5_000);
    server.put("other.wav", 5_000);
    let (target, other) = (server.sign("call.wav"), server.sign("other.wav"));
    let whole = True {
        target: &target,
        other: &other,
    };
    let mut dice = Dice(0x746f_6e65_6172_6d31);
    let mut client = server.connect();
    let mut asked = 0;
    for _ in 0..FORGERIES {
        let forged = whole.forged(&mut dice);
        if forged == target.as_bytes() {
            continue;
        }
        asked += 1;
        let shown = String::from_utf8_lossy(&forged).into_owned();
        let response = ask(&mut client, &forged);
        check_refused(&response, &shown);
        if response.field("connection") == Some("close") {
            client = server.connect();
        }
    }
    assert!(asked > FORGERIES * 9 / 10, "only {asked} were asked");
    assert_eq!(
        server.get(&target, &[]).status,
        200,
        "the true one is spoilt"
    );
    let sent = server.metrics.exposition();
    let parts = |line: &&str| line.contains("status=\"206\"") && !line.ends_with(" 0");
    assert_eq!(sent.lines().find(parts), None, "{sent}");
}

fn ask(client: &mut Client, target: &[u8]) -> Response {
    let head: [&[u8]; 3] = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: rec.test\r\nRange: bytes=0-\r\n\r\n",
    ];
    client.send(head.concat());
    client.response("GET")
}
