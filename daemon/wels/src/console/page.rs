//! What is on the screen: 80 columns, 24 lines.

use std::net::IpAddr;

use serde::Serialize;
use update::{Progress, Step};

use super::qr;
use crate::appliance::{BoxState, ModelState, UpdateState};

const COLUMNS: usize = 80;
const LINES_MAX: usize = 24;

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Facts {
    /// Absent while the daemon is not up.
    pub(super) daemon: Option<BoxState>,
    pub(super) host: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) fell_back: Option<String>,
}

/// The screen, with Chinese beside the English where the screen has the letters.
pub(super) fn page(facts: &Facts, chinese: bool) -> String {
    let say = |english: &str, other: &str| {
        if chinese { format!("{english} / {other}") } else { english.to_owned() }
    };
    let version = facts.daemon.as_ref().map_or("", |daemon| daemon.version.as_str());
    let mut text = vec![format!("Wels {version}"), String::new()];
    text.push(say("Open in a browser:", "在浏览器中打开："));
    text.push(format!("  http://{}.local", facts.host));
    text.extend(facts.addresses.iter().map(|address| format!("  {}", url(address))));
    if facts.addresses.is_empty() {
        text.push(say("  No address yet: is the cable in?", "尚无地址，请检查网线"));
    }
    text.push(String::new());
    match &facts.daemon {
        None => text.push(say("Starting ...", "正在启动……")),
        Some(daemon) => text.extend(told(daemon, say)),
    }
    if let Some(reason) = &facts.fell_back {
        text.push(say("The last update was taken back:", "上次更新已撤销："));
        text.push(format!("  {reason}"));
    }
    beside(
        &qr::lines(&facts.addresses.first().map_or_else(|| format!("http://{}.local", facts.host), url)),
        &text,
    )
}

/// What the daemon says of itself.
fn told(daemon: &BoxState, say: impl Fn(&str, &str) -> String + Copy) -> Vec<String> {
    let mut text = Vec::new();
    if let Some(code) = &daemon.claim_code {
        text.push(say("Code that makes it yours:", "认领码："));
        text.extend([format!("  {code}"), String::new()]);
    } else if let Some(code) = &daemon.recovery_code {
        text.push(say("Code for a new password:", "重设密码的恢复码："));
        text.extend([format!("  {code}"), String::new()]);
    }
    match &daemon.model {
        ModelState::None => {
            text.push(say("No model: plug in a stick with one", "请插入模型 U 盘"));
        }
        ModelState::Ready { name } => {
            text.extend([format!("{} {name}", say("Model:", "模型：")), say("All is well", "运行正常")]);
        }
        ModelState::Failed { reason } => {
            text.extend([say("The model cannot be served:", "模型无法使用："), format!("  {reason}")]);
        }
    }
    text.extend(update(&daemon.update, say));
    text
}

/// What came on a stick, and what is done with it.
fn update(state: &UpdateState, say: impl Fn(&str, &str) -> String) -> Vec<String> {
    let mut text = Vec::new();
    match &state.progress {
        Some(progress) if progress.error.is_some() => {
            let reason = progress.error.as_ref().map_or("", |failure| failure.message.as_str());
            text.extend([say("It did not work:", "未成功："), format!("  {reason}")]);
        }
        Some(progress) => {
            text.push(format!("{}: {}", progress.title, step(progress, &say)));
            if progress.stick_may_go && progress.step != Step::Done {
                text.push(say("The stick may be pulled out", "可以拔出 U 盘"));
            }
            if progress.stalled {
                text.push(say("Nothing has moved for a while", "已有一段时间没有进展"));
            }
        }
        None => {}
    }
    if let Some(stick) = state.stick.as_ref().filter(|_| state.progress.is_none()) {
        text.extend([say("A stick (more on the page):", "U 盘（详见网页）："), format!("  {stick}")]);
    }
    text
}

