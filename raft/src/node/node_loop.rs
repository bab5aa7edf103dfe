//! The part of the user's event loop that a node uses.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kodiak_channel::Sender;
use kodiak_net::{AcceptError, Acceptor, TcpListener, TcpStream};
use kodiak_reactor::{
    BuildError, EventLoop, Interest, Receiver, RegisterError, Source, Timeout, TimerError, Trigger,
};

use super::{
    handle::Call,
    machine::MachineReport,
    token::{Token, TokenKind},
};
use crate::storage::Completion;

/// An event loop, without the types of its user's tokens and messages.
///
/// Only the entry points of [`Node`](super::Node) know these types. Everything behind them takes a
/// `&mut dyn NodeLoop` and names its sources and timers by [`TokenKind`].
pub(super) trait NodeLoop {
    /// See [`EventLoop::now`].
    fn now(&self) -> Instant;

    /// Registers a source, level-triggered.
    fn register(
        &mut self,
        source: &dyn Source,
        kind: TokenKind,
        interest: Interest,
    ) -> Result<(), RegisterError>;

    /// Changes a source's interest.
    fn reregister(
        &mut self,
        source: &dyn Source,
        kind: TokenKind,
        interest: Interest,
    ) -> Result<(), RegisterError>;

    /// See [`Acceptor::register`].
    fn register_listener(&mut self, acceptor: &Acceptor<TcpListener>) -> Result<(), RegisterError>;

    /// See [`Acceptor::accept`].
    fn accept(
        &mut self,
        acceptor: &mut Acceptor<TcpListener>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, AcceptError>;

    /// See [`Acceptor::resume`].
    fn resume(&mut self, acceptor: &mut Acceptor<TcpListener>);

    /// See [`EventLoop::timeout`].
    fn timeout(&mut self, kind: TokenKind, delay: Duration) -> Result<Timeout, TimerError>;

    /// See [`EventLoop::timeout_at`].
    fn timeout_at(&mut self, kind: TokenKind, deadline: Instant) -> Result<Timeout, TimerError>;

    /// See [`EventLoop::reset_timeout_at`].
    fn reset_timeout_at(&mut self, timeout: Timeout, deadline: Instant) -> Result<(), TimerError>;

    /// See [`EventLoop::clear_timeout`].
    fn clear_timeout(&mut self, timeout: Timeout);

    /// A channel into the loop for the storage thread.
    fn add_completions(
        &mut self,
        capacity: usize,
    ) -> Result<(Sender<Completion>, Receiver<Completion>), BuildError>;

    /// A channel into the loop for calls of handles.
    fn add_calls(&mut self, capacity: usize) -> Result<(Sender<Call>, Receiver<Call>), BuildError>;

    /// A channel into the loop for the state machine's thread.
    fn add_machine_reports(
        &mut self,
        capacity: usize,
    ) -> Result<(Sender<MachineReport>, Receiver<MachineReport>), BuildError>;
}

impl<T: Copy + From<Token>, M> NodeLoop for EventLoop<T, M> {
    fn now(&self) -> Instant {
        EventLoop::now(self)
    }

    fn register(
        &mut self,
        source: &dyn Source,
        kind: TokenKind,
        interest: Interest,
    ) -> Result<(), RegisterError> {
        self.register_opt(source, T::from(Token(kind)), interest, Trigger::Level)
    }

    fn reregister(
        &mut self,
        source: &dyn Source,
        kind: TokenKind,
        interest: Interest,
    ) -> Result<(), RegisterError> {
        EventLoop::reregister(self, source, T::from(Token(kind)), interest, Trigger::Level)
    }

    fn register_listener(&mut self, acceptor: &Acceptor<TcpListener>) -> Result<(), RegisterError> {
        acceptor.register(self, T::from(Token(TokenKind::Listener)))
    }

    fn accept(
        &mut self,
        acceptor: &mut Acceptor<TcpListener>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, AcceptError> {
        acceptor.accept(self, T::from(Token(TokenKind::Listener)))
    }

    fn resume(&mut self, acceptor: &mut Acceptor<TcpListener>) {
        acceptor.resume(self, T::from(Token(TokenKind::Listener)));
    }

    fn timeout(&mut self, kind: TokenKind, delay: Duration) -> Result<Timeout, TimerError> {
        EventLoop::timeout(self, T::from(Token(kind)), delay)
    }

    fn timeout_at(&mut self, kind: TokenKind, deadline: Instant) -> Result<Timeout, TimerError> {
        EventLoop::timeout_at(self, T::from(Token(kind)), deadline)
    }

    fn reset_timeout_at(&mut self, timeout: Timeout, deadline: Instant) -> Result<(), TimerError> {
        EventLoop::reset_timeout_at(self, timeout, deadline)
    }

    fn clear_timeout(&mut self, timeout: Timeout) {
        EventLoop::clear_timeout(self, timeout);
    }

    fn add_completions(
        &mut self,
        capacity: usize,
    ) -> Result<(Sender<Completion>, Receiver<Completion>), BuildError> {
        self.add_channel(T::from(Token(TokenKind::Completions)), capacity)
    }

    fn add_calls(&mut self, capacity: usize) -> Result<(Sender<Call>, Receiver<Call>), BuildError> {
        self.add_channel(T::from(Token(TokenKind::Calls)), capacity)
    }

    fn add_machine_reports(
        &mut self,
        capacity: usize,
    ) -> Result<(Sender<MachineReport>, Receiver<MachineReport>), BuildError> {
        self.add_channel(T::from(Token(TokenKind::Machine)), capacity)
    }
}
