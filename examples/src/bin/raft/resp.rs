//! The Redis protocol: requests in, replies out. Replies are made in RESP2, and translated for
//! clients that chose RESP3.
//!
//! The crate `redis-protocol` reads and writes the frames. This module adds what a server needs: a
//! request is an array of bulk strings and nothing else, so a hostile client cannot make the parser
//! recurse; a half-received request is not parsed again from its start; and every length is checked
//! before its bytes are kept.

use bytes::BytesMut;
use redis_protocol::resp2::{
    decode::decode_range,
    encode::extend_encode_borrowed,
    types::{BorrowedFrame, RangeFrame},
};

/// Most arguments of a request.
pub(crate) const ARGUMENTS_MAX: usize = 1 << 16;
/// Longest line before a payload, or of an inline command.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A request that is not RESP. The rest of the connection cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("Protocol error: expected '*' or a command's name, got byte {0:#04x}")]
    UnexpectedStart(u8),
    #[error(
        "Protocol error: expected '$', got byte {0:#04x}: a request is an array of bulk strings"
    )]
    ExpectedBulk(u8),
    #[error(
        "Protocol error: invalid multibulk length {0:?}: give a number from 0 to {ARGUMENTS_MAX}"
    )]
    InvalidCount(String),
    #[error("Protocol error: invalid bulk length: {0}")]
    InvalidBulk(String),
    #[error("Protocol error: a line of more than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("Protocol error: a request of more than {0} bytes (--max-request-bytes)")]
    TooLarge(usize),
}

/// The protocol of a client's replies; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Parses a request whose bytes arrive in parts. It keeps the ranges of the arguments so far.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    /// Arguments found so far, as ranges of the input.
    arguments: Vec<(usize, usize)>,
    /// Number of arguments by the header; `None` before the header.
    wanted: Option<usize>,
    /// Input up to here is parsed.
    parsed: usize,
    limit_bytes: usize,
    is_inline: bool,
}

/// A whole request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    input: &'a [u8],
    arguments: &'a [(usize, usize)],
    /// Bytes of the input that it takes.
    pub(crate) len_bytes: usize,
    /// Whether it is a line, as a person types it, instead of an array.
    pub(crate) is_inline: bool,
}

impl<'a> Request<'a> {
    /// Number of arguments, the command's name included; perhaps none.
    pub(crate) fn len(&self) -> usize {
        self.arguments.len()
    }

    /// An argument; 0 is the command's name.
    pub(crate) fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.arguments.get(at).map(|&(from, to)| &self.input[from..to])
    }

    /// The arguments from `at` on.
    pub(crate) fn arguments_from(
        &self,
        at: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let input = self.input;
        self.arguments[at.min(self.arguments.len())..]
            .iter()
            .map(move |&(from, to)| &input[from..to])
    }
}

