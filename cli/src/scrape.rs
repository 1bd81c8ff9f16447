//! `--metrics`: serves the client's counts, for Prometheus to scrape or a person to look at.

use std::error::Error;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use steadfast_tokio::metrics::{MetricKind, TABLE};
use tokio::net::TcpListener;

/// How often samples are put into their buckets without a scrape, so that they do not pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Counts all clients that start from now on, and serves the counts at this address under `/metrics`, for as long as
/// the program runs. Returns the address; if the given port was 0, the system has chosen one.
pub(crate) async fn serve(address: SocketAddr) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("--metrics {address}: {error}; name a free port of this machine, or 0 for any"))?;
    let mut builder = PrometheusBuilder::new();
    for metric in TABLE.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
    }
    let handle = builder.install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    let scrape = move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()) };
    let bound = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, Router::new().route("/metrics", get(scrape))).into_future());
    Ok(bound)
}
