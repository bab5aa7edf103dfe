//! The table of commands: one row for each, and the search for a row by its name.
//!
//! A row has the command's name, arguments, arity, one line of manual, and its dispatch: to an
//! operation of the store, a change of the cluster, or an answer by this node. Several commands
//! share one operation (`SET`, `SETNX`, `GETSET`), so what it does, which keys it looks at and how
//! long it takes stands once, in its row in [`kv::operation`](crate::kv::operation). The command's
//! flags and key positions follow from there.

use crate::{
    kv::operation::Operation::{
        Append, DbSize, Del, Exists, Expire, FlushAll, Get, GetDel, GetEx, IncrBy, Keys, MGet,
        MSet, MSetNx, Persist, Rename, Scan, Set, SetExpiring, StrLen, Ttl, Type,
    },
    membership::request as raft,
};

use super::{
    TransactionCommand::{Discard, Exec, Multi},
    connection, expiry, keys,
    row::{
        Arity::{AtLeast, Between, Exactly},
        CommandRow, row,
    },
};

/// Rows that belong together.
pub(super) struct Group {
    /// As Redis' manual calls it.
    pub(super) name: &'static str,
    pub(super) rows: &'static [CommandRow],
}

pub(super) const GROUPS: &[Group] = &[
    Group { name: "string", rows: STRING },
    Group { name: "generic", rows: GENERIC },
    Group { name: "transactions", rows: TRANSACTIONS },
    Group { name: "connection", rows: CONNECTION },
    Group { name: "server", rows: SERVER },
    Group { name: "cluster", rows: CLUSTER },
];

const STRING: &[CommandRow] = &[
    row("GET", "key", Exactly(2), "Returns the value of a key.").becomes(Get),
    row(
        "SET",
        "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT \
         unix-time-milliseconds | KEEPTTL]",
        AtLeast(3),
        "Sets a key to a value, which may expire.",
    )
    .becomes_one_of(&[Set, SetExpiring], expiry::set),
    row(
        "GETEX",
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds \
         | PERSIST]",
        AtLeast(2),
        "Returns the value of a key, and sets or removes its expiration.",
    )
    .becomes_one_of(&[GetEx, Get], expiry::get_ex),
    row("SETEX", "key seconds value", Exactly(4), "Sets a key that expires in seconds.")
        .becomes_one_of(&[SetExpiring], expiry::set_ex),
    row("PSETEX", "key milliseconds value", Exactly(4), "Sets a key that expires in milliseconds.")
        .becomes_one_of(&[SetExpiring], expiry::pset_ex),
    row("SETNX", "key value", Exactly(3), "Sets a key if it does not exist.")
        .becomes_one_of(&[Set], keys::set_nx),
    row("GETSET", "key value", Exactly(3), "Sets a key and returns its previous value.")
        .becomes_one_of(&[Set], keys::get_set),
    row("GETDEL", "key", Exactly(2), "Returns the value of a key and deletes the key.")
        .becomes(GetDel),
    row("MGET", "key [key ...]", AtLeast(2), "Returns the values of keys.").becomes(MGet),
    row("MSET", "key value [key value ...]", AtLeast(3), "Sets keys to values.")
        .becomes_one_of(&[MSet], keys::mset),
    row("MSETNX", "key value [key value ...]", AtLeast(3), "Sets keys if none of them exists.")
        .becomes_one_of(&[MSetNx], keys::mset_nx),
    row("INCR", "key", Exactly(2), "Adds one to the integer value of a key.")
        .becomes_one_of(&[IncrBy], keys::incr),
    row("DECR", "key", Exactly(2), "Subtracts one from the integer value of a key.")
        .becomes_one_of(&[IncrBy], keys::decr),
    row("INCRBY", "key increment", Exactly(3), "Adds a number to the integer value of a key.")
        .becomes_one_of(&[IncrBy], keys::incr_by),
    row(
        "DECRBY",
        "key decrement",
        Exactly(3),
        "Subtracts a number from the integer value of a key.",
    )
    .becomes_one_of(&[IncrBy], keys::decr_by),
    row("APPEND", "key value", Exactly(3), "Appends to the value of a key.").becomes(Append),
    row("STRLEN", "key", Exactly(2), "Returns the length of the value of a key.").becomes(StrLen),
];