impl RequestReader {
    /// A reader that refuses requests of more than `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> RequestReader {
        RequestReader { limit_bytes, ..RequestReader::default() }
    }

    /// Parses a request at the start of `input`, which holds all bytes since the end of the last
    /// request. `None` asks for more bytes. After a request, call [`RequestReader::reset`]
    /// and drop its bytes from the input.
    pub(crate) fn read<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<Option<Request<'a>>, ProtocolError> {
        let is_complete = match self.wanted {
            None => self.read_start(input)?,
            Some(_) => self.read_arguments(input)?,
        };
        if !is_complete {
            let over = input.len() > self.limit_bytes;
            return if over { Err(ProtocolError::TooLarge(self.limit_bytes)) } else { Ok(None) };
        }
        Ok(Some(Request {
            input,
            arguments: &self.arguments,
            len_bytes: self.parsed,
            is_inline: self.is_inline,
        }))
    }

    /// Prepares for the next request.
    pub(crate) fn reset(&mut self) {
        self.arguments.clear();
        self.wanted = None;
        self.parsed = 0;
        self.is_inline = false;
    }

    fn read_start(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let Some(&first) = input.first() else { return Ok(false) };
        if first != b'*' && !first.is_ascii_alphabetic() && first != b'\r' && first != b'\n' {
            return Err(ProtocolError::UnexpectedStart(first));
        }
        let Some(line_len) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n')
        else {
            return if input.len() >= LINE_BYTES_MAX {
                Err(ProtocolError::LineTooLong)
            } else {
                Ok(false)
            };
        };
        self.parsed = line_len + 1;
        let line = input[..line_len].strip_suffix(b"\r").unwrap_or(&input[..line_len]);
        if first != b'*' {
            self.is_inline = true;
            self.read_inline(line);
            return Ok(true);
        }
        let count = str::from_utf8(&line[1..]).ok().and_then(|count| count.parse::<i64>().ok());
        self.wanted = match count {
            // As in Redis, an empty or a null array is no request.
            Some(count @ -1..=0) => Some(count.max(0) as usize),
            Some(count) if (1..=ARGUMENTS_MAX as i64).contains(&count) => Some(count as usize),
            _ => {
                return Err(ProtocolError::InvalidCount(
                    String::from_utf8_lossy(&line[1..line.len().min(32)]).into_owned(),
                ));
            }
        };
        self.read_arguments(input)
    }

    fn read_inline(&mut self, line: &[u8]) {
        let mut from = None;
        for (at, byte) in line.iter().chain(b" ").enumerate() {
            match (byte.is_ascii_whitespace(), from) {
                (false, None) => from = Some(at),
                (true, Some(start)) => {
                    self.arguments.push((start, at));
                    from = None;
                }
                _ => {}
            }
        }
    }

    fn read_arguments(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let wanted = self.wanted.unwrap_or(0);
        while self.arguments.len() < wanted {
            let rest = &input[self.parsed..];
            match rest.first() {
                None => return Ok(false),
                // Only bulk strings reach the library's parser: it recurses for arrays.
                Some(b'$') => {}
                Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
            }
            if !self.check_bulk_length(rest)? {
                return Ok(false);
            }
            match decode_range(rest) {
                Ok(None) => return Ok(false),
                Ok(Some((RangeFrame::BulkString((from, to)), len)))
                    if rest[to..len] == *b"\r\n" =>
                {
                    self.arguments.push((self.parsed + from, self.parsed + to));
                    self.parsed += len;
                }
                Ok(Some(_)) => {
                    return Err(ProtocolError::InvalidBulk(
                        "no line end after the payload, or null".into(),
                    ));
                }
                Err(error) => return Err(ProtocolError::InvalidBulk(error.details().to_string())),
            }
        }
        Ok(true)
    }

    /// Checks a bulk string's length before its payload is received. False if the line is not whole
    /// yet.
    fn check_bulk_length(&self, rest: &[u8]) -> Result<bool, ProtocolError> {
        const LENGTH_LINE_MAX: usize = 24;
        let Some(end) = rest.iter().take(LENGTH_LINE_MAX).position(|&byte| byte == b'\n') else {
            let over = rest.len() >= LENGTH_LINE_MAX;
            return if over {
                Err(ProtocolError::InvalidBulk("no line end after it".into()))
            } else {
                Ok(false)
            };
        };
        let digits = rest[1..end].strip_suffix(b"\r").unwrap_or(&rest[1..end]);
        match str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()) {
            Some(length) if self.parsed as u64 + end as u64 + length <= self.limit_bytes as u64 => {
                Ok(true)
            }
            Some(_) => Err(ProtocolError::TooLarge(self.limit_bytes)),
            None => Err(ProtocolError::InvalidBulk(format!(
                "{:?} is not a length",
                String::from_utf8_lossy(digits)
            ))),
        }
    }
}

/// Parses a decimal integer as Redis does: no sign `+`, no spaces, no leading zeros.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical =
        digits == b"0" && text.len() == 1 || !digits.starts_with(b"0") && !text.starts_with(b"+");
    canonical.then_some(number)
}

/// Appends a reply.
pub(crate) fn put(output: &mut BytesMut, reply: &BorrowedFrame<'_>) {
    // It fails only if a buffer is too small, and this one grows.
    extend_encode_borrowed(output, reply, false).expect("a growing buffer takes any frame");
}

/// Appends an error reply. `message` starts with the error's code, as clients expect: `ERR …`.
pub(crate) fn put_error(output: &mut BytesMut, message: &str) {
    // A line end inside would end the frame early.
    let line: String =
        message.chars().map(|c| if c == '\r' || c == '\n' { ' ' } else { c }).collect();
    put(output, &BorrowedFrame::Error(&line));
}

/// Appends the beginning of an array; its elements come next.
pub(crate) fn put_array(output: &mut BytesMut, len: usize) {
    output.extend_from_slice(format!("*{len}\r\n").as_bytes());
}

/// Appends the beginning of a map; its names and values come next. RESP2 has no maps but arrays.
pub(crate) fn put_map(output: &mut BytesMut, pairs: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => put_array(output, 2 * pairs),
        Protocol::Resp3 => output.extend_from_slice(format!("%{pairs}\r\n").as_bytes()),
    }
}

/// Appends null where an array is expected.
pub(crate) fn put_null_array(output: &mut BytesMut, protocol: Protocol) {
    put_translated(output, protocol, b"*-1\r\n");
}

