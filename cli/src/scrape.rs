//! `--metrics`: what the client counts, served for Prometheus to scrape, or for a person to look at.

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

/// How often samples are put into their buckets when nobody scrapes, so that they do not pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// From now on, clients that start are counted, and the counts are at this address under `/metrics`, for as long as the program runs. Gives the address, which has a
/// port of the system's choice if that was 0.
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
