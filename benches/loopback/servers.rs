//! The servers, on a thread of their own: nothing that they do is on the client's.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    pin::Pin,
    thread,
};

use bytes::Bytes;
use futures::Stream;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Builder};
use tonic::{
    Request, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::echo::{
    Message,
    echo_server::{Echo, EchoServer},
};

/// Where the servers listen: two of each kind.
pub(super) struct Servers {
    pub(super) http: [SocketAddr; 2],
    pub(super) grpc: [SocketAddr; 2],
}

/// Starts them; they live as long as the program.
pub(super) fn start() -> Servers {
    let listeners = || [listener(), listener()];
    let (http, grpc) = (listeners(), listeners());
    let addresses = |listeners: &[StdListener; 2]| {
        [0, 1].map(|index| listeners[index].local_addr().expect("it is bound"))
    };
    let servers = Servers {
        http: addresses(&http),
        grpc: addresses(&grpc),
    };
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be had").block_on(async {
            for listener in http {
                tokio::spawn(serve_http(
                    TcpListener::from_std(listener).expect("it is nonblocking"),
                ));
            }
            for listener in grpc {
                tokio::spawn(serve_grpc(
                    TcpListener::from_std(listener).expect("it is nonblocking"),
                ));
            }
            std::future::pending::<()>().await;
        });
    });
    servers
}

fn listener() -> StdListener {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("an open socket");
    listener
}

async fn serve_http(listener: TcpListener) {
    let answer = service_fn(async |_request| {
        let body = Full::new(Bytes::from_static(b"the answer of 23 B long"));
        Ok::<_, Infallible>(Response::new(body))
    });
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("an open socket");
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn serve_grpc(listener: TcpListener) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .add_service(EchoServer::new(Echoing))
        .serve_with_incoming(incoming);
    served.await.expect("it serves as long as the program runs");
}

struct Echoing;

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Echoing {
    type RepeatStream = Messages;
    type ChatStream = Messages;

    async fn unary(&self, request: Request<Message>) -> Result<tonic::Response<Message>, Status> {
        Ok(tonic::Response::new(request.into_inner()))
    }

    async fn collect(
        &self,
        _: Request<Streaming<Message>>,
    ) -> Result<tonic::Response<Message>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }

    async fn repeat(&self, _: Request<Message>) -> Result<tonic::Response<Messages>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }

    async fn chat(
        &self,
        _: Request<Streaming<Message>>,
    ) -> Result<tonic::Response<Messages>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }
}