const GENERIC: &[CommandRow] = &[
    row("DEL", "key [key ...]", AtLeast(2), "Deletes keys, and returns how many existed.")
        .becomes(Del),
    row("UNLINK", "key [key ...]", AtLeast(2), "The same as DEL.").becomes(Del),
    row("EXISTS", "key [key ...]", AtLeast(2), "Returns how many of the keys exist.")
        .becomes(Exists),
    row("TOUCH", "key [key ...]", AtLeast(2), "The same as EXISTS.").becomes(Exists),
    row("TYPE", "key", Exactly(2), "Returns the type of a key's value: string, or none.")
        .becomes(Type),
    row("RENAME", "key newkey", Exactly(3), "Renames a key, and replaces one of the new name.")
        .becomes_one_of(&[Rename], keys::rename),
    row("RENAMENX", "key newkey", Exactly(3), "Renames a key if the new name does not exist.")
        .becomes_one_of(&[Rename], keys::rename_nx),
    row(
        "EXPIRE",
        "key seconds [NX | XX | GT | LT]",
        AtLeast(3),
        "Sets a key's expiration in seconds from now.",
    )
    .becomes_one_of(&[Expire], expiry::expire),
    row(
        "PEXPIRE",
        "key milliseconds [NX | XX | GT | LT]",
        AtLeast(3),
        "Sets a key's expiration in milliseconds from now.",
    )
    .becomes_one_of(&[Expire], expiry::pexpire),
    row(
        "EXPIREAT",
        "key unix-time-seconds [NX | XX | GT | LT]",
        AtLeast(3),
        "Sets a key's expiration to a Unix time in seconds.",
    )
    .becomes_one_of(&[Expire], expiry::expire_at),
    row(
        "PEXPIREAT",
        "key unix-time-milliseconds [NX | XX | GT | LT]",
        AtLeast(3),
        "Sets a key's expiration to a Unix time in milliseconds.",
    )
    .becomes_one_of(&[Expire], expiry::pexpire_at),
    row("TTL", "key", Exactly(2), "Returns the seconds until a key expires.")
        .becomes_one_of(&[Ttl], expiry::ttl),
    row("PTTL", "key", Exactly(2), "Returns the milliseconds until a key expires.")
        .becomes_one_of(&[Ttl], expiry::pttl),
    row("EXPIRETIME", "key", Exactly(2), "Returns a key's expiration as Unix time in seconds.")
        .becomes_one_of(&[Ttl], expiry::expire_time),
    row(
        "PEXPIRETIME",
        "key",
        Exactly(2),
        "Returns a key's expiration as Unix time in milliseconds.",
    )
    .becomes_one_of(&[Ttl], expiry::pexpire_time),
    row("PERSIST", "key", Exactly(2), "Removes a key's expiration.").becomes(Persist),
    row(
        "SCAN",
        "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        AtLeast(2),
        "Returns some of the keys, and the cursor for the next ones.",
    )
    .becomes_one_of(&[Scan], keys::scan),
    row("KEYS", "pattern", Exactly(2), "Returns the keys that match a pattern, of a small store.")
        .becomes(Keys),
];

const TRANSACTIONS: &[CommandRow] = &[
    row("MULTI", "", Exactly(1), "Starts a transaction: commands are queued until EXEC.")
        .transaction(Multi),
    row("EXEC", "", Exactly(1), "Executes the queued commands as one entry of the log.")
        .transaction(Exec),
    row("DISCARD", "", Exactly(1), "Discards the queued commands.").transaction(Discard),
];

const CONNECTION: &[CommandRow] = &[
    row("PING", "[message]", Between(1, 2), "Returns PONG, or the message.")
        .local(connection::ping),
    row("ECHO", "message", Exactly(2), "Returns the message.").local(connection::echo),
    row("HELLO", "[2 | 3]", AtLeast(1), "Describes the server, and switches to RESP2 or RESP3.")
        .local(connection::hello),
    row("SELECT", "index", Exactly(2), "Accepts database 0, the only one.")
        .local(connection::select),
    row("CLIENT", "", AtLeast(2), "Commands about this connection.").with_subcommands(&[
        row("CLIENT ID", "", Exactly(2), "Returns the number of this connection.")
            .local(connection::client_id),
        row("CLIENT SETNAME", "name", Exactly(3), "Accepted, without effect.")
            .local(connection::ok),
        row("CLIENT SETINFO", "attribute value", Exactly(4), "Accepted, without effect.")
            .local(connection::ok),
        row("CLIENT HELP", "", Exactly(2), "Returns this help.").local(connection::help),
    ]),
    row("QUIT", "", AtLeast(1), "Closes the connection.").local(connection::quit),
    row("AUTH", "[username] password", AtLeast(2), "Refused.")
        .refused("ERR this server has no passwords: leave AUTH out"),
];