/// Appends whole RESP2 frames, translated to `protocol`.
///
/// Of the frames in this server's replies, only null differs in RESP3, where clients refuse the old
/// one.
pub(crate) fn put_translated(output: &mut BytesMut, protocol: Protocol, replies: &[u8]) {
    let mut rest = replies;
    if protocol == Protocol::Resp2 {
        return output.extend_from_slice(rest);
    }
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..=end];
        let payload_bytes = match line {
            b"$-1\r\n" | b"*-1\r\n" => None,
            // An array's elements are frames, and come next.
            [b'$', length @ .., b'\r', b'\n'] => str::from_utf8(length)
                .ok()
                .and_then(|length| length.parse::<usize>().ok())
                .map(|length| length + 2),
            _ => Some(0),
        };
        let taken = match payload_bytes {
            None => {
                output.extend_from_slice(b"_\r\n");
                line.len()
            }
            Some(payload_bytes) => {
                let taken = rest.len().min(line.len() + payload_bytes);
                output.extend_from_slice(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4096;

    /// Parses `chunks` one after the other, and collects the requests.
    fn parse(chunks: &[&[u8]]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut reader = RequestReader::new(LIMIT);
        let (mut input, mut requests) = (Vec::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(chunk);
            while let Some(request) = reader.read(&input)? {
                let len = request.len_bytes;
                requests.push(request.arguments_from(0).map(<[u8]>::to_vec).collect());
                reader.reset();
                input.drain(..len);
                if input.is_empty() {
                    break;
                }
            }
        }
        Ok(requests)
    }

    fn encode(request: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
        for argument in request {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_requests_cut_anywhere_come_out_whole(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(parse(&chunks).unwrap(), requests);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&[&bytes]);
        }

        #[test]
        fn no_damage_causes_a_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = encode(&[b"SET".to_vec(), b"key".to_vec(), b"value".to_vec()]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = parse(&[&bytes]);
        }
    }

    #[test]
    fn a_line_is_a_request() {
        assert_eq!(
            parse(&[b"SET  k v\r\nPING\n"]).unwrap(),
            [&[b"SET".to_vec(), b"k".to_vec(), b"v".to_vec()][..], &[b"PING".to_vec()]]
        );
    }

    #[test]
    fn nested_arrays_are_refused_not_followed() {
        assert_eq!(
            parse(&[&b"*1\r\n".repeat(1000)]).unwrap_err(),
            ProtocolError::ExpectedBulk(b'*')
        );
    }

    #[test]
    fn lengths_are_checked_before_the_payload() {
        assert_eq!(parse(&[b"*1\r\n$5000\r\n"]).unwrap_err(), ProtocolError::TooLarge(LIMIT));
        assert!(matches!(parse(&[b"*1\r\n$-1\r\n"]).unwrap_err(), ProtocolError::InvalidBulk(_)));
        assert!(matches!(parse(&[b"*1\r\n$abc\r\n"]).unwrap_err(), ProtocolError::InvalidBulk(_)));
        assert!(matches!(
            parse(&[b"*1\r\n$3\r\nabcde"]).unwrap_err(),
            ProtocolError::InvalidBulk(_)
        ));
        assert!(matches!(parse(&[b"*99999999\r\n"]).unwrap_err(), ProtocolError::InvalidCount(_)));
        assert!(matches!(
            parse(&[b"*1\r\n$111111111111111111111111111111"]).unwrap_err(),
            ProtocolError::InvalidBulk(_)
        ));
        assert_eq!(parse(&[&b"A".repeat(LINE_BYTES_MAX)]).unwrap_err(), ProtocolError::LineTooLong);
        assert_eq!(parse(&[b"\x00"]).unwrap_err(), ProtocolError::UnexpectedStart(0));
    }

    #[test]
    fn nulls_are_translated_to_resp3_and_payloads_kept() {
        let replies = b"$-1\r\n*3\r\n$5\r\n$-1\r\n\r\n$-1\r\n$0\r\n\r\n:-1\r\n+OK\r\n-ERR $-1\r\n\
                        *-1\r\n*0\r\n";
        let mut output = BytesMut::new();
        put_translated(&mut output, Protocol::Resp2, replies);
        assert_eq!(output, &replies[..]);
        output.clear();
        put_translated(&mut output, Protocol::Resp3, replies);
        let expected =
            b"_\r\n*3\r\n$5\r\n$-1\r\n\r\n_\r\n$0\r\n\r\n:-1\r\n+OK\r\n-ERR $-1\r\n_\r\n*0\r\n";
        assert_eq!(output, &expected[..]);
    }

    #[test]
    fn an_empty_array_is_no_request() {
        assert_eq!(parse(&[b"*0\r\n*-1\r\n"]).unwrap(), vec![Vec::<Vec<u8>>::new(), Vec::new()]);
    }

    #[test]
    fn integers_are_parsed_as_in_redis() {
        for good in ["0", "-1", "42", "9223372036854775807", "-9223372036854775808"] {
            assert!(parse_integer(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "+1", "01", "-0", " 1", "1 ", "1.5", "9223372036854775808", "-"] {
            assert!(parse_integer(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
