//! How the hand-written client calls one HTTP server.

use std::net::SocketAddr;

use crate::Fallible;
use crate::ledger::{Charge, Receipt};
use crate::naive::{Naive, TIMEOUT};

#[derive(Clone)]
pub struct Server {
    http: reqwest::Client,
    address: SocketAddr,
}

pub fn client(servers: Vec<SocketAddr>) -> Fallible<Naive<Server>> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    Ok(Naive::new(servers.into_iter().map(|address| Server {
        http: http.clone(),
        address,
    })))
}

pub async fn attempt(server: Server, charge: Charge) -> Fallible<Receipt> {
    let url = format!("http://{}/charges", server.address);
    let reply = server.http.post(url).json(&charge).send().await?;
    Ok(reply.error_for_status()?.json().await?)
}