/// What is being done, and how far it is.
fn step(progress: &Progress, say: impl Fn(&str, &str) -> String) -> String {
    let words = match progress.step {
        Step::Prepare => say("making room", "准备空间"),
        Step::Copy => say("copying", "正在复制"),
        Step::Check => say("checking", "正在校验"),
        Step::Settle => say("settling", "正在整理"),
        Step::Test => say("testing", "正在测试"),
        Step::Switch => say("switching", "正在切换"),
        Step::Done => say("done", "完成"),
    };
    match (progress.bytes_done * 100).checked_div(progress.bytes_total) {
        Some(percent) if progress.step != Step::Done => format!("{words}, {percent} %"),
        _ => words,
    }
}

fn url(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("http://{v4}"),
        IpAddr::V6(v6) => format!("http://[{v6}]"),
    }
}

/// The code at the left, the text beside it; what does not fit is cut.
fn beside(code: &[String], text: &[String]) -> String {
    let width = code.first().map_or(0, |line| line.chars().count());
    let mut page = String::new();
    for at in 0..code.len().max(text.len()).min(LINES_MAX - 1) {
        let left = code.get(at).map_or("", String::as_str);
        let right = cut(text.get(at).map_or("", String::as_str), COLUMNS - width - 2);
        page.push_str(format!("{left:width$}  {right}").trim_end());
        page.push('\n');
    }
    page
}

/// The beginning of `text` that fits.
fn cut(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += columns_of(*letter);
        taken <= columns
    };
    text.chars().map(printable).take_while(fits).collect()
}

/// Chinese letters are as wide as two others.
fn columns_of(letter: char) -> usize {
    if ('\u{2e80}'..='\u{ffdc}').contains(&letter) { 2 } else { 1 }
}

/// A model's name may hold anything; the screen obeys control characters.
fn printable(letter: char) -> char {
    if letter.is_control() { ' ' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(model: ModelState) -> Facts {
        let daemon = BoxState::new("wels".into(), Some("ABCD-EFGH".into()), model);
        let addresses = vec!["10.0.2.15".parse().unwrap()];
        Facts { daemon: Some(daemon), host: "wels".into(), addresses, fell_back: None }
    }

    #[test]
    fn an_unclaimed_box_shows_address_and_code() {
        let page = page(&facts(ModelState::Ready { name: "SmolLM2".into() }), false);
        for words in ["http://wels.local", "http://10.0.2.15", "ABCD-EFGH", "Model: SmolLM2"] {
            assert!(page.contains(words), "{words}\n{page}");
        }
        assert!(
            page.lines().count() < LINES_MAX
                && page.lines().all(|line| line.chars().map(columns_of).sum::<usize>() <= COLUMNS),
            "{page}"
        );
    }

    #[test]
    fn a_claimed_box_shows_no_code() {
        let mut facts = facts(ModelState::None);
        facts.daemon.as_mut().unwrap().claim_code = None;
        let page = page(&facts, true);
        assert!(!page.contains("ABCD") && !page.contains("认领"), "{page}");
        assert!(page.contains("plug in a stick") && page.contains("请插入模型 U 盘"), "{page}");
    }

    #[test]
    fn a_recovery_code_is_shown_once_the_box_is_claimed() {
        let mut facts = facts(ModelState::None);
        facts.daemon.as_mut().unwrap().recovery_code = Some("JKLM-NPQR".into());
        assert!(!page(&facts, true).contains("JKLM-NPQR"));
        facts.daemon.as_mut().unwrap().claim_code = None;
        let page = page(&facts, true);
        for words in ["JKLM-NPQR", "Code for a new password: / 重设密码的恢复码："] {
            assert!(page.contains(words), "{words}\n{page}");
        }
    }

    #[test]
    fn a_name_cannot_command_the_screen() {
        let page = page(&facts(ModelState::Failed { reason: "\x1b[2Jgone".repeat(50) }), false);
        assert!(!page.contains('\x1b'), "{page:?}");
        assert!(page.lines().all(|line| line.chars().map(columns_of).sum::<usize>() <= COLUMNS), "{page}");
    }
}
