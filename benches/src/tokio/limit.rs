//! The limit: one task and a calendar of milliseconds, written for this schedule and nothing else. No keys, no
//! references, no records, no machines.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::model::{Answer, Waits, answer};

/// More milliseconds than any wait has.
const DAYS: usize = 2_048;

#[derive(Clone, Copy, Default)]
struct Job {
    requests: u8,
    pending: u8,
    failures: u8,
}

pub async fn limit(count: u32, waits: Waits, all_begun: impl FnOnce()) {
    assert!(waits.cap() < Duration::from_millis(DAYS as u64 - 1));
    let began = Instant::now();
    let mut jobs = vec![Job::default(); count as usize];
    let mut calendar = vec![Vec::new(); DAYS];
    let (mut live, mut day) = (count, 0);
    calendar[0].extend(0..count);
    let mut all_begun = Some(all_begun);
    while live > 0 {
        let mut due: Vec<u32> = std::mem::take(&mut calendar[day % DAYS]);
        for number in due.drain(..) {
            let job = &mut jobs[number as usize];
            job.requests += 1;
            let seed = u64::from(number) << 8 | u64::from(job.requests);
            let wait = match answer(number, u32::from(job.requests)) {
                Ok(Answer::Ready) => {
                    live -= 1;
                    continue;
                }
                Ok(answer) => {
                    job.pending += u8::from(answer == Answer::Pending);
                    job.failures = 0;
                    waits.before_poll(u32::from(job.pending), seed)
                }
                Err(_) => {
                    job.failures += 1;
                    waits.before_repeat(u32::from(job.failures), seed)
                }
            };
            calendar[(day + 1 + wait.as_millis() as usize) % DAYS].push(number);
        }
        if let Some(all_begun) = all_begun.take() {
            all_begun();
        }
        calendar[day % DAYS] = due;
        day += 1;
        while live > 0 && calendar[day % DAYS].is_empty() {
            day += 1;
        }
        sleep_until(began + Duration::from_millis(day as u64)).await;
    }
}
