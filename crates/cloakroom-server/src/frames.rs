//! Where one WebSocket frame ends and the next begins (RFC 6455 section 5.2), in the direction from server to client. Looks
//! at lengths only.

/// The longest reason: a control frame holds 125 bytes, two of them the code.
const REASON_MAX: usize = 123;

/// What a server sends to close.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    code: [u8; 2],
    reason: &'static str,
}

impl Close {
    /// The session is over: "policy violation" (section 7.4.1).
    pub const SESSION_ENDED: Self = Self { code: 1008_u16.to_be_bytes(), reason: "session ended" };
    /// The gateway stops.
    pub const GOING_AWAY: Self = Self { code: 1001_u16.to_be_bytes(), reason: "going away" };

    /// The bytes of its one frame.
    pub fn bytes(&self) -> Vec<u8> {
        let reason = self.reason.as_bytes().get(..self.reason.len().min(REASON_MAX)).unwrap_or_default();
        let len = u8::try_from(reason.len() + 2).unwrap_or(2);
        [&[0x88, len], &self.code[..], reason].concat()
    }
}

/// Follows the frames that a server sends.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    place: Place,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a header, of which this much has come; between two frames if that is nothing.
    Header { bytes: [u8; HEADER_MAX], len: usize },
    /// In a payload, of which this much is to come.
    Payload(u64),
    /// Nobody knows: what came was no frame.
    Lost,
}

/// Two bytes, and up to eight of a length. A server does not mask (section 5.1).
const HEADER_MAX: usize = 10;
const BOUNDARY: Place = Place::Header { bytes: [0; HEADER_MAX], len: 0 };

impl Default for Frames {
    fn default() -> Self {
        Self { place: BOUNDARY, closed: false }
    }
}

impl Frames {
    /// Whether a frame of one's own may be put here.
    pub const fn at_boundary(&self) -> bool {
        matches!(self.place, Place::Header { len: 0, .. })
    }

    /// Whether there is no telling any more.
    pub const fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    /// Whether the server itself has sent a frame that closes: nothing may follow it.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes note of bytes that are passed on.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.to_boundary(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes note of bytes up to the end of the frame that they belong to; returns how many those are: at least one of
    /// any.
    pub fn to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for &byte in bytes {
            let Place::Header { bytes: mut header, mut len } = self.place else { break };
            if let Some(place) = header.get_mut(len) {
                *place = byte;
            }
            len += 1;
            taken += 1;
            self.place = self.after(header, len);
            if self.at_boundary() {
                return taken;
            }
        }
        let rest = bytes.len() - taken;
        match self.place {
            Place::Header { .. } => taken,
            Place::Lost => bytes.len(),
            Place::Payload(left) => match usize::try_from(left) {
                Ok(left) if left <= rest => {
                    self.place = BOUNDARY;
                    taken + left
                }
                _ => {
                    self.place = Place::Payload(left - rest as u64);
                    bytes.len()
                }
            },
        }
    }

    /// Where one is after this much of a header.
    fn after(&mut self, header: [u8; HEADER_MAX], len: usize) -> Place {
        let more = Place::Header { bytes: header, len };
        let [first, second, extended @ ..] = header;
        if len < 2 {
            return more;
        }
        let (control, last) = (first & 0x08 != 0, first & 0x80 != 0);
        if second & 0x80 != 0 || (control && (!last || second > 125)) {
            return Place::Lost;
        }
        let [a, b, ..] = extended;
        let payload = match (second, len) {
            (126, 4) => u64::from(u16::from_be_bytes([a, b])),
            (127, HEADER_MAX) => u64::from_be_bytes(extended),
            (126 | 127, _) => return more,
            (short, _) => u64::from(short),
        };
        if payload > i64::MAX as u64 {
            return Place::Lost;
        }
        self.closed |= first & 0x0f == 0x08;
        if payload == 0 { BOUNDARY } else { Place::Payload(payload) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match len {
            0..126 => frame.push(len as u8),
            126..65_536 => {
                frame.push(126);
                frame.extend((len as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        // Looks like headers all the way.
        frame.extend(std::iter::repeat_n(0x81, len));
        frame
    }

    #[test]
    fn a_boundary_is_found_after_every_length_and_nowhere_else() {
        for len in [0, 1, 2, 124, 125, 126, 127, 128, 65_535, 65_536, 70_000] {
            let bytes = [frame(1, len), frame(2, 1)].concat();
            let first = frame(1, len).len();
            let mut frames = Frames::default();
            assert!(frames.at_boundary());
            for (index, byte) in bytes.iter().enumerate() {
                frames.pass(&[*byte]);
                let boundary = index + 1 == first || index + 1 == bytes.len();
                assert_eq!(frames.at_boundary(), boundary, "{len}: after {} bytes", index + 1);
            }
            assert_eq!(Frames::default().to_boundary(&bytes), first, "{len}");
            let (head, tail) = bytes.split_at(first.min(3));
            let mut frames = Frames::default();
            frames.pass(head);
            assert_eq!(frames.at_boundary(), first <= 3, "{len}");
            if first > 3 {
                assert_eq!(frames.to_boundary(tail), first - 3, "{len}");
            }
            assert!(!frames.is_lost() && !frames.is_closed());
        }
    }

    #[test]
    fn what_no_server_sends_is_not_followed() {
        let length = |byte: u8| [&[0x82, 127, byte][..], &[0xff; 7]].concat();
        for (what, bytes) in [
            ("masked", vec![0x81, 0x80]),
            ("a long control frame", vec![0x89, 126]),
            ("a control frame in parts", vec![0x09, 0]),
            ("a length beyond 63 bits", length(0x80)),
        ] {
            let mut frames = Frames::default();
            frames.pass(&bytes);
            assert!(frames.is_lost() && !frames.at_boundary(), "{what}");
            frames.pass(&[0x81, 0]);
            assert!(frames.is_lost(), "{what}");
        }
        let mut frames = Frames::default();
        frames.pass(&length(0x7f));
        assert!(!frames.is_lost() && !frames.at_boundary());
    }

    #[test]
    fn a_servers_own_close_is_noticed_and_a_payload_that_looks_like_one_is_not() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 2, 0x88, 0x00]);
        // Other control frames are none: a ping and a pong.
        frames.pass(&[0x89, 0, 0x8a, 1, 0x88]);
        assert!(!frames.is_closed() && frames.at_boundary());
        frames.pass(&Close::GOING_AWAY.bytes());
        assert!(frames.is_closed() && frames.at_boundary());
    }

    #[test]
    fn a_close_holds_code_and_reason_and_is_one_frame() {
        assert_eq!(Close::SESSION_ENDED.bytes(), b"\x88\x0f\x03\xf0session ended");
        assert_eq!(Close::GOING_AWAY.bytes(), b"\x88\x0c\x03\xe9going away");
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_lead_to_the_same_place(
            lens in proptest::collection::vec(prop_oneof![0..300_usize, 65_000..66_000_usize], 1..5),
            cuts in proptest::collection::vec(1..5000_usize, 1..20),
        ) {
            let bytes = lens.iter().flat_map(|len| frame(1, *len)).collect::<Vec<_>>();
            let mut frames = Frames::default();
            let (mut rest, mut boundaries) = (&bytes[..], 0);
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                let taken = frames.to_boundary(piece);
                prop_assert!((1..=piece.len()).contains(&taken));
                boundaries += usize::from(frames.at_boundary());
                rest = &rest[taken..];
            }
            prop_assert_eq!(boundaries, lens.len());
        }

        #[test]
        fn nothing_makes_it_stop(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.pass(&bytes);
        }
    }
}
