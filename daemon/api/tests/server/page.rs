//! The embedded page (or its placeholder) and the headers around everything.

use crate::house::{House, Script};

#[tokio::test]
async fn the_page_is_revalidated_and_not_sent_twice() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let page = house.client.get("/").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let etag = page.header("etag").unwrap();
    assert!(etag.starts_with('"'), "strong");
    let again = house.client.with("If-None-Match", &format!("\"other\", {etag}")).get("/").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), Some(etag));
    let changed = house.client.with("If-None-Match", "\"other\"").get("/").await;
    assert_eq!(changed.status, 200);
}

#[tokio::test]
async fn a_view_is_the_page_and_a_missing_file_is_not() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let browser = house.client.with("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!(browser.get("/chat/7").await.body, house.client.get("/").await.body);
    assert_eq!(house.client.get("/assets/gone-12345678.js").await.error(), (404, "not_found".into()));
    assert_eq!(browser.get("/../../etc/passwd").await.body, house.client.get("/").await.body);
    assert_eq!(house.client.get("/../Cargo.toml").await.status, 404);
    assert_eq!(
        house.client.send("POST", "/", Some(Vec::new())).await.error(),
        (405, "method_not_allowed".into())
    );
}

#[tokio::test]
async fn every_answer_keeps_browsers_strict() {
    let (house, ada) = House::claimed(Script::says("Hi")).await;
    for path in ["/", "/api/state", "/v1/models", "/nowhere", "/healthz"] {
        let reply = ada.get(path).await;
        let csp = reply.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(csp.contains(part), "{path}: {csp}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert!(reply.header("access-control-allow-origin").is_none());
    }
    let state = house.client.get("/api/state").await;
    assert_eq!(state.header("cache-control"), Some("no-store"), "never from a cache");
}

#[tokio::test]
async fn a_built_page_is_sent_compressed_to_whoever_takes_it() {
    let house = House::unclaimed(Script::says("Hi")).await;
    let plain = house.client.get("/").await;
    let is_placeholder = plain.text().contains("has not been built");
    for (accepted, wanted) in
        [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip"), ("identity", "")]
    {
        let reply = house.client.with("Accept-Encoding", accepted).get("/").await;
        let wanted = Some(wanted).filter(|wanted| !wanted.is_empty() && !is_placeholder);
        assert_eq!(reply.header("content-encoding"), wanted, "{accepted}");
        assert_eq!(reply.header("etag") == plain.header("etag"), wanted.is_none(), "{accepted}");
        assert_eq!(reply.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(house.client.get("/index.html.br").await.status, 404);
}
