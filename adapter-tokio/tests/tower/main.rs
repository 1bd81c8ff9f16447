//! The layers for tower's services, in virtual time.

mod busy;
mod contract;
mod gate;
mod line;
mod overload;
mod peers;
mod retry;
mod storm;
mod support;
