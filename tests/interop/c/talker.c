// The talker in C: see tests/interop/README.md for what it does.
//
// wit-bindgen c WIT --world agent
// clang --target=wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-debug -o core.wasm talker.c steps.c agent.c agent_component_type.o
// wasm-tools component new core.wasm --adapt wasi_snapshot_preview1.reactor.wasm -o agent.wasm
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "steps.h"

#define TOPIC "lk.chat"
// Between two parts of an answer, and before a greeting.
#define PACE_MS 10
#define PATIENCE_MS 2000

typedef wasm_worker_agent_types_participant_t participant_t;
typedef wasm_worker_agent_events_text_message_t text_message_t;

// A text that grows.
struct text {
  char *chars;
  size_t len;
};

static uint32_t checksums[256];
// The lines of what was said.
static struct text history;
// The call that joins the room.
static uint32_t joining;
// Nothing is heard after the end.
static bool is_over;

// The answer that is being spoken, while there is a stream.
static struct {
  uint32_t stream;
  struct text said;
  // All but the full stop, and what is left of it.
  char *words;
  const char *next;
  bool is_said;
} answer;

static agent_string_t string(const char *chars) {
  agent_string_t string;
  agent_string_set(&string, chars);
  return string;
}

static bool is(agent_string_t string, const char *chars) {
  return string.len == strlen(chars) && memcmp(string.ptr, chars, string.len) == 0;
}

static void append(struct text *text, const char *chars, size_t len) {
  text->chars = realloc(text->chars, text->len + len + 1);
  assert(text->chars != NULL);
  memcpy(text->chars + text->len, chars, len);
  text->len += len;
  text->chars[text->len] = '\0';
}

static void appendf(struct text *text, const char *format, ...) {
  va_list words;
  va_start(words, format);
  char *chars;
  int len = vasprintf(&chars, format, words);
  va_end(words);
  assert(len >= 0);
  append(text, chars, (size_t)len);
  free(chars);
}

static void empty(struct text *text) {
  free(text->chars);
  *text = (struct text){NULL, 0};
}

static void send(const char *chars) {
  agent_string_t topic = string(TOPIC), text = string(chars);
  wasm_worker_agent_room_send_options_t options = {0};
  wasm_worker_agent_room_send_text(&topic, &text, &options);
}

static void greet(void *subject) {
  struct text *greeting = subject;
  send(greeting->chars);
  empty(greeting);
  free(greeting);
}

static void welcome(const participant_t *who) {
  uint32_t checksum = UINT32_MAX;
  for (size_t i = 0; i < who->identity.len; i++) {
    checksum = checksum >> 8 ^ checksums[(checksum & 0xff) ^ who->identity.ptr[i]];
  }
  agent_string_t name = who->name.len > 0 ? who->name : who->identity;
  struct text *greeting = calloc(1, sizeof *greeting);
  assert(greeting != NULL);
  appendf(greeting, "Welcome, %.*s (%08x).", (int)name.len, (const char *)name.ptr, ~checksum);
  if (!steps_after(PACE_MS, "greet", greet, greeting)) greet(greeting);
}

static void end_answer(bool interrupted) {
  agent_tuple2_string_string_t mark = {string("interrupted"), string("true")};
  wasm_worker_agent_room_attributes_t attributes = {&mark, interrupted ? 1 : 0};
  wasm_worker_agent_room_close_stream(answer.stream, &attributes);
  appendf(&history, "%sagent: %s%s", history.len > 0 ? "\n" : "", answer.said.chars, interrupted ? " (interrupted)" : "");
  agent_tuple2_string_f64_t letters = {string("letters"), (double)answer.said.len};
  wasm_worker_agent_usage_model_usage_t usage = {string("llm"), string("none"), string("echo"), {&letters, 1}};
  wasm_worker_agent_usage_add(&usage);
  answer.stream = 0;
  empty(&answer.said);
  free(answer.words);
  answer.words = NULL;
}

// Write one part, a word or the full stop, and the next one later.
static void speak(void *subject) {
  if (answer.is_said) {
    end_answer(false);
    return;
  }
  answer.is_said = *answer.next == '\0';
  const char *part = answer.is_said ? "." : answer.next;
  size_t len = answer.is_said ? 1 : 1 + strcspn(part + 1, " ");
  if (!answer.is_said) answer.next += len;
  agent_string_t text = {(uint8_t *)part, len};
  wasm_worker_agent_room_write_text(answer.stream, &text);
  append(&answer.said, part, len);
  bool is_set = steps_after(PACE_MS, "answer", speak, subject);
  assert(is_set);
}

static void ask(void *subject) { send("Anything else?"); }

