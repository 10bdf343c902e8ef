//! Registries that send us elsewhere: the blob comes, the login stays.

use base64::Engine as _;
use serde_json::json;

use crate::image::Content;
use crate::server::{Answer, Server};
use crate::store::Place;

#[test]
fn the_login_does_not_go_where_a_redirection_leads() {
    let content = Content::image(&[300_000, 1000]);
    let elsewhere = content.clone();
    // The other one breaks off too, so that the range goes along.
    let cdn = Server::new(move |request, before| {
        let answer = elsewhere.answer(request);
        if before == 0 { answer.cut(500) } else { answer }
    });
    let to = cdn.host();
    let wanted = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("me:secret"));
    let known = wanted.clone();
    let server = Server::new(move |request, _| {
        if request.header("authorization") != Some(&known) {
            return Answer::new(401, "").with("WWW-Authenticate", "Basic");
        }
        match request.path.strip_prefix("/v2/a/blobs/") {
            Some(digest) => Answer::new(307, "").with("Location", format!("/moved/{digest}")),
            None => match request.path.strip_prefix("/moved/") {
                Some(digest) => Answer::new(302, "").with("Location", format!("http://{to}/{digest}")),
                None => content.answer(request),
            },
        }
    });
    let mut place = Place::new();
    let login = wanted.strip_prefix("Basic ").unwrap();
    place.log_in(&server.host(), &json!({"auth": login}));
    let pulled = place.pull(&format!("{}/a", server.host())).unwrap();
    place.assert_has(&pulled, 2);
    assert!(!cdn.requests().is_empty());
    assert!(cdn.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(server.asked("/moved/").iter().all(|request| request.header("authorization") == Some(&wanted)));
    assert!(cdn.requests().iter().any(|request| request.range() == Some(500)));
}

#[test]
fn circles_end() {
    let server = Server::new(|request, _| {
        if request.path == "/v2/" {
            Answer::new(200, "")
        } else {
            Answer::new(302, "").with("Location", request.path.clone())
        }
    });
    let error = Place::new().pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("302"), "{error}");
    assert_eq!(server.asked("/manifests/").len(), 11);
}

#[test]
fn a_redirection_to_a_file_is_none() {
    for location in ["file:///etc/passwd", "gopher://x/", ""] {
        let server = Server::new(move |request, _| {
            if request.path == "/v2/" {
                Answer::new(200, "")
            } else {
                Answer::new(302, "").with("Location", location)
            }
        });
        let error = Place::new().pull(&format!("{}/a", server.host())).unwrap_err();
        assert!(error.contains("redirected"), "{error}");
    }
}

// A challenge of somebody else's must not make us send them the login.
#[test]
fn others_challenges_are_not_answered() {
    let cdn = Server::new(|_, _| Answer::new(401, "").with("WWW-Authenticate", "Basic"));
    let to = cdn.host();
    let content = Content::image(&[1000]);
    let server = Server::new(move |request, _| {
        if request.path.contains("/blobs/") {
            Answer::new(302, "").with("Location", format!("http://{to}/x"))
        } else {
            content.answer(request)
        }
    });
    let mut place = Place::new();
    let login = base64::engine::general_purpose::STANDARD.encode("me:secret");
    place.log_in(&server.host(), &json!({"auth": login}));
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("access denied"), "{error}");
    assert!(cdn.requests().iter().all(|request| request.header("authorization").is_none()));
    place.assert_untouched();
}
