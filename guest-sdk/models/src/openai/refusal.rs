//! Errors that servers tell: as JSON in one of several forms, as a page of HTML, as text, or not at all.

use std::time::Duration;

use serde_json::Value;

use crate::ChatError;
use crate::wire::{clip, page};

/// The error of an answer with a status that tells one.
pub(super) fn error(status: u16, body: &str, retry_after: Option<Duration>) -> ChatError {
    let told = serde_json::from_str(body).ok().as_ref().and_then(told);
    let (code, message) = told.unwrap_or_else(|| (String::new(), page(body)));
    ChatError::Status { status, code, message, retry_after }
}

/// The code and the message of an error object, as OpenAI has it (`error.message`), older vLLM (`object: "error"`), FastAPI
/// (`detail`), or Google (a list of one).
pub(super) fn told(value: &Value) -> Option<(String, String)> {
    if let Some(first) = value.as_array().and_then(|list| list.first()) {
        return told(first);
    }
    let error = match value.get("error") {
        Some(Value::Null) | None if value.get("object").is_some_and(|object| object == "error") => value,
        Some(Value::Null) | None if value.get("choices").is_some() => return None,
        Some(Value::Null) | None => return value.get("detail").map(|detail| (String::new(), text(detail))),
        Some(error) => error,
    };
    let Some(fields) = error.as_object() else { return Some((String::new(), text(error))) };
    let field = |name| fields.get(name).filter(|value| !value.is_null());
    let code = field("code").or(field("type")).map(text).unwrap_or_default();
    let message = field("message").or(field("detail")).map_or_else(|| text(error), text);
    Some((code, message))
}

/// The text of a value without its quotes.
fn text(value: &Value) -> String {
    clip(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(body: &str) -> (String, String) {
        match error(500, body, None) {
            ChatError::Status { code, message, .. } => (code, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn errors_have_many_forms() {
        let openai = r#"{"error":{"message":"no such model","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
        assert_eq!(facts(openai), ("model_not_found".into(), "no such model".into()));
        let untyped = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null}}"#;
        assert_eq!(facts(untyped), ("rate_limit_error".into(), "slow down".into()));
        let vllm = r#"{"object":"error","message":"too long","type":"BadRequestError","code":400}"#;
        assert_eq!(facts(vllm), ("400".into(), "too long".into()));
        let google = r#"[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]"#;
        assert_eq!(facts(google), ("429".into(), "quota".into()));
        assert_eq!(facts(r#"{"error":"model 'x' not found"}"#).1, "model 'x' not found");
        assert_eq!(facts(r#"{"detail":"Not Found"}"#).1, "Not Found");
        assert_eq!(facts(r#"{"detail":[{"loc":["body"]}]}"#).1, r#"[{"loc":["body"]}]"#);
    }

    #[test]
    fn page_is_told_by_its_title_or_its_beginning() {
        let nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>…</body></html>";
        assert_eq!(facts(nginx).1, "502 Bad Gateway");
        // A letter that grows in lower case does not move the title.
        assert_eq!(facts("İİ<TITLE>é</TITLE>").1, "é");
        assert_eq!(facts("upstream connect error").1, "upstream connect error");
        assert_eq!(facts(" ").1, "an empty page");
        assert_eq!(facts("null").1, "null");
        assert!(facts(&"x".repeat(10_000)).1.len() <= 800);
    }

    #[test]
    fn errors_that_do_not_pass_are_not_tried_again() {
        assert!(error(503, "", None).may_pass() && error(429, "", None).may_pass() && error(529, "", None).may_pass());
        assert!(!error(401, "", None).may_pass() && !error(400, "", None).may_pass());
        let quota = r#"{"error":{"message":"pay","type":"insufficient_quota"}}"#;
        assert!(!error(429, quota, None).may_pass());
    }
}