static void begin_answer(const text_message_t *message) {
  agent_string_t topic = string(TOPIC);
  wasm_worker_agent_room_send_options_t options = {0};
  options.reply_to = message->info.stream_id;
  answer.stream = wasm_worker_agent_room_open_text(&topic, &options);
  struct text words = {NULL, 0};
  appendf(&words, "You said: %.*s", (int)message->text.len, (const char *)message->text.ptr);
  answer.next = answer.words = words.chars;
  answer.is_said = false;
  speak(NULL);
}

static void roll(void) {
  agent_list_u8_t bytes;
  wasm_worker_agent_job_random(sizeof(uint32_t), &bytes);
  uint32_t number;
  memcpy(&number, bytes.ptr, sizeof number);
  agent_list_u8_free(&bytes);
  char text[32];
  snprintf(text, sizeof text, "dice %u", number);
  send(text);
}

// End the answer and the wait for more to hear.
static void interrupt(void) {
  steps_clear(speak);
  steps_clear(ask);
  if (answer.stream != 0) end_answer(true);
}

static void finish(void) {
  interrupt();
  send("Goodbye.");
  wasm_worker_agent_job_result_void_string_t outcome = {.is_err = false};
  wasm_worker_agent_job_finish(&outcome);
  is_over = true;
}

static void hear(const text_message_t *message) {
  interrupt();
  if (is(message->text, "bye")) {
    finish();
    return;
  }
  if (is(message->text, "stop")) {
    send("Stopped.");
  } else if (is(message->text, "history")) {
    send(history.chars != NULL ? history.chars : "");
  } else if (is(message->text, "dice")) {
    roll();
  } else if (is(message->text, "fail")) {
    assert(!"a bug in the agent");
  } else {
    agent_string_t sender = message->info.sender.is_some ? message->info.sender.val : string("");
    appendf(&history, "%s%.*s: %.*s", history.len > 0 ? "\n" : "", (int)sender.len, (const char *)sender.ptr,
            (int)message->text.len, (const char *)message->text.ptr);
    begin_answer(message);
  }
  steps_after(PATIENCE_MS, "silence", ask, NULL);
}

static void start(void) {
  agent_tuple2_string_string_t field = {string("language"), string("c")};
  wasm_worker_agent_job_attributes_t fields = {&field, 1};
  wasm_worker_agent_job_set_log_fields(&fields);
  joining = wasm_worker_agent_room_connect();
}

bool exports_agent_prewarm(agent_string_t *error) {
  for (uint32_t value = 0; value < 256; value++) {
    checksums[value] = value;
    for (int bit = 0; bit < 8; bit++) checksums[value] = checksums[value] >> 1 ^ (checksums[value] & 1 ? 0xedb88320 : 0);
  }
  return true;
}

void exports_agent_decide(agent_job_info_t *offer, agent_decision_t *decision) {
  assert(!is(offer->metadata, "fail") || !"a bug in decide");
  agent_tuple2_string_string_t *attribute = calloc(1, sizeof *attribute);
  assert(attribute != NULL);
  agent_string_dup(&attribute->f0, "language");
  agent_string_dup(&attribute->f1, "c");
  *decision = (agent_decision_t){.tag = WASM_WORKER_AGENT_TYPES_DECISION_ACCEPT};
  agent_string_dup(&decision->val.accept.name, "Talker");
  decision->val.accept.attributes = (wasm_worker_agent_types_attributes_t){attribute, 1};
  wasm_worker_agent_types_job_info_free(offer);
}

void exports_agent_resume(double now_ms, agent_list_event_t *batch) {
  steps_begin(now_ms);
  for (size_t i = 0; i < batch->len && !is_over; i++) {
    const agent_event_t *event = &batch->ptr[i];
    switch (event->tag) {
      case WASM_WORKER_AGENT_EVENTS_EVENT_STARTED:
        start();
        break;
      case WASM_WORKER_AGENT_EVENTS_EVENT_PARTICIPANT_JOINED:
        if (event->val.participant_joined.kind == WASM_WORKER_AGENT_TYPES_PARTICIPANT_KIND_STANDARD) {
          welcome(&event->val.participant_joined);
        }
        break;
      case WASM_WORKER_AGENT_EVENTS_EVENT_TEXT:
        hear(&event->val.text);
        break;
      case WASM_WORKER_AGENT_EVENTS_EVENT_FAILED:
        // Without a room there is nothing to do.
        if (event->val.failed.id == joining) finish();
        break;
      case WASM_WORKER_AGENT_EVENTS_EVENT_SHUTDOWN_REQUESTED:
        finish();
        break;
      case WASM_WORKER_AGENT_EVENTS_EVENT_TASKS_WANTED:
        steps_report();
        break;
      default:
        break;
    }
  }
  if (!is_over) steps_end();
  agent_list_event_free(batch);
}
