//! Subjects that each need a process of their own: what one leaves behind in an allocator, a runtime or a page table
//! must not be another's to pay.
//!
//! This program starts itself once for each subject and asks them in turns for a sample: a line in, a line of JSON out.
//! The first sample of each warms it up; its time does not count, and what the system then holds for the process does,
//! since that was never used before.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::measure::Row;

/// What one run of a subject cost, for each operation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub ns: f64,
    /// Processor time, where the other is the clock's.
    pub cpu_ns: f64,
    pub allocs: f64,
    /// By the allocator.
    pub bytes: f64,
    /// By the system, of memory in use (RSS).
    pub resident: f64,
}

/// What came of a subject's turns: the sample of the median time, with the first sample's memory in use.
pub struct Median {
    pub subject: &'static str,
    pub sample: Sample,
}

impl Median {
    pub fn row(&self, section: &'static str, case: &'static str) -> Row {
        let Sample { ns, allocs, bytes, .. } = self.sample;
        Row { section, case, subject: self.subject, ns_per_op: ns, allocs_per_op: allocs, bytes_per_op: bytes }
    }

    /// The same, with the processor's time instead of the clock's.
    pub fn cpu_row(&self, section: &'static str, case: &'static str) -> Row {
        Row { ns_per_op: self.sample.cpu_ns, ..self.row(section, case) }
    }

    /// The same, with the memory in use instead of what the allocator has given out.
    pub fn resident_row(&self, section: &'static str, case: &'static str) -> Row {
        Row { bytes_per_op: self.sample.resident, ..self.row(section, case) }
    }
}

/// Has the subjects of one case take so many turns that count.
pub fn take(section: &'static str, case: &'static str, subjects: &[&'static str], rounds: usize) -> Vec<Median> {
    let mut processes: Vec<_> = subjects.iter().map(|subject| Process::start(section, case, subject)).collect();
    let mut samples = vec![Vec::with_capacity(rounds + 1); subjects.len()];
    let shown = io::stderr().is_terminal();
    for round in 0..=rounds {
        for ((process, samples), subject) in processes.iter_mut().zip(&mut samples).zip(subjects) {
            if shown {
                eprint!("\r{section}: {case}, round {round} of {rounds}, {subject}        ");
                let _ = io::stderr().flush();
            }
            samples.push(process.sample());
        }
    }
    if shown {
        eprint!("\r{:100}\r", "");
    }
    let median = |(subject, mut samples): (&&'static str, Vec<Sample>)| {
        let resident = samples.remove(0).resident;
        samples.sort_by(|a, b| a.ns.total_cmp(&b.ns));
        Median { subject, sample: Sample { resident, ..samples[samples.len() / 2] } }
    };
    subjects.iter().zip(samples).map(median).collect()
}

/// In a subject's own process: a sample for each line that comes in, until there are no more.
pub fn serve(mut sample: impl FnMut() -> Sample) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        line?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&sample())?)?;
        out.flush()?;
    }
    Ok(())
}

/// A subject's process. Dropped, it has nothing more to read, and ends.
struct Process {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(section: &str, case: &str, subject: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(["subject", section, case, subject]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts again");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { asks: child.stdin.take(), answers, child }
    }

    fn sample(&mut self) -> Sample {
        writeln!(self.asks.as_mut().expect("it is piped"), "next").expect("the subject's process is there");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the subject's process is there");
        serde_json::from_str(&line).expect("the subject ran; why it did not is on stderr")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.wait();
    }
}
