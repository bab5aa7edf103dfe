//! Messages, a timer and datagrams in one handler. Messages count a number up, then a timer sends
//! datagrams, and each datagram that arrives counts it down. At zero the game ends.
//!
//! ```sh
//! cargo run --bin udp_game
//! cargo run --bin udp_game -- --period 20ms
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use kodiak_net::{TryRecv, UdpSocket};
use kodiak_reactor::{EventLoop, Handler, ReadHint, Timeout};

/// Counts up by messages and down by datagrams.
#[derive(Parser)]
struct Flags {
    /// Time between two datagrams: a number of milliseconds, or a number with `us`, `ms` or `s`.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = parse_period)]
    period: Duration,
}

fn parse_period(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| "expected something like 250, 250ms or 1s".to_owned())?;
    let period = match &text[digits.len()..] {
        "us" => Duration::from_micros(number),
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        unit => return Err(format!("unknown unit {unit:?}: use us, ms or s")),
    };
    if period.is_zero() { Err("must be more than zero".to_owned()) } else { Ok(period) }
}

/// What a callback is about. Any `Copy` type will do.
#[derive(Clone, Copy)]
enum Token {
    /// A datagram has arrived.
    Listener,
    /// It is time to send one.
    Send,
}

/// The message: count up by this much.
struct Increment(u64);

const INCREMENTS: u64 = 5;

struct Game {
    listener: UdpSocket,
    sender: UdpSocket,
    target: SocketAddr,
    period: Duration,
    increments: u64,
    total: u64,
    timer: Option<Timeout>,
    /// A callback returns nothing, so it leaves its error here for `main`.
    failure: Option<Box<dyn Error>>,
}

impl Handler<Token, Increment> for Game {
    fn notify(&mut self, event_loop: &mut EventLoop<Token, Increment>, Increment(by): Increment) {
        self.total += by;
        println!("Increment by: {by}, Total: {}", self.total);
        self.increments += 1;
        if self.increments == INCREMENTS {
            match event_loop.interval(Token::Send, self.period) {
                Ok(timer) => self.timer = Some(timer),
                Err(error) => self.fail(event_loop, error),
            }
        }
    }

    fn timeout(&mut self, event_loop: &mut EventLoop<Token, Increment>, _: Token) {
        println!("Timeout");
        if let Err(error) = self.sender.try_send_to(b"down", self.target) {
            self.fail(event_loop, error);
        }
    }

    fn readable(&mut self, event_loop: &mut EventLoop<Token, Increment>, _: Token, _: ReadHint) {
        // One event may stand for several datagrams: receive until there are none.
        while self.total > 0 {
            match self.listener.try_recv_from(&mut [0; 16]) {
                Ok(Some(_)) => self.decrement(event_loop),
                Ok(None) => return,
                Err(error) => return self.fail(event_loop, error),
            }
        }
    }
}

impl Game {
    fn decrement(&mut self, event_loop: &mut EventLoop<Token, Increment>) {
        self.total -= 1;
        println!("Decremented, Total: {}", self.total);
        if self.total == 0 {
            // The turn goes on to its end, so a timer that is due in it would still fire.
            self.timer.take().map(|timer| event_loop.clear_timeout(timer));
            event_loop.shutdown();
        }
    }

    fn fail(
        &mut self,
        event_loop: &mut EventLoop<Token, Increment>,
        error: impl Into<Box<dyn Error>>,
    ) {
        self.failure = Some(error.into());
        event_loop.shutdown();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    // Port 0: the kernel chooses, so two games do not collide.
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = UdpSocket::bind(any_port)?;
    let sender = UdpSocket::bind(any_port)?;
    let target = listener.local_addr()?;

    let mut event_loop = EventLoop::new()?;
    event_loop.register(&listener, Token::Listener)?;
    let messages = event_loop.channel();
    for by in 0..INCREMENTS {
        messages.send(Increment(by)).map_err(|error| error.to_string())?;
    }
    let period = flags.period;
    let mut game = Game {
        listener,
        sender,
        target,
        period,
        increments: 0,
        total: 0,
        timer: None,
        failure: None,
    };
    event_loop.run(&mut game)?;
    game.failure.map_or(Ok(()), Err)
}
