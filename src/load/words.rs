//! What is about to be done, and figures, in words for people.

use super::{Crowd, Pace, Plan, Side, float};

impl Plan {
    /// What is about to be done, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let crowds: Vec<_> = self.crowds.iter().map(Crowd::in_words).collect();
        let recordings: usize = self.sides.iter().map(|side| side.recordings.len()).sum();
        let rounds = match (self.rounds, self.sides.len()) {
            (1, 1) => String::new(),
            (rounds, sides) => format!(", {sides} sides in turn, {rounds} rounds"),
        };
        let s = if recordings == 1 { "" } else { "s" };
        format!(
            "{}, {}, {:?} a side{rounds}, {recordings} recording{s}",
            crowds.join(" beside "),
            self.protocol(),
            self.duration
        )
    }

    fn protocol(&self) -> String {
        let mut versions: Vec<_> = self.sides.iter().map(Side::version).collect();
        versions.dedup();
        let version = match &versions[..] {
            [same] => same.clone(),
            _ => {
                let to = |side: &Side| format!("{} to {}", side.version(), side.name);
                self.sides.iter().map(to).collect::<Vec<_>>().join(", ")
            }
        };
        let recordings = || self.sides.iter().flat_map(|side| &side.recordings);
        let sealed = recordings()
            .filter(|recording| recording.is_sealed())
            .count();
        let over = match (sealed, recordings().count()) {
            (0, _) => "",
            (some, all) if some == all => " over TLS",
            _ => " partly over TLS",
        };
        let whom = match &self.tls {
            Some(tls) if !tls.is_verified() => ", certificates NOT verified",
            _ => "",
        };
        format!("{version}{over}{whom}")
    }
}

impl Side {
    fn version(&self) -> String {
        match self.http2 {
            None => "HTTP/1.1".to_owned(),
            Some(1) => "HTTP/2".to_owned(),
            Some(streams) => format!("HTTP/2 with {streams} streams a connection"),
        }
    }
}

impl Crowd {
    fn in_words(&self) -> String {
        let listeners = self.listeners;
        let pace = match self.pace {
            Pace::Closed => format!("{listeners} listeners"),
            Pace::Open(rate) => format!("{rate} visits a second of up to {listeners} listeners"),
            Pace::Once => format!("{listeners} listeners, once"),
        };
        let size = self.shape.range_size.div_ceil(1024);
        format!("{pace} ({}, ranges of {size} KiB)", self.mix)
    }
}

/// A time as text with its unit.
#[must_use]
pub fn time_text(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.0} us", seconds * 1e6),
    }
}

/// Bytes as text with their unit.
#[must_use]
pub fn bytes_text(bytes: f64) -> String {
    let units = [
        ("GiB", 1_073_741_824.0),
        ("MiB", 1_048_576.0),
        ("KiB", 1024.0),
    ];
    let fits = units.into_iter().find(|(_, size)| bytes >= *size);
    fits.map_or_else(
        || format!("{bytes:.0} B"),
        |(unit, size)| format!("{:.1} {unit}", bytes / size),
    )
}

/// A number of bytes as text with its unit.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    bytes_text(float(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_units() {
        assert_eq!(time_text(2.5), "2.50 s");
        assert_eq!(time_text(0.0025), "2.50 ms");
        assert_eq!(time_text(0.000_025), "25 us");
        assert_eq!(bytes_text(1536.0), "1.5 KiB");
        assert_eq!(bytes_text(12.0), "12 B");
    }
}
