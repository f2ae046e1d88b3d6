//! What a layer does to requests, responses and bodies.

use super::*;

#[test]
fn what_a_layer_does_to_a_request_or_a_response_is_found() {
    let headers = Plain::new(|inner, mut request: Request<Body>| {
        *request.headers_mut() = HeaderMap::new();
        forward(inner, request)
    });
    assert_breaks(Contract::PassesCalls, Suite::new(headers));
    let body =
        Plain::new(|inner, request: Request<Body>| forward(inner, request.map(|_| Body::empty())));
    assert_breaks(Contract::PassesCalls, Suite::new(body));
    let collected = Plain::new(|inner, request: Request<Body>| async {
        let (parts, body) = request.into_parts();
        let whole = Body::from(body.collect().await?.to_bytes());
        forward(inner, Request::from_parts(parts, whole)).await
    });
    assert_breaks(Contract::PassesCalls, Suite::new(collected));
    let status = Plain::new(|inner, request| async {
        let mut answer = forward(inner, request).await?;
        *answer.status_mut() = StatusCode::OK;
        Ok(answer)
    });
    assert_breaks(Contract::PassesCalls, Suite::new(status));
}

/// What a layer may do to a body.
#[derive(Clone, Copy)]
enum Harm {
    NoTrailers,
    NoErrors,
    WrongEnd,
    WrongLength,
}

struct Harmed(ScriptedBody, Harm);

impl HttpBody for Harmed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(match (frame, self.1) {
            (Some(Ok(frame)), Harm::NoTrailers) if frame.is_trailers() => None,
            (Some(Err(_)), Harm::NoErrors) => None,
            (frame, _) => frame.map(|frame| frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.1, Harm::WrongEnd) || self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.1 {
            Harm::WrongLength => SizeHint::with_exact(1),
            _ => self.0.size_hint(),
        }
    }
}

#[test]
fn what_a_layer_does_to_a_body_is_found() {
    for harm in [
        Harm::NoTrailers,
        Harm::NoErrors,
        Harm::WrongEnd,
        Harm::WrongLength,
    ] {
        let fault = Plain::new(move |mut inner: Scripted, request| async move {
            let answer = inner.call(request).await?;
            Ok(answer.map(|body| Harmed(body, harm).boxed_unsync()))
        });
        assert_breaks(Contract::PassesBodies, Suite::new(fault));
    }
}
