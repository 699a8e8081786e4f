//! Rows in tables of a PostgreSQL server: one table a sync, in the schema that the destination names.
//!
//! A batch is one transaction: the table is made, or widened ([`table`]); the rows are copied to a staging table that ends
//! with the transaction; one statement brings them over. So a batch is there whole or not at all, and a batch
//! that is sent twice has no second effect: rows have keys, and in mode `append` a change is known by its idempotency key.
//!
//! | mode | statement |
//! |---|---|
//! | `upsert`, `mirror` | `INSERT ... ON CONFLICT DO UPDATE`, with `DELETE` of the keys that we wrote and that left |
//! | `insert` | `INSERT ... ON CONFLICT DO NOTHING` |
//! | `update` | `UPDATE`; a key that is not there is left out |
//! | `append` | `INSERT` of the changes with their operation, number, key and run |
//! | `replace` | `DELETE` of all rows and `INSERT`, in the one transaction |
//!
//! What the server says of a value (SQLSTATE 22, 23 or a trigger's exception) refuses the batch, so that it is halved.
//! What passes (a lost connection, a deadlock, a server that starts) is tried again. Anything else stops the sync.

mod copy;
mod table;
mod tls;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncMode;
use crate::sync::destination::{Batch, Capabilities, Delivery, Destination};
use bytes::Bytes;
use futures::SinkExt as _;
use futures::future::BoxFuture;
use std::time::Duration;
use table::{Existing, Target};
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Transaction};

/// How long a connection may take where the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Tables of one schema of one database.
#[derive(Debug)]
pub struct Postgres {
    config: Config,
    schema: String,
    client: Mutex<Option<Client>>,
}

impl Postgres {
    /// The destination; nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when the URL cannot be read.
    pub fn open(url: &str, schema: &str) -> Result<Self> {
        let mut config: Config = url.parse().map_err(|_| {
            // the parser's message may repeat a password
            Error::new(ErrorKind::Usage, "the `url` of the PostgreSQL destination cannot be read").with_help(
                "write `postgres://user:password@host:5432/database?sslmode=require`, special characters as %XX",
            )
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.application_name("kinfold");
        Ok(Self { config, schema: schema.to_owned(), client: Mutex::new(None) })
    }

    async fn connect(&self) -> std::result::Result<Client, Failure> {
        let client = if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(NoTls).await?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = self.config.connect(tls::Tls::new()?).await?;
            tokio::spawn(connection);
            client
        };
        // texts of times without a zone are in UTC, and text is what we say it is
        client
            .batch_execute("SET TIME ZONE 'UTC'; SET client_min_messages = warning; SET bytea_output = 'hex'")
            .await?;
        Ok(client)
    }

    async fn send(&self, batch: &Batch) -> Result<Delivery> {
        let target = Target::new(&self.schema, batch)?;
        let mut held = self.client.lock().await;
        let mut client = match held.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => match self.connect().await {
                Ok(client) => client,
                Err(failure) => return failure.delivery(),
            },
        };
        match carry_out(&mut client, &target, batch).await {
            Ok(()) => {
                *held = Some(client);
                Ok(Delivery::All)
            }
            Err(failure) => {
                // a transaction that is dropped is rolled back before the next begins
                *held = Some(client);
                failure.delivery()
            }
        }
    }
}

impl Destination for Postgres {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            upsert: true,
            insert: true,
            update: true,
            append: true,
            delete: true,
            replace: true,
            idempotent: true,
            remembers_batches: false,
            rows_per_batch: None,
            concurrent: false,
            deletes_apart: false,
            renames: false,
        }
    }

    fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("{host}:{port}/{database} {}", self.schema)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(self.send(batch))
    }
}

