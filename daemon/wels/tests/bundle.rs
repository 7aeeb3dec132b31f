//! `wels bundle` from the first key to a rollback, as a person types it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::desk::Desk;

/// Two packs that differ, keys, and a list.
fn furnished() -> Desk {
    let desk = Desk::new();
    for (pack, gguf) in [("one.wels", "tiny-qwen2.q8_0.gguf"), ("two.wels", "tiny-llama.q4_0.gguf")] {
        fs::write(desk.path("m.gguf"), fixtures::read(&format!("gguf/{gguf}"))).unwrap();
        desk.json(&format!("import @m.gguf @{pack}"));
    }
    desk.json("bundle keygen --role root --name Root --out @root.key");
    desk.json("bundle keygen --role release --name Releases --out @release.key");
    desk.json("bundle keys @keys.json --root @root.key --release @release.key.pub");
    desk
}

fn create(desk: &Desk, pack: &str, image: &str, counter: u32) -> Value {
    let keys = "--key @release.key --keys @keys.json";
    desk.json(&format!("bundle create @{pack} --image @{image} --name tiny --counter {counter} {keys}"))
}

#[test]
fn from_the_first_key_to_a_rollback() {
    let desk = furnished();
    let one = create(&desk, "one.wels", "one.img", 1);
    create(&desk, "two.wels", "two.img", 2);
    assert!(desk.complaint("bundle verify @one.img").contains("believes nobody yet"));
    let trusted = desk.json("bundle trust @root.key.pub");
    assert_eq!(trusted["changed"], true);
    let verified = desk.json("bundle verify @one.img");
    assert_eq!((&verified["id"], &verified["signer"]["name"]), (&one["id"], &"Releases".into()));
    let preview = desk.json("bundle install @one.img --preview");
    assert_eq!((&preview["verdict"], &preview["name"]), (&"install".into(), &"tiny".into()));
    let first = desk.json("bundle install @one.img");
    assert_eq!(desk.json("bundle install @one.img")["installed"], false, "the same stick again");
    let second = desk.json("bundle install @two.img");
    assert_ne!(first["path"], second["path"]);
    assert!(desk.complaint("bundle install @one.img").contains("is older than"));
    let back = desk.json("bundle rollback");
    assert_eq!(back["path"], first["path"]);
    // What is installed is a pack like any other.
    let evaluated = desk.run(&format!("doctor --json --model {}", first["path"].as_str().unwrap()));
    assert!(String::from_utf8_lossy(&evaluated.stdout).contains("\"ok\""));
}

#[test]
fn a_secret_key_is_its_owners_and_never_overwritten() {
    let desk = Desk::new();
    desk.json("bundle keygen --role release --name Mine --out @a.key");
    assert_eq!(fs::metadata(desk.path("a.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        desk.complaint("bundle keygen --role release --name Mine --out @a.key").contains("never overwritten")
    );
    assert!(!fs::read_to_string(desk.path("a.key.pub")).unwrap().contains("secret"));
}

#[test]
fn a_developers_own_key_is_added_here_and_removed() {
    let desk = furnished();
    desk.json("bundle keygen --role release --name Developer --out @dev.key");
    desk.json("bundle create @one.wels --image @dev.img --name mine --counter 1 --key @dev.key");
    desk.json("bundle trust @root.key.pub");
    let refused = desk.complaint("bundle verify @dev.img");
    assert!(refused.contains("doesn't know") && refused.contains("wels bundle trust"), "{refused}");
    let fingerprint = desk.json("bundle info @dev.img")["fingerprint"].as_str().unwrap().to_owned();
    assert!(refused.contains(&fingerprint));
    let listed = desk.json("bundle trust @dev.key.pub");
    assert_eq!(listed["added"][0]["fingerprint"], fingerprint.as_str());
    desk.json("bundle verify @dev.img");
    desk.json(&format!("bundle trust --remove {}", fingerprint.replace(' ', "")));
    desk.complaint("bundle verify @dev.img");
}

#[test]
fn a_folder_and_an_image_are_one_bundle_and_are_written_alike() {
    let desk = furnished();
    let image = create(&desk, "one.wels", "one.img", 1);
    let folder =
        desk.json("bundle create @one.wels --folder @stick --name tiny --counter 1 --key @release.key --keys @keys.json");
    assert_eq!(image["id"], folder["id"]);
    let written = desk.json("bundle write @stick @written.img");
    assert_eq!(written["id"], image["id"]);
    assert!(desk.complaint("bundle write @stick @written.img").contains("exists already"));
    assert!(fs::read(desk.path("written.img")).unwrap() == fs::read(desk.path("one.img")).unwrap());
    desk.json("bundle sign @stick --key @release.key");
}

#[test]
fn a_delta_from_a_pack_or_a_bundle_carries_less() {
    let desk = furnished();
    create(&desk, "one.wels", "one.img", 1);
    for from in ["one.wels", "one.img"] {
        let line = format!(
            "bundle create @one.wels --image @{from}.delta --name tiny --counter 2 --delta-from @{from}"
        );
        let delta = desk.json(&line);
        assert_eq!(delta["carried_chunks"], 0, "all is there");
        assert!(delta["left_out_chunks"].as_u64() > Some(0));
    }
}

#[test]
fn what_is_no_pack_makes_no_bundle() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    assert!(
        desk.complaint("bundle create @empty --image @a.img --name a --counter 1").contains("wels import")
    );
    assert!(desk.complaint("bundle info @nowhere").contains("no bundle here"));
    assert!(!fs::exists(desk.path("a.img")).unwrap());
}