const SERVER: &[CommandRow] = &[
    row("DBSIZE", "", Exactly(1), "Returns the number of keys.").becomes(DbSize),
    row("FLUSHALL", "[ASYNC | SYNC]", AtLeast(1), "Deletes all keys.")
        .becomes_one_of(&[FlushAll], keys::flush),
    row("FLUSHDB", "[ASYNC | SYNC]", AtLeast(1), "The same as FLUSHALL.")
        .becomes_one_of(&[FlushAll], keys::flush),
    row("INFO", "[section ...]", AtLeast(1), "Returns the state of the node and of the cluster.")
        .local(connection::info),
    row("COMMAND", "", AtLeast(1), "Returns the commands and their properties.")
        .local(connection::command)
        .with_subcommands(&[
            row("COMMAND COUNT", "", Exactly(2), "Returns the number of commands.")
                .local(connection::command_count),
            row(
                "COMMAND LIST",
                "[FILTERBY MODULE name | ACLCAT category | PATTERN pattern]",
                AtLeast(2),
                "Returns the names of the commands.",
            )
            .local(connection::command_list),
            row("COMMAND INFO", "[name ...]", AtLeast(2), "Returns properties of commands.")
                .local(connection::command_info),
            row("COMMAND DOCS", "[name ...]", AtLeast(2), "Returns the manual of commands.")
                .local(connection::command_docs),
            row(
                "COMMAND GETKEYS",
                "command argument [argument ...]",
                AtLeast(4),
                "Returns the keys among the words of a command.",
            )
            .local(connection::command_get_keys),
            row("COMMAND HELP", "", Exactly(2), "Returns this help.").local(connection::help),
        ]),
    row("CONFIG", "", AtLeast(2), "Settings are flags of 'raft serve'.").with_subcommands(&[
        row(
            "CONFIG GET",
            "pattern [pattern ...]",
            AtLeast(3),
            "Returns no settings; some clients ask for them.",
        )
        .local(connection::config_get),
        row("CONFIG HELP", "", Exactly(2), "Returns this help.").local(connection::help),
        row("CONFIG SET", "name value [name value ...]", AtLeast(4), "Refused.")
            .refused("ERR settings are flags of 'raft serve': restart the node with others"),
    ]),
];

const CLUSTER: &[CommandRow] = &[row(
    "RAFT",
    "",
    AtLeast(2),
    "Lists and changes the members of the cluster, and transfers leadership.",
)
.with_subcommands(&[
    row("RAFT MEMBERS", "", Exactly(2), "Returns the members of the cluster.")
        .local(connection::members),
    row("RAFT ADD", "id host:port disk [level]", Between(5, 6), "Adds a node as a learner.")
        .admin(raft::add),
    row("RAFT PROMOTE", "id", Exactly(3), "Makes a learner a voter.").admin(raft::promote),
    row("RAFT DEMOTE", "id", Exactly(3), "Makes a voter a learner.").admin(raft::demote),
    row("RAFT REMOVE", "id", Exactly(3), "Removes a member.").admin(raft::remove),
    row(
        "RAFT REPLACE",
        "old new",
        Exactly(4),
        "Promotes one node and removes another, in one step.",
    )
    .admin(raft::replace),
    row("RAFT ADDRESS", "id host:port", Exactly(4), "Changes where the others reach a member.")
        .admin(raft::address),
    row("RAFT PRIORITY", "id priority", Exactly(4), "Changes a member's priority as a leader.")
        .admin(raft::priority),
    row("RAFT ENABLE", "level", Exactly(3), "Raises the cluster's feature level, permanently.")
        .admin(raft::enable),
    row("RAFT TRANSFER", "[id]", Between(2, 3), "Transfers leadership to another member.")
        .admin(raft::transfer),
    row("RAFT HELP", "", Exactly(2), "Returns this help.").local(connection::help),
])];

/// All rows, those of subcommands left out.
pub(super) fn rows() -> impl Iterator<Item = &'static CommandRow> {
    GROUPS.iter().flat_map(|group| group.rows)
}

/// The row of a command, by its name in any case. Most rows differ from it in length already.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandRow> {
    rows().find(|row| name.eq_ignore_ascii_case(row.name.as_bytes()))
}
