//! A seal that is taken away, put in, or given another key.

use steadfast_tokio::{Seal, SealError};

use super::*;

/// A cipher, as far as this goes: another key does not open what this one sealed, nor does it open what nobody sealed.
#[derive(Clone, Copy)]
struct Cipher(u8);

impl Seal for Cipher {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok([0xC1, self.0].into_iter().chain(bytes.iter().map(|byte| byte ^ self.0)).collect())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [0xC1, by, rest @ ..] if *by == self.0 => Ok(rest.iter().map(|byte| byte ^ self.0).collect()),
            _ => Err("sealed by another key, or not at all".into()),
        }
    }
}

/// Seals with the first, and opens what any of them sealed, or nobody.
struct Ring(Vec<Cipher>);

impl Seal for Ring {
    fn seal(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0[0].seal(key, bytes)
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if sealed.first() != Some(&0xC1) {
            return Ok(sealed.to_vec());
        }
        let opened = self.0.iter().find_map(|cipher| cipher.open(key, sealed).ok());
        opened.ok_or_else(|| "no key for it".into())
    }
}

fn sealed(builder: Builder<Release, Upstream>, by: Option<impl Seal>) -> Builder<Release, Upstream> {
    let builder = builder.keep_payloads().keep_answers();
    match by {
        Some(seal) => builder.seal(seal),
        None => builder,
    }
}

/// What was sealed is told to nobody as if it were the provider's answer, and is sent to nobody as if it were a payload.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_as_not_kept_whichever_way_the_seal_was_changed() {
    let changes = [(Some(Cipher(1)), None), (None, Some(Cipher(1))), (Some(Cipher(1)), Some(Cipher(2)))];
    for (change, store) in changes.into_iter().flat_map(|change| Kept::both().map(|store| (change, store))) {
        let (before, now) = change;
        let what = (before.map(|cipher| cipher.0), now.map(|cipher| cipher.0));
        let upstream = first(&store, |builder| sealed(builder, before)).await;
        upstream.now(Mood::GoesOn);
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let builder = sealed(release(&store, &upstream), now).unclaimed(move |key, finished| {
            if key.as_str() == "ended" {
                hears.lock().unwrap().push(finished.answer.clone());
            }
        });
        let client = builder.start().await.unwrap();
        sleep(SECOND).await;
        assert!(told.lock().unwrap().is_empty(), "{what:?}: the hook");
        for name in ["ended", "delivered"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!((finished.outcome.name(), finished.answer), ("completed", None), "{what:?}: {name}");
            let finished = client.resume(key(name)).await.unwrap().await.unwrap();
            assert_eq!((finished.outcome.name(), finished.answer), ("completed", None), "{what:?}: {name}");
        }
        for name in ["planned", "in-flight"] {
            assert!(matches!(client.resume(key(name)).await, Err(ResumeError::PayloadNeeded)), "{what:?}: {name}");
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), "completed");
            assert_eq!(upstream.creates(name).last().unwrap(), PAYLOAD);
        }
        assert!(client.shutdown(SECOND).await.is_empty());

        // Nothing was lost: who can open it has it, or who puts the seal back.
        let ring = Ring(vec![Cipher(2), Cipher(1)]);
        let client = sealed(release(&store, &upstream), Some(ring)).start().await.unwrap();
        for name in ["ended", "delivered", "planned"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(finished.body(), format!("result of {name}").as_bytes(), "{what:?}: {name}");
        }
    }
}

/// The hook would file a result away without its body, and what it has taken is forgotten in time.
#[tokio::test(start_paused = true)]
async fn an_outcome_whose_answer_cannot_be_opened_waits_for_the_right_seal() {
    for store in Kept::both() {
        let upstream = first(&store, |builder| sealed(builder, Some(Cipher(1)))).await;
        upstream.now(Mood::GoesOn);
        for (seal, is_told) in [(None, false), (Some(Cipher(2)), false), (Some(Cipher(1)), true)] {
            let told = Arc::new(Mutex::new(Vec::new()));
            let hears = told.clone();
            let builder = sealed(release(&store, &upstream), seal).unclaimed(move |key, finished| {
                if key.as_str() == "ended" {
                    hears.lock().unwrap().push(finished.body().to_vec());
                }
            });
            let client = builder.start().await.unwrap();
            sleep(SECOND).await;
            let _ = client.shutdown(SECOND).await;
            let expected = if is_told { vec![b"result of ended".to_vec()] } else { Vec::new() };
            assert_eq!(*told.lock().unwrap(), expected);
            assert_eq!(matches!(stage(&store, "ended"), Stage::Delivered(_)), is_told);
        }
    }
}

/// A seal that knows the keys before it, and passes what nobody sealed, goes on with everything.
#[tokio::test(start_paused = true)]
async fn a_seal_that_knows_its_earlier_keys_goes_on_with_all_jobs() {
    for (before, store) in
        [None, Some(Cipher(1))].into_iter().flat_map(|before| Kept::both().map(|store| (before, store)))
    {
        let upstream = first(&store, |builder| sealed(builder, before)).await;
        upstream.now(Mood::GoesOn);
        let ring = Ring(vec![Cipher(2), Cipher(1)]);
        let client = sealed(release(&store, &upstream), Some(ring)).start().await.unwrap();
        for name in ["planned", "in-flight", "accepted", "ended", "delivered"] {
            let finished = client.resume(key(name)).await.unwrap().await.unwrap();
            assert_eq!(finished.body(), format!("result of {name}").as_bytes(), "{name}");
        }
        assert!(client.shutdown(SECOND).await.is_empty());
        let kept = store.clone().find(&key("planned")).unwrap().unwrap().answer.unwrap();
        assert!(kept.body.windows(2).any(|bytes| bytes == [0xC1, 2]), "what is new is sealed by the new key");
    }
}
