//! `[policy]`, `[gate]` and `[[limits]]`: the core's own settings, under the core's own names and checks.

use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Kind, OperationPolicy, SendSafety};

use super::ProfileError;
use super::file::{Place, Table, Value};

/// The policy, and the place of its safety in the file.
pub(super) fn policy(root: &Table<'_>) -> Result<(OperationPolicy, Place), ProfileError> {
    let Some(value) = root.get("policy") else { return Ok((OperationPolicy::default(), root.place().clone())) };
    let policy: OperationPolicy = value.setting()?;
    let place = value.table()?.get("safety").map_or_else(|| value.place().clone(), |safety| safety.place().clone());
    Ok((policy, place))
}

/// Refuses a safety that the profile's requests cannot provide.
pub(super) fn check_safety(
    safety: SendSafety,
    place: &Place,
    bears_key: bool,
    has_lookup: bool,
) -> Result<(), ProfileError> {
    match safety {
        SendSafety::Keyed { .. } if !bears_key => place.refuse(
            "is keyed, and no create carries the key: say where it goes in [create.key], or with {key} in the request",
        ),
        SendSafety::Lookup { .. } if !has_lookup => {
            place.refuse("is lookup, and there is no [lookup]: write that request, or choose another safety")
        }
        _ => Ok(()),
    }
}

pub(super) fn gate(root: &Table<'_>) -> Result<GatePolicy, ProfileError> {
    let gate: GatePolicy = root.get("gate").map_or_else(|| Ok(GatePolicy::default()), |value| value.setting())?;
    let Some(limits) = root.get("limits") else { return Ok(gate) };
    limits.list()?.iter().try_fold(gate, |gate, value| Ok(gate.with_rate_limit(limit(value)?)))
}

fn limit(value: &Value<'_>) -> Result<RateLimit, ProfileError> {
    let table = value.table()?;
    let count = table.need("count", "how many requests")?;
    let per = table.need("per", "in how much time, such as \"60s\"")?;
    let (burst, kinds) = (table.get("burst"), table.get("kinds"));
    table.finish()?;
    let rate = RatePolicy::new(whole(&count)?, per.duration()?).or_else(|error| value.refuse(error.to_string()))?;
    let rate = match burst {
        Some(burst) => rate.with_burst(whole(&burst)?).or_else(|error| burst.refuse(error.to_string()))?,
        None => rate,
    };
    let words = [("create", Kind::Create), ("lookup", Kind::Lookup), ("poll", Kind::Poll)];
    let kinds = match kinds {
        Some(kinds) => {
            let those = kinds.list()?.iter().map(|kind| kind.word(&words)).collect::<Result<Vec<_>, _>>()?;
            if those.is_empty() {
                return kinds.refuse("is an empty list: leave it out for all kinds");
            }
            Kinds::of(&those)
        }
        None => Kinds::ALL,
    };
    Ok(RateLimit { kinds, rate })
}

fn whole(value: &Value<'_>) -> Result<u32, ProfileError> {
    match value.as_integer().map(u32::try_from) {
        Some(Ok(number)) => Ok(number),
        _ => value.refuse("is no whole number from 1 to 4294967295"),
    }
}
