use crate::scenario::Scenario; pub(crate) fn all() -> Vec<Scenario> { Vec::new() }