async fn carry_out(client: &mut Client, target: &Target, batch: &Batch) -> std::result::Result<(), Failure> {
    let transaction = client.transaction().await?;
    let existing = existing(&transaction, target).await?;
    let prepared = target.prepare(existing.as_ref())?;
    for statement in prepared.before {
        transaction.batch_execute(&statement).await?;
    }
    let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(&prepared.copy).await?);
    for part in copy::Lines::new(batch, target.has_changes())? {
        sink.send(part).await?;
    }
    sink.as_mut().finish().await?;
    for statement in prepared.after {
        transaction.batch_execute(&statement).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The table as it is; none when there is none.
async fn existing(transaction: &Transaction<'_>, target: &Target) -> std::result::Result<Option<Existing>, Failure> {
    let mut found = Existing::default();
    let mut there = false;
    for message in transaction.simple_query(&target.columns_query()).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        there = true;
        found.is_table = matches!(row.get(0), Some("r" | "p"));
        if let (Some(name), Some(data_type)) = (row.get(1), row.get(2)) {
            found.columns.insert(name.to_owned(), data_type.to_owned());
        }
    }
    Ok(there.then_some(found))
}

/// What went wrong while a batch was brought over.
enum Failure {
    Server(tokio_postgres::Error),
    Own(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

impl Failure {
    fn delivery(self) -> Result<Delivery> {
        let error = match self {
            Self::Own(error) => return Err(error),
            Self::Server(error) => error,
        };
        let Some(told) = error.as_db_error() else {
            let unknown = !matches!(error.to_string().as_str(), text if text.starts_with("error connecting"));
            return if is_passing(&error) {
                Ok(Delivery::Later { reason: whole(&error), after: None, unknown })
            } else {
                Err(Error::new(ErrorKind::Failed, whole(&error)))
            };
        };
        let (code, message) = (told.code().code(), told.message());
        let reason = format!("{} (SQLSTATE {code})", without_values(code, message));
        match code.get(..2).unwrap_or_default() {
            "22" | "23" | "P0" => Ok(Delivery::Refused { reason }),
            "08" | "40" | "53" | "57" => Ok(Delivery::Later { reason, after: None, unknown: false }),
            _ if code == "55P03" => Ok(Delivery::Later { reason, after: None, unknown: false }),
            _ => Err(Error::new(ErrorKind::Failed, reason).with_help(help(code))),
        }
    }
}

/// Whether a connection may come up in a moment: all but what TLS or the configuration says.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return !inner.to_string().contains("certificate");
        }
        cause = inner.source();
    }
    error.is_closed() || error.to_string().contains("timeout")
}

/// An error with its causes.
fn whole(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The server's message without the values that it quotes: `invalid input syntax for type uuid: "..."`,
/// `value "..." is out of range`. What a function of the database says is its own and may hold anything.
fn without_values(code: &str, message: &str) -> String {
    match code.get(..2).unwrap_or_default() {
        "P0" => "a function of the database refused it".to_owned(),
        "22" => message.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "***" }).collect(),
        _ => message.split(": \"").next().unwrap_or_default().to_owned(),
    }
}

fn help(code: &str) -> &'static str {
    match code {
        "42P10" => "give the table a unique index on the sync's key: CREATE UNIQUE INDEX ON table (key)",
        "42501" => "grant the user of the `url` the right to do it",
        "28P01" | "28000" => "look at user and password in the `url`",
        "3D000" => "make the database, or name another in the `url`",
        "3F000" => "make the schema, or name another under `schema:`",
        _ => "look at the table and at the rights of the user of the `url`",
    }
}

/// Bytes of rows that cannot be made.
fn unwritable() -> String {
    "rows cannot be written for PostgreSQL".to_owned()
}

/// A foreign failure while rows are written.
fn or_unwritable<T, E: Into<Box<dyn std::error::Error + Send + Sync>>>(result: std::result::Result<T, E>) -> Result<T> {
    result.or_fail(ErrorKind::Data, unwritable)
}

/// Whether the changes themselves are columns.
fn has_changes(mode: SyncMode) -> bool {
    mode == SyncMode::Append
}
