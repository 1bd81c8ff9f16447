//! The parent's side: one life of the child, from its start to its end.

use std::io::{Error, ErrorKind, Result};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout_at};

use super::books::Told;
use super::{Adapter, Moment};
use crate::connect::Connect;

/// How long the child waits at its end for the last commits.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// A life ends this long after the child was ready, if the planned moment does not come.
const LONGEST: Duration = Duration::from_secs(1);

/// The settings that the child is sent first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) adapter: Adapter,
    pub(super) connect: Connect,
}

/// A report of the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its client has started: what the journal held is taken up.
    Ready,
    /// A submit returned: the job's intent is durable.
    Taken(u64),
    /// A job has ended.
    Ended(u64, Told),
    /// A submit, or waiting for a job, failed.
    Refused(u64, String),
    /// This many jobs were unfinished when all had ended.
    Left(u64),
}

impl Line {
    /// `None` for lines that are not the drill's, such as a test harness's own, and for an incomplete line.
    fn parse(line: &str) -> Option<Self> {
        let (what, rest) = line.strip_suffix(" .")?.split_once(' ').unwrap_or((line.strip_suffix(" .")?, ""));
        let (number, more) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(match what {
            "ready" => Self::Ready,
            "taken" => Self::Taken(number.parse().ok()?),
            "ended" => {
                let mut parts = more.split(' ').map(str::to_owned);
                Self::Ended(
                    number.parse().ok()?,
                    Told { outcome: parts.next()?, reference: parts.next()?, answer: parts.next()? },
                )
            }
            "refused" => Self::Refused(number.parse().ok()?, more.to_owned()),
            "left" => Self::Left(number.parse().ok()?),
            _ => return None,
        })
    }
}

pub(super) struct Life {
    process: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    started: Instant,
    silence: Duration,
}

impl Life {
    /// Starts the child and sends its settings.
    pub(super) async fn start(command: Command, settings: &Settings, silence: Duration) -> Result<Self> {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let (Some(orders), Some(lines)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Error::other("the child has no pipes"));
        };
        let lines = BufReader::new(lines).lines();
        let mut life = Self { process, orders, lines, started: Instant::now(), silence };
        let mut settings = serde_json::to_string(settings)?;
        settings.push('\n');
        life.order(&settings).await?;
        Ok(life)
    }

    /// Writing to a dead child is not an error here: its death shows in its reports.
    async fn order(&mut self, text: &str) -> Result<()> {
        match self.orders.write_all(text.as_bytes()).await {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn hand_out(&mut self, numbers: Vec<u64>) -> Result<()> {
        let orders: String = numbers.into_iter().map(|number| format!("{number}\n")).collect();
        self.order(&orders).await
    }

    /// Listens until the moment has come, kills the child, and reads what it had reported before.
    pub(super) async fn until(mut self, moment: Moment, mut hear: impl FnMut(Line)) -> Result<()> {
        let (mut heard, mut due) = (0, self.started + self.silence);
        if let Moment::Started(after) = moment {
            due = self.started + after;
        }
        // A life that is to end after a number of lines ends with the last of them.
        while !matches!(moment, Moment::Heard(lines) if lines <= heard) {
            let Ok(line) = timeout_at(due, self.lines.next_line()).await else { break };
            let Some(line) = line? else { return Err(self.ended_by_itself().await) };
            match (Line::parse(&line), moment) {
                (Some(Line::Ready), Moment::Ready(after)) => due = Instant::now() + after,
                (Some(Line::Ready), Moment::Heard(_)) => due = Instant::now() + LONGEST,
                (Some(Line::Taken(_) | Line::Ended(..)), _) => heard += 1,
                _ => {}
            }
            Line::parse(&line).into_iter().for_each(&mut hear);
        }
        self.process.start_kill()?;
        let status = self.process.wait().await?;
        // A pipe keeps what was written to it.
        while let Some(line) = self.lines.next_line().await? {
            Line::parse(&line).into_iter().for_each(&mut hear);
        }
        if was_killed(status) { Ok(()) } else { Err(Error::other(format!("the child ended by itself: {status}"))) }
    }

    /// Listens until the child has nothing more to do, and ends.
    pub(super) async fn until_it_ends(mut self, mut hear: impl FnMut(Line)) -> Result<()> {
        self.order(".\n").await?;
        let Self { mut process, orders, mut lines, silence, .. } = self;
        let mut orders = Some(orders);
        loop {
            let Ok(line) = timeout_at(Instant::now() + silence, lines.next_line()).await else {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("the child has told nothing for {silence:?}: it hangs"),
                ));
            };
            let Some(line) = line? else { break };
            let line = Line::parse(&line);
            if let Some(Line::Left(_)) = line {
                // It still listens for orders; dropping the input ends them.
                orders = None;
            }
            line.into_iter().for_each(&mut hear);
        }
        drop(orders);
        let status = process.wait().await?;
        if status.success() { Ok(()) } else { Err(Error::other(format!("the child failed: {status}"))) }
    }

    async fn ended_by_itself(mut self) -> Error {
        match self.process.wait().await {
            Ok(status) => Error::other(format!("the child ended by itself: {status}")),
            Err(error) => error,
        }
    }
}

#[cfg(unix)]
fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGKILL)
}

#[cfg(not(unix))]
fn was_killed(status: ExitStatus) -> bool {
    !status.success()
}
