//! The driver, turned by hand in virtual time, over a store whose work is done when the test says so.

mod cancel;
mod commits;
mod in_doubt;
mod restart;
mod shutdown;
mod status;
mod support;
mod unclaimed;
mod webhooks;
