//! Connections that break, servers that are overloaded, pulls that are stopped.

use crate::image::Content;
use crate::server::{Answer, Server};
use crate::store::Place;

#[test]
fn a_broken_blob_goes_on_where_it_broke() {
    let content = Content::image(&[300_000, 1000, 200_000]);
    let layers = content.layers.clone();
    let server = Server::new(move |request, before| {
        let answer = content.answer(request);
        // Each connection gives 70,000 bytes, the first of all none.
        if request.path.contains("/blobs/") {
            answer.cut(if before == 0 { 0 } else { 70_000 })
        } else {
            answer
        }
    });
    let place = Place::new();
    let pulled = place.pull(&format!("{}/a/b", server.host())).unwrap();
    place.assert_has(&pulled, 3);
    let ranges: Vec<Option<usize>> = server.asked(&layers[0]).iter().map(|request| request.range()).collect();
    assert_eq!(ranges, [None, None, Some(70_000), Some(140_000), Some(210_000), Some(280_000)]);
}

#[test]
fn without_ranges_it_is_read_again() {
    let content = Content::image(&[300_000]);
    let layer = content.layers[0].clone();
    let server = Server::new(move |request, before| {
        let mut plain = request.clone();
        plain.headers.retain(|(name, _)| name != "range");
        let answer = content.answer(&plain);
        // The second breaks in what we have already.
        let cut = [100_000, 50_000, 200_000].get(before);
        cut.filter(|_| request.path.contains("/blobs/")).map_or(answer.clone(), |cut| answer.cut(*cut))
    });
    let place = Place::new();
    let pulled = place.pull(&format!("{}/a", server.host())).unwrap();
    place.assert_has(&pulled, 1);
    assert_eq!(server.asked(&layer).len(), 4);
}

#[test]
fn a_server_that_never_gives_all_is_given_up() {
    let content = Content::image(&[300_000]);
    let server = Server::new(move |request, _| {
        let answer = content.answer(request);
        let is_layer = answer.body.len() > 100_000;
        if is_layer && request.range().unwrap_or(0) < 100_000 {
            answer.cut(100_000)
        } else {
            answer.cut(if is_layer { 0 } else { usize::MAX })
        }
    });
    let place = Place::new();
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("layer"), "{error}");
    place.assert_untouched();
    assert_eq!(place.downloads().len(), 1, "what came is kept");
}

#[test]
fn another_part_than_asked_for_is_not_taken() {
    let content = Content::image(&[300_000]);
    let server = Server::new(move |request, before| match (content.answer(request), request.range()) {
        (answer, Some(_)) => Answer {
            headers: vec![("Content-Range".to_owned(), "bytes 999999-1000000/1000001".to_owned())],
            ..answer
        },
        (answer, None) if before == 0 && request.path.contains("/blobs/") => answer.cut(50_000),
        (answer, None) => answer,
    });
    let place = Place::new();
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("not the part"), "{error}");
    place.assert_untouched();
}

#[test]
fn a_pull_that_was_killed_goes_on() {
    let content = Content::image(&[300_000, 5000]);
    let (layer, blob) = (content.layers[0].clone(), content.blobs[&content.layers[0]].clone());
    let server = Server::new(move |request, _| content.answer(request));
    let place = Place::new();
    place.seed(&layer, &blob[..123_456]);
    let pulled = place.pull(&format!("{}/a", server.host())).unwrap();
    place.assert_has(&pulled, 2);
    let ranges: Vec<Option<usize>> = server.asked(&layer).iter().map(|request| request.range()).collect();
    assert_eq!(ranges, [Some(123_456)]);
    // All of it is here: the registry is not asked at all.
    let place = Place::new();
    place.seed(&layer, &blob);
    place.pull(&format!("{}/a", server.host())).unwrap();
    assert_eq!(server.asked(&layer).len(), 1);
}

#[test]
fn a_damaged_download_is_thrown_away() {
    let content = Content::image(&[300_000]);
    let (layer, mut blob) = (content.layers[0].clone(), content.blobs[&content.layers[0]].clone());
    blob[60_000] ^= 1;
    let server = Server::new(move |request, _| content.answer(request));
    for part in [100_000, blob.len()] {
        let place = Place::new();
        place.seed(&layer, &blob[..part]);
        let pulled = place.pull(&format!("{}/a", server.host())).unwrap();
        place.assert_has(&pulled, 1);
    }
}

#[test]
fn overload_is_waited_for_and_refusal_is_not() {
    let content = Content::image(&[1000]);
    let server = Server::new(move |request, before| match before {
        0 if request.path != "/v2/" => Answer::new(503, ""),
        1 if request.path != "/v2/" => Answer::new(429, "").with("Retry-After", "0"),
        _ => content.answer(request),
    });
    let place = Place::new();
    place.pull(&format!("{}/a", server.host())).unwrap();
    assert_eq!(server.asked("/manifests/latest").len(), 3);
    let server =
        Server::new(
            |request, _| if request.path == "/v2/" { Answer::new(200, "") } else { Answer::new(500, "") },
        );
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(error.contains("500"), "{error}");
    assert_eq!(server.asked("/manifests/latest").len(), 6);
    let server = Server::new(|_, _| {
        Answer::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no \u001b[31mred"}]}"#)
    });
    let error = place.pull(&format!("{}/a", server.host())).unwrap_err();
    assert!(
        error.contains("not found") && error.contains("NAME_UNKNOWN") && !error.contains('\u{1b}'),
        "{error}"
    );
    assert_eq!(server.asked("/manifests/latest").len(), 1);
}

#[test]
fn a_pull_can_be_stopped_while_nothing_comes() {
    let content = Content::image(&[300_000, 1000]);
    let server = Server::new(move |request, _| {
        let answer = content.answer(request);
        if answer.body.len() > 100_000 { Answer { stall: true, ..answer.cut(50_000) } } else { answer }
    });
    let place = Place::new();
    let name = format!("{}/a", server.host());
    let error = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| place.pull(&name));
        while place.downloads().is_empty() {
            std::thread::yield_now();
        }
        place.cancel.cancel();
        pulling.join().unwrap().unwrap_err()
    });
    assert!(error.contains("interrupted"), "{error}");
    place.assert_untouched();
    assert!(!place.downloads().is_empty());
}
