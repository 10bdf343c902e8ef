//! Logins and tokens.

use base64::Engine as _;
use serde_json::json;

use crate::image::Content;
use crate::server::{Answer, Request, Server};
use crate::store::Place;

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn challenge(request: &Request) -> Answer {
    let host = request.header("host").unwrap();
    let words = format!(
        r#"Bearer realm="http://{host}/token",service="the registry",scope="repository:team/app:pull""#
    );
    Answer::new(401, "").with("WWW-Authenticate", words)
}

/// A registry that gives tokens, each good for `uses` requests; `is_known` judges who asks for one.
fn with_tokens(uses: usize, is_known: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Server {
    let content = Content::image(&[1000, 2000, 3000]);
    let given = std::sync::Mutex::new((0, 0));
    Server::new(move |request, _| {
        let mut given = given.lock().unwrap();
        if request.path.starts_with("/token") {
            if !is_known(request) {
                return Answer::new(401, "");
            }
            *given = (given.0 + 1, 0);
            return Answer::new(200, json!({"token": format!("t{}", given.0), "expires_in": 60}).to_string());
        }
        let good = request.header("authorization") == Some(&format!("Bearer t{}", given.0)[..]);
        if !good || given.1 >= uses {
            return challenge(request);
        }
        given.1 += 1;
        content.answer(request)
    })
}

#[test]
fn a_token_is_asked_for_and_used() {
    let server = with_tokens(100, |request| request.header("authorization").is_none());
    let place = Place::new();
    place.pull(&format!("{}/team/app", server.host())).unwrap();
    let asked = server.asked("/token");
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].path.contains("service=the%20registry") || asked[0].path.contains("service=the+registry"),
        "{}",
        asked[0].path
    );
    assert!(asked[0].path.contains("repository"), "{}", asked[0].path);
}

#[test]
fn a_token_that_ended_is_renewed() {
    // Two requests each: manifest and config, then layers from three threads.
    let server = with_tokens(2, |_| true);
    let place = Place::new();
    let pulled = place.pull(&format!("{}/team/app", server.host())).unwrap();
    place.assert_has(&pulled, 3);
    assert!(server.asked("/token").len() >= 2);
}

#[test]
fn logins_are_sent_to_the_token_server() {
    let wanted = format!("Basic {}", encoded("me:secret"));
    let server = with_tokens(100, move |request| request.header("authorization") == Some(&wanted));
    let mut place = Place::new();
    let name = format!("{}/team/app", server.host());
    let error = place.pull(&name).unwrap_err();
    assert!(error.contains("without a login"), "{error}");
    place.log_in(&server.host(), &json!({"auth": encoded("me:wrong")}));
    let error = place.pull(&name).unwrap_err();
    assert!(error.contains("login was refused") && !error.contains("wrong"), "{error}");
    place.assert_untouched();
    place.log_in(&server.host(), &json!({"auth": encoded("me:secret")}));
    place.pull(&name).unwrap();
    let elsewhere =
        |request: &Request| request.header("authorization").is_some_and(|one| one.starts_with("Basic"));
    assert!(server.requests().iter().filter(|one| elsewhere(one)).all(|one| one.path.starts_with("/token")));
}

#[test]
fn identity_tokens_are_posted() {
    let server = with_tokens(100, |request| {
        request.method == "POST"
            && request.body.contains("grant_type=refresh_token")
            && request.body.contains("refresh_token=from-login")
    });
    let mut place = Place::new();
    place.log_in(&server.host(), &json!({"auth": encoded("<token>:"), "identitytoken": "from-login"}));
    place.pull(&format!("{}/team/app", server.host())).unwrap();
}

#[test]
fn basic_logins() {
    let content = Content::image(&[1000]);
    let wanted = format!("Basic {}", encoded("me:secret"));
    let server = Server::new(move |request, _| {
        if request.header("authorization") == Some(&wanted) {
            return content.answer(request);
        }
        Answer::new(401, "").with("WWW-Authenticate", r#"Basic realm="x""#)
    });
    let mut place = Place::new();
    let name = format!("{}/a", server.host());
    let error = place.pull(&name).unwrap_err();
    assert!(error.contains("podman login"), "{error}");
    place
        .log_in(&server.host(), &json!({"username": "me", "password": "wrong", "auth": encoded("me:wrong")}));
    let error = place.pull(&name).unwrap_err();
    assert!(error.contains("access denied"), "{error}");
    assert!(server.asked("/manifests/").len() < 10, "refusal is not tried again and again");
    place.log_in(&server.host(), &json!({"auth": encoded("me:secret")}));
    let pulled = place.pull(&name).unwrap();
    place.assert_has(&pulled, 1);
}

#[test]
fn a_challenge_that_is_not_known_is_told() {
    let server = Server::new(|_, _| Answer::new(401, "").with("WWW-Authenticate", "Negotiate"));
    let error = Place::new().pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("does not say how to log in"), "{error}");
}
